# SPDX-License-Identifier: Apache-2.0
"""FRR's bgpd (alone, without zebra) as a router or as the daemon behind the target."""

import json
import re

from .ports import free_port
from .proc import run
from .router import NEXT_HOP, Router
from .wait import wait_for

# By its path: OpenBGPD has a bgpd on PATH, too.
BGPD = "/usr/lib/frr/bgpd"


class Frr(Router):
    """`networks`: prefixes to announce. bgpd runs without zebra, so it never touches the kernel's routes."""

    exit_codes = None

    def __init__(self, workdir, peers, networks=(), *, router_id="10.255.0.3", netns=None, listen_port=None, listen=None,
                 name="frr"):
        self.peers = {p.name: p for p in peers}
        self.networks = list(networks)
        self.router_id = router_id
        self.asn = peers[0].asn
        argv = [BGPD, "-f", f"{name}.conf", "-i", f"{name}.pid",
                "--vty_socket", ".", "-P", "0", "-p", str(listen_port or free_port()), "-Z", "-S", "-n",
                "--log", "stdout", "--log-level", "debug"]
        argv += ["-l", listen] if listen else []
        super().__init__(name, argv, workdir, netns=netns, cwd=workdir)
        (self.workdir / f"{name}.conf").write_text(self._config())

    def _config(self):
        lines = ["log stdout debugging", "debug bgp neighbor-events", f"router bgp {self.asn}",
                 f" bgp router-id {self.router_id}", " no bgp ebgp-requires-policy", " no bgp network import-check",
                 " no bgp default ipv4-unicast"]
        for p in self.peers.values():
            n = f" neighbor {p.neighbor}"
            lines += [f"{n} remote-as {p.neighbor_asn}", f"{n} update-source {p.local}", f"{n} disable-connected-check",
                      f"{n} timers {p.hold_time // 3} {p.hold_time}", f"{n} timers connect 2"]
            lines += [f"{n} password {p.password}"] if p.password else []
            lines += [f"{n} port {p.port}"] if p.port else [f"{n} passive"]
            if p.asn != p.neighbor_asn:
                lines.append(f"{n} ebgp-multihop 64")
        for family in ("ipv4", "ipv6"):
            lines.append(f" address-family {family} unicast")
            lines += [f"  network {n}" for n in self.networks if (":" in n) == (family == "ipv6")]
            for p in self.peers.values():
                if p.ipv6 == (family == "ipv6"):
                    lines += [f"  neighbor {p.neighbor} activate", f"  neighbor {p.neighbor} route-map OUT-{family} out"]
            lines.append(" exit-address-family")
        lines += ["route-map OUT-ipv4 permit 10", f" set ip next-hop {NEXT_HOP['ipv4']}",
                  "route-map OUT-ipv6 permit 10", f" set ipv6 next-hop global {NEXT_HOP['ipv6']}"]
        return "\n".join(lines) + "\n"

    def wait_ready(self):
        def answers():
            self.assert_running()
            return "BGP" in self.ctl("show bgp summary json") or "{" in self.ctl("show bgp summary json")

        wait_for(answers, f"{self.name} answering vtysh")

    def ctl(self, *commands):
        words = [w for c in commands for w in ("-c", c)]
        return run(["vtysh", "--vty_socket", str(self.workdir), "-d", "bgpd", *words], netns=self.netns).stdout

    def configure(self, *lines):
        self.ctl("configure terminal", f"router bgp {self.asn}", *lines)

    def neighbor(self, name):
        address = self.peers[name].neighbor
        return json.loads(self.ctl(f"show bgp neighbors {address} json") or "{}").get(address, {})

    def established(self, name):
        return self.neighbor(name).get("bgpState") == "Established"

    def withdraw(self, *prefixes):
        for p in prefixes:
            self.configure(f"address-family {'ipv6' if ':' in p else 'ipv4'} unicast", f"no network {p}")

    def count(self, name):
        families = self.neighbor(name).get("addressFamilyInfo", {})
        return sum(f.get("acceptedPrefixCounter", 0) for f in families.values())

    def prefixes(self, family="ipv4"):
        return set(json.loads(self.ctl(f"show bgp {family} unicast json") or "{}").get("routes", {}))

    def disable(self, name, text=None):
        address = self.peers[name].neighbor
        self.configure(f"neighbor {address} shutdown" + (f" message {text}" if text else ""))

    def enable(self, name):
        self.configure(f"no neighbor {self.peers[name].neighbor} shutdown")

    def shutdown_seen(self, name, text):
        said = f' "{re.escape(text)}"' if text else ""
        return re.search(rf"NOTIFICATION: received from neighbor {re.escape(self.peers[name].neighbor)} 6/2 "
                         rf"\(Cease/Administrative Shutdown\){said}", self.output())
