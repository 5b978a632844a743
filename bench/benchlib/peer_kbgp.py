"""kbgp and kbgp-target, as they come."""

import subprocess
import urllib.error
import urllib.request

from .build import BenchError, run
from .chain import router_address
from .contestant import Contestant, free_port

EMAIL = "bench@example.com"
ADDRESSES_A_DEVICE = 16


def inventory(place, routers):
    """An inventory with the load's first `routers` sources as devices. Returns the account's token."""
    program, db = place.build / "kbgp-target", place.folder / "inventory.db"
    done = subprocess.run([program, "account", "add", EMAIL, "--db", db], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"kbgp-target account add: {done.stderr}")
    for first in range(0, routers, ADDRESSES_A_DEVICE):
        addresses = []
        for i in range(first, min(first + ADDRESSES_A_DEVICE, routers)):
            addresses += ["--address", router_address(i)]
        run([program, "device", "add", f"r{first}", *addresses, "--db", db])
    return done.stdout.strip()


class Kbgp(Contestant):
    name, title = "kbgp", "kbgp"
    token = None  # of `inventory`
    variant = "."  # where in the build its programs are

    def __init__(self, place):
        super().__init__(place)
        self.agent_pages, self.target_pages = free_port(), free_port()

    def _page(self, namespace, port, path):
        url = f"http://127.0.0.1:{port}{path}"
        if namespace:
            done = subprocess.run(namespace.inside("curl", "-sf", "--max-time", "10", url), stdout=subprocess.PIPE, text=True,
                                  check=False)
            return done.stdout if done.returncode == 0 else ""
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.read().decode()
        except (urllib.error.URLError, OSError):
            return ""

    def start_target(self):
        child = self.run_target(
            self.program(self.place, "kbgp-target"), "serve", "--db", self.place.folder / "inventory.db", "--listen",
            f"{self.place.target_ip}:{self.target_port}", "--tls-cert", self.place.cert, "--tls-key", self.place.key,
            "--metrics-port", self.target_pages, "--backend", f"tcp://127.0.0.1:{self.backend_port}", "--log-level", "warn")
        self.wait_listening(child, self.target_port)
        return child

    def start_agent(self):
        child = self.run_agent(
            self.program(self.place, "kbgp"), "--email", EMAIL, "--target", f"{self.place.target_ip}:{self.target_port}", "--ca-file",
            self.place.cert, "--listen", f"127.0.0.1:{self.router_port}", "--metrics-port", self.agent_pages, "--log-level",
            "warn", "--disable-log-export", env={"KENTIK_API_TOKEN": self.token, "NO_PROXY": "*"})
        self.wait_until(child, lambda: '"Connected":true' in self._page(self.place.agent_ns, self.agent_pages, "/admin/status"))
        return child

    @classmethod
    def program(cls, place, name):
        return place.build / cls.variant / name

    @classmethod
    def programs(cls, place):
        return [cls.program(place, "kbgp")]


class KbgpOpenssl(Kbgp):
    """Built without IPsec-MB: what kbgp is where OpenSSL's AES-GCM is used, as the others use it. No peer of kbgp."""

    name, title = "kbgp-openssl", "kbgp, OpenSSL's AES"
    variant = "openssl"
    options = ("-Dipsec_mb=disabled",)
