"""nginx, its stream module: one worker. As it is, and with buffers of 64 KiB."""

import resource

from .contestant import CIPHER, Contestant

MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"


class Nginx(Contestant):
    name, title = "nginx", "nginx"
    tuning = ""

    def _start(self, side, listen, server):
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        path = self.write(f"{side}.conf", f"""
load_module {MODULE};
worker_processes 1;
worker_rlimit_nofile {descriptors};
daemon off;
pid {self.folder}/{side}.pid;
error_log stderr error;
events {{ worker_connections {descriptors - 100}; }}
stream {{
    server {{
        listen {listen};
        proxy_timeout 1h;
        {self.tuning}
        {server}
    }}
}}
""")
        return ["nginx", "-p", self.folder, "-e", "stderr", "-c", path]

    def start_target(self):
        child = self.run_target(*self._start("target", f"{self.place.target_ip}:{self.target_port} ssl backlog=4096", f"""
        ssl_certificate {self.place.cert};
        ssl_certificate_key {self.place.key};
        ssl_protocols TLSv1.3;
        ssl_conf_command Ciphersuites {CIPHER};
        proxy_pass 127.0.0.1:{self.backend_port};"""))
        self.wait_listening(child, self.target_port)
        return child

    def start_agent(self):
        child = self.run_agent(*self._start("agent", f"127.0.0.1:{self.router_port} backlog=4096", f"""
        proxy_pass {self.place.target_ip}:{self.target_port};
        proxy_ssl on;
        proxy_ssl_protocols TLSv1.3;
        proxy_ssl_conf_command Ciphersuites {CIPHER};
        proxy_ssl_verify on;
        proxy_ssl_trusted_certificate {self.place.cert};
        proxy_ssl_name target;"""))
        self.wait_listening(child, self.router_port)
        return child

    @classmethod
    def programs(cls, place):
        return ["/usr/sbin/nginx", MODULE]


class Nginx64(Nginx):
    name, title = "nginx64", "nginx 64 KiB"
    tuning = "proxy_buffer_size 64k;"
