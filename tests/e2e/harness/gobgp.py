# SPDX-License-Identifier: Apache-2.0
"""GoBGP as a router or as the daemon behind the target."""

import json

from . import paths
from .ports import free_port
from .proc import run
from .router import Router
from .wait import DEADLINE, wait_for


class GoBgp(Router):
    """Peers are all told both address families unless `families` is "own"."""

    def __init__(self, workdir, peers, *, router_id="10.255.0.2", netns=None, listen_port=None, listen=(), name="gobgpd",
                 families="own"):
        self.peers = {p.name: p for p in peers}
        self.router_id = router_id
        self.families = families
        self.listen_port = listen_port if listen_port is not None else -1
        self.listen_addresses = list(listen)
        self.api_port = free_port()
        super().__init__(name, [paths.find("gobgpd"), "-f", f"{name}.toml", "-t", "toml", "--api-hosts",
                                f"127.0.0.1:{self.api_port}", "--log-plain", "--pprof-disable", "-l", "debug"],
                         workdir, netns=netns, cwd=workdir)
        self.config = self.workdir / f"{name}.toml"
        self.config.write_text(self._config())

    def _config(self):
        asn = next(iter(self.peers.values())).asn
        lines = ["[global.config]", f"as = {asn}", f'router-id = "{self.router_id}"', f"port = {self.listen_port}"]
        if self.listen_addresses:
            lines.append(f"local-address-list = {json.dumps(self.listen_addresses)}")
        for p in self.peers.values():
            lines += ["[[neighbors]]", "[neighbors.config]", f'neighbor-address = "{p.neighbor}"',
                      f"peer-as = {p.neighbor_asn}", "[neighbors.transport.config]", f'local-address = "{p.local}"']
            lines += [f"remote-port = {p.port}"] if p.port else ["passive-mode = true"]
            lines += ["[neighbors.timers.config]", "connect-retry = 5", f"hold-time = {p.hold_time}",
                      f"keepalive-interval = {p.hold_time // 3}", "idle-hold-time-after-reset = 2"]
            if p.asn != p.neighbor_asn:
                lines += ["[neighbors.ebgp-multihop.config]", "enabled = true", "multihop-ttl = 64"]
            families = ["ipv6" if p.ipv6 else "ipv4"] if self.families == "own" else ["ipv4", "ipv6"]
            for f in families:
                lines += ["[[neighbors.afi-safis]]", "[neighbors.afi-safis.config]", f'afi-safi-name = "{f}-unicast"']
        return "\n".join(lines) + "\n"

    def wait_ready(self):
        def answers():
            self.assert_running()
            return self._ctl("global").returncode == 0

        wait_for(answers, f"{self.name} answering on its API")

    def _ctl(self, *words):
        return run([paths.find("gobgp"), "-p", str(self.api_port), *words], netns=self.netns)

    def ctl(self, *words):
        """gobgp's output; it must succeed."""
        result = self._ctl(*words)
        assert result.returncode == 0, f"gobgp {' '.join(words)}: {result.stdout}{result.stderr}"
        return result.stdout

    def neighbor(self, name):
        return json.loads(self.ctl("-j", "neighbor", self.peers[name].neighbor))

    def established(self, name):
        return self.neighbor(name)["state"].get("session_state") in (6, "ESTABLISHED")

    def announce(self, *prefixes):
        for p in prefixes:
            self.ctl("global", "rib", "add", p, *(["-a", "ipv6"] if ":" in p else []))

    def withdraw(self, *prefixes):
        for p in prefixes:
            self.ctl("global", "rib", "del", p, *(["-a", "ipv6"] if ":" in p else []))

    def prefixes(self, family="ipv4"):
        """The prefixes of the table, own and learned."""
        return set(json.loads(self.ctl("-j", "global", "rib", "-a", family) or "{}"))

    def wait_prefixes(self, wanted, family="ipv4", timeout=DEADLINE):
        wait_for(lambda: self.prefixes(family) == set(wanted), f"{self.name}: the {len(wanted)} prefixes", timeout,
                 interval=0.3)

    def disable(self, name):
        """Administrative shutdown of a session, which stays down; GoBGP sends no text with this one."""
        self.ctl("neighbor", self.peers[name].neighbor, "disable")

    def shutdown(self, name, text):
        """Administrative shutdown with a text for the neighbour (RFC 8203); the session comes back by itself."""
        self.ctl("neighbor", self.peers[name].neighbor, "shutdown", "--reason", text)

    def enable(self, name):
        self.ctl("neighbor", self.peers[name].neighbor, "enable")
