# SPDX-License-Identifier: Apache-2.0
"""What all BGP daemons of the tests have in common, and the addresses and prefixes they use."""

import dataclasses
import ipaddress

from .proc import Program
from .wait import DEADLINE, wait_for


@dataclasses.dataclass
class Peer:
    """
    A BGP neighbour. `name` is a word for the configuration; `port` None: the daemon does not connect, it waits for the
    neighbour (who must then come from `neighbor`).
    """

    name: str
    local: str
    neighbor: str
    port: int | None
    asn: int = 65001
    neighbor_asn: int = 65001
    hold_time: int = 90

    @property
    def ipv6(self):
        return ":" in self.neighbor


def prefixes4(number, first="10.0.0.0"):
    """That many different IPv4 prefixes of length 24 (from 10.0.0.0 on: 65536 of them, and then 11.…)."""
    begin = int(ipaddress.IPv4Address(first))
    return [f"{ipaddress.IPv4Address(begin + (i << 8))}/24" for i in range(number)]


def prefixes6(number, first="2001:db8::"):
    """That many different IPv6 prefixes of length 48."""
    begin = int(ipaddress.IPv6Address(first))
    return [f"{ipaddress.IPv6Address(begin + (i << 80))}/48" for i in range(number)]


class Router(Program):
    """A BGP daemon. `established(name)` is its own view of the session with the peer of that name."""

    def established(self, name):
        raise NotImplementedError

    def wait_established(self, *names, timeout=DEADLINE):
        for name in names:
            def look(name=name):
                self.assert_running()
                return self.established(name)

            wait_for(look, f"{self.name}: session {name} Established", timeout, interval=0.3)

    def wait_down(self, name, timeout=DEADLINE):
        wait_for(lambda: not self.established(name), f"{self.name}: session {name} no longer Established", timeout)
