# SPDX-License-Identifier: Apache-2.0
"""BIRD 2 as a router or as the daemon behind the target."""

import re

from . import paths
from .ports import free_port
from .proc import run
from .router import NEXT_HOP, Router
from .wait import DEADLINE, wait_for



class Bird(Router):
    """
    `routes`: {name: list of prefixes}; each list is a static protocol of its own, which can be withdrawn and announced by
    `disable(name)` and `enable(name)`. All are announced to all peers of their family. The timers are as short as BIRD
    allows. `listen_port` matters where the peers come to us.
    """

    def __init__(self, workdir, peers, routes=None, *, router_id="10.255.0.1", netns=None, listen_port=None, name="bird",
                 families="own"):
        self.peers = {p.name: p for p in peers}
        self.routes = dict(routes or {})
        self.router_id = router_id
        self.listen_port = listen_port or free_port()
        self.families = families
        # the control socket's path is limited to 107 bytes, so it is relative to the working directory
        super().__init__(name, [paths.find("bird"), "-f", "-c", f"{name}.conf", "-s", f"{name}.ctl"], workdir, netns=netns,
                         cwd=workdir)
        self.socket = self.workdir / f"{name}.ctl"
        (self.workdir / f"{name}.conf").write_text(self._config())

    def _config(self):
        lines = ["log stderr all;", f"router id {self.router_id};", "protocol device {}"]
        for name, prefixes in self.routes.items():
            family = "ipv6" if ":" in prefixes[0] else "ipv4"
            lines.append(f"protocol static {name} {{ {family};")
            lines += [f"route {p} blackhole;" for p in prefixes]
            lines.append("}")
        for p in self.peers.values():
            port = f" port {p.port}" if p.port else ""
            password = f' password "{p.password}";' if p.password else ""
            passive = "" if p.port else "passive on;"
            both = [("ipv6" if p.ipv6 else "ipv4")] if self.families == "own" else ["ipv4", "ipv6"]
            channels = "".join(f"  {f} {{ import all; export where source = RTS_STATIC; next hop address {NEXT_HOP[f]}; }};\n"
                               for f in both)
            lines.append(f"""protocol bgp {p.name} {{
  local {p.local} port {self.listen_port} as {p.asn};
  neighbor {p.neighbor}{port} as {p.neighbor_asn};
  multihop; strict bind on; {passive} hold time {p.hold_time};{password}
  connect delay time 1; connect retry time 2; error wait time 1, 2; error forget time 10;
{channels}}}""")
        return "\n".join(lines) + "\n"

    def set_password(self, name, password):
        """What an operator does: the configuration changes and is read again. BIRD restarts the session then."""
        self.peers[name].password = password
        (self.workdir / f"{self.name}.conf").write_text(self._config())
        done = self.ctl("configure")
        assert "Reconfigur" in done, done

    def wait_ready(self):
        def answers():
            self.assert_running()
            return "Daemon is up and running" in self.ctl("show", "status")

        wait_for(answers, f"{self.name} answering on its control socket")

    def ctl(self, *words):
        """birdc's output."""
        return run([paths.find("birdc"), "-s", self.socket.name, *words], cwd=self.workdir).stdout

    def established(self, name):
        return bool(re.search(r"BGP state:\s+Established", self.ctl("show", "protocols", "all", name)))

    def protocol(self, name):
        """What BIRD says about a protocol in full: state, capabilities, last error."""
        return self.ctl("show", "protocols", "all", name)

    def count(self, name):
        """Routes that came from a peer (IPv4 and IPv6 together)."""
        found = re.findall(r"^(\d+) of \d+ routes for", self.ctl("show", "route", "protocol", name, "count"), re.MULTILINE)
        return sum(map(int, found))

    def wait_count(self, name, number, timeout=DEADLINE):
        try:
            wait_for(lambda: self.count(name) == number, "", timeout, interval=0.3)
        except AssertionError:
            raise AssertionError(f"{self.name}: {self.count(name)} routes from {name} after {timeout:g} s, "
                                 f"not {number}") from None

    def prefixes(self, family="ipv4"):
        shown = self.ctl("show", "route", "table", "master4" if family == "ipv4" else "master6")
        return set(re.findall(r"^([0-9a-f][0-9a-f.:]*/\d+)\s", shown, re.MULTILINE))

    def withdraw(self, *prefixes):
        """Withdraws one of the lists of routes, given by what is in it."""
        self.disable(next(name for name, listed in self.routes.items() if listed == list(prefixes)))

    def shutdown_seen(self, name, text):
        said = f': "{re.escape(text)}"' if text else ""
        return re.search(rf"\b{name}: Received: Administrative shutdown{said}", self.stderr())

    def disable(self, name, text=None):
        """Withdraws a list of routes, or shuts a session down, with a text for the neighbour (RFC 8203)."""
        self.ctl("disable", name, *([f'"{text}"'] if text else []))

    def enable(self, name):
        self.ctl("enable", name)
