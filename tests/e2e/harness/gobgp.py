# SPDX-License-Identifier: Apache-2.0
"""GoBGP as a router or as the daemon behind the target."""

import ipaddress
import json
import os
import re
import struct

from . import paths
from .ports import free_port
from .proc import Program, run
from .router import NEXT_HOP, Router
from .wait import DEADLINE, wait_for


class GoBgp(Router):
    """
    Peers are all told both address families unless `families` is "own". `networks`: prefixes to announce from the beginning;
    `many`: more of them, which cannot be withdrawn.
    """

    def __init__(self, workdir, peers, networks=(), many=(), *, router_id="10.255.0.2", netns=None, listen_port=None,
                 listen=(), name="gobgpd", families="own"):
        self.peers = {p.name: p for p in peers}
        self.networks, self.many = list(networks), list(many)
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
                      f"peer-as = {p.neighbor_asn}", *([f'auth-password = "{p.password}"'] if p.password else []),
                      "[neighbors.transport.config]", f'local-address = "{p.local}"']
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
        self.announce(*self.networks)
        if self.many:
            self.announce_many(self.many)

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

    def announce_many(self, prefixes):
        """
        The same for many prefixes, from an MRT file: a call of gobgp for each would take half a minute. The file is a pipe
        that stays open until all are there, for gobgp ends at its end without waiting for what it has sent. GoBGP takes the
        prefixes for learned ones: withdraw() finds none of them.
        """
        for last in (False, False, True):
            # On a busy machine `gobgp mrt inject` now and then stands still before the end. What it is told twice it has once.
            if self._inject(prefixes, 60 if last else 20, must=last):
                return

    def _inject(self, prefixes, timeout, must):
        family = "ipv6" if ":" in prefixes[0] else "ipv4"
        path = self.workdir / f"{self.name}.mrt"
        os.mkfifo(path)
        gobgp = Program("gobgp", [paths.find("gobgp"), "-p", str(self.api_port), "mrt", "inject", "global", path],
                        self.workdir, netns=self.netns)

        def opened():
            gobgp.assert_running()
            try:
                return os.fdopen(os.open(path, os.O_WRONLY | os.O_NONBLOCK), "wb")
            except OSError:  # nobody reads it yet
                return None

        try:
            with gobgp:
                with wait_for(opened, "gobgp opening its MRT file") as pipe:
                    os.set_blocking(pipe.fileno(), True)
                    pipe.write(_table_dump(prefixes))
                    pipe.flush()
                    wait_for(lambda: set(prefixes) <= self.prefixes(family), f"{self.name} having taken its MRT file",
                             timeout)
                gobgp.wait_exit()
            return True
        except AssertionError:
            if must:
                raise
            return False
        finally:
            path.unlink()

    def withdraw(self, *prefixes):
        for p in prefixes:
            self.ctl("global", "rib", "del", p, *(["-a", "ipv6"] if ":" in p else []))

    def prefixes(self, family="ipv4"):
        return set(json.loads(self.ctl("-j", "global", "rib", "-a", family) or "{}"))

    def disable(self, name, text=None):
        """Administrative shutdown. One with a text is no disabling to GoBGP: the session comes back by itself."""
        if text:
            self.shutdown(name, text)
        else:
            self.ctl("neighbor", self.peers[name].neighbor, "disable")

    def shutdown(self, name, text):
        """Administrative shutdown with a text for the neighbour (RFC 9003); the session comes back by itself."""
        self.ctl("neighbor", self.peers[name].neighbor, "shutdown", "--reason", text)

    def enable(self, name):
        if self.neighbor(name)["state"].get("admin_state") in (1, "DOWN"):
            self.ctl("neighbor", self.peers[name].neighbor, "enable")

    def wait_waiting(self, name, timeout=DEADLINE):
        """GoBGP refuses connections for five seconds after a session."""
        wait_for(lambda: self.neighbor(name)["state"].get("session_state") in (3, "ACTIVE"), f"{self.name}: {name} in Active",
                 timeout, interval=0.3)

    def shutdown_seen(self, name, text):
        said = f'Communicated-Reason="{re.escape(text)}".*' if text else ""
        return re.search(rf'"received notification" Code=6 {said}Key="?{re.escape(self.peers[name].neighbor)}"? Subcode=2\b',
                         self.stdout())


def _table_dump(prefixes):
    """An MRT TABLE_DUMP_V2 (RFC 6396) with these prefixes, from one made-up peer."""

    def record(subtype, body):
        return struct.pack("!IHHI", 0, 13, subtype, len(body)) + body

    def address(text):
        return ipaddress.ip_address(text).packed

    someone = address("10.255.0.2")
    records = [record(1, someone + struct.pack("!HHB", 0, 1, 2) + someone + someone + struct.pack("!I", 65001))]
    for i, prefix in enumerate(prefixes):
        network = ipaddress.ip_network(prefix)
        nlri = bytes([network.prefixlen]) + network.network_address.packed[:(network.prefixlen + 7) // 8]
        attributes = bytes([0x40, 1, 1, 0, 0x40, 2, 0])  # ORIGIN IGP, an empty AS_PATH
        if network.version == 4:
            attributes += bytes([0x40, 3, 4]) + address(NEXT_HOP["ipv4"])
        else:  # MP_REACH_NLRI in full: GoBGP does not take the short form of RFC 6396
            reach = struct.pack("!HBB", 2, 1, 16) + address(NEXT_HOP["ipv6"]) + bytes([0]) + nlri
            attributes += bytes([0x80, 14, len(reach)]) + reach
        entry = struct.pack("!HIH", 0, 0, len(attributes)) + attributes
        records.append(record(2 if network.version == 4 else 4, struct.pack("!I", i) + nlri + struct.pack("!H", 1) + entry))
    return b"".join(records)
