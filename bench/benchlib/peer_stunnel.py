"""stunnel: a thread for each session."""

from .contestant import CIPHER, Contestant


class Stunnel(Contestant):
    name, title = "stunnel", "stunnel"

    def _start(self, side, service):
        return ["stunnel4", self.write(f"{side}.conf", f"""
foreground = yes
pid =
syslog = no
debug = err
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
[chain]
sslVersion = TLSv1.3
ciphersuites = {CIPHER}
{service}
""")]

    def start_target(self):
        child = self.run_target(*self._start("target", f"""
accept = {self.place.target_ip}:{self.target_port}
connect = 127.0.0.1:{self.backend_port}
cert = {self.place.cert}
key = {self.place.key}"""))
        self.wait_listening(child, self.target_port)
        return child

    def start_agent(self):
        child = self.run_agent(*self._start("agent", f"""
client = yes
accept = 127.0.0.1:{self.router_port}
connect = {self.place.target_ip}:{self.target_port}
CAfile = {self.place.cert}
verifyChain = yes"""))
        self.wait_listening(child, self.router_port)
        return child

    @classmethod
    def programs(cls, place):
        return ["/usr/bin/stunnel4"]
