# SPDX-License-Identifier: Apache-2.0
"""OpenBGPD as a router or as the daemon behind the target."""

import contextlib
import json
import re
import tempfile
from pathlib import Path

from . import paths
from .ports import free_port
from .proc import run
from .router import NEXT_HOP, Router
from .wait import wait_for

BGPD = "/usr/sbin/bgpd"
HOME = Path("/run/openbgpd")  # where it chroots to; its systemd unit would have made the folder


class OpenBgpd(Router):
    """`networks`: prefixes to announce. Its parent process needs root for privilege separation."""

    exit_codes = None

    def __init__(self, workdir, peers, networks=(), *, router_id="10.255.0.4", netns=None, listen_port=None, listen=(),
                 name="openbgpd"):
        self.peers = {p.name: p for p in peers}
        self.networks = list(networks)
        self.router_id = router_id
        self.listen_port = listen_port or free_port()
        self.listen = list(listen) or sorted({p.local for p in peers})
        super().__init__(name, [BGPD, "-d", "-v", "-f", f"{name}.conf"], workdir, netns=netns, cwd=workdir)
        self.socket = self.workdir / f"{name}.ctl"
        config = self.workdir / f"{name}.conf"
        config.write_text(self._config())
        config.chmod(0o600)

    def _config(self):
        asn = next(iter(self.peers.values())).asn
        lines = [f"AS {asn}", f"router-id {self.router_id}", "fib-update no", "log updates", f'socket "{self.socket}"']
        lines += [f"listen on {a} port {self.listen_port}" for a in self.listen]
        lines += [f"network {n}" for n in self.networks]
        for p in self.peers.values():
            lines += [f"neighbor {p.neighbor} {{", f"  descr {p.name}", f"  remote-as {p.neighbor_asn}",
                      f"  local-address {p.local}", f"  holdtime {p.hold_time}", "  multihop 64" if p.asn != p.neighbor_asn
                      else "", f"  port {p.port}" if p.port else "  passive",
                      "  announce IPv6 unicast" if p.ipv6 else "  announce IPv4 unicast",
                      "  announce IPv4 none" if p.ipv6 else "  announce IPv6 none", "}"]
        # "no-modify": to an external neighbour more than a hop away it would still put in its own address
        lines += ["allow from any", f"match to any inet set nexthop {NEXT_HOP['ipv4']}",
                  f"match to any inet6 set nexthop {NEXT_HOP['ipv6']}", "allow to any set nexthop no-modify"]
        return "\n".join(lines) + "\n"

    def start(self):
        # Several tests run at a time: an entry of each keeps the folder, and the last one removes it.
        self._made_home = not HOME.exists() or any(HOME.glob("kbgp-test-*"))
        self._entry = wait_for(self._enter_home, f"an entry in {HOME}")
        return super().start()

    @staticmethod
    def _enter_home():
        HOME.mkdir(mode=0o755, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # removed just now by a test that ended
            return Path(tempfile.mkdtemp(prefix="kbgp-test-", dir=HOME))

    def __exit__(self, exc_type, exc, tb):
        try:
            super().__exit__(exc_type, exc, tb)
        finally:
            with contextlib.suppress(OSError):
                self._entry.rmdir()
                if self._made_home:
                    HOME.rmdir()

    def wait_ready(self):
        def answers():
            self.assert_running()
            return self._ctl("show").returncode == 0

        wait_for(answers, f"{self.name} answering bgpctl")

    def _ctl(self, *words):
        return run([paths.find("bgpctl"), "-s", self.socket, *words], netns=self.netns)

    def ctl(self, *words):
        result = self._ctl(*words)
        assert result.returncode == 0, f"bgpctl {' '.join(words)}: {result.stdout}{result.stderr}"
        return result.stdout

    def neighbor(self, name):
        def look():  # right after the start bgpctl answers, and knows no neighbors yet
            return json.loads(self.ctl("-j", "show", "neighbor", self.peers[name].neighbor)).get("neighbors")

        return wait_for(look, f"{self.name} knowing its neighbor {name}")[0]

    def established(self, name):
        return self.neighbor(name)["state"] == "Established"

    def count(self, name):
        return self.neighbor(name)["stats"]["prefixes"]["received"]

    def withdraw(self, *prefixes):
        for p in prefixes:
            self.ctl("network", "delete", p)

    def announce(self, *prefixes):
        for p in prefixes:
            self.ctl("network", "add", p)

    def prefixes(self, family="ipv4"):
        shown = json.loads(self.ctl("-j", "show", "rib", family))
        return {route["prefix"] for route in shown.get("rib", [])}

    def enable(self, name):
        self.ctl("neighbor", self.peers[name].neighbor, "up")

    def shutdown_seen(self, name, text):
        who = rf"neighbor {re.escape(self.peers[name].neighbor)} \({name}\): received"
        said = rf'\n{who} shutdown reason: "{re.escape(text)}"' if text else ""
        return re.search(rf"{who} notification: Cease, administratively down{said}", self.stderr())

    def disable(self, name, text=None):
        self.ctl("neighbor", self.peers[name].neighbor, "down", *([text] if text else []))
