"""HAProxy: TCP in, TLS out, and the other way round. As it is, and with buffers of 64 KiB."""

import resource

from .contestant import CIPHER, Contestant


class HAProxy(Contestant):
    name, title = "haproxy", "HAProxy"
    tuning = ""

    def _start(self, side, bind, server):
        # Two descriptors a session.
        most = min((resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 500) // 2, 20000)
        return ["haproxy", "-db", "-f", self.write(f"{side}.cfg", f"""
global
    nbthread 1
    maxconn {most}
    ssl-default-bind-ciphersuites {CIPHER}
    ssl-default-server-ciphersuites {CIPHER}
    {self.tuning}
defaults
    mode tcp
    timeout connect 30s
    timeout client 1h
    timeout server 1h
frontend in
    bind {bind}
    default_backend out
backend out
    server s {server}
""")]

    def start_target(self):
        pem = self.write("both.pem", self.place.cert.read_text() + self.place.key.read_text())
        child = self.run_target(*self._start("target", f"{self.place.target_ip}:{self.target_port} ssl crt {pem} "
                                             "ssl-min-ver TLSv1.3", f"127.0.0.1:{self.backend_port}"))
        self.wait_listening(child, self.target_port)
        return child

    def start_agent(self):
        child = self.run_agent(*self._start("agent", f"127.0.0.1:{self.router_port}",
                                            f"{self.place.target_ip}:{self.target_port} ssl verify required "
                                            f"ca-file {self.place.cert} ssl-min-ver TLSv1.3"))
        self.wait_listening(child, self.router_port)
        return child

    @classmethod
    def programs(cls, place):
        return ["/usr/sbin/haproxy"]


class HAProxy64(HAProxy):
    name, title = "haproxy64", "HAProxy 64 KiB"
    tuning = "tune.bufsize 65536"
