# SPDX-License-Identifier: Apache-2.0
"""What all BGP daemons of the tests have in common, and the addresses and prefixes they use."""

import dataclasses
import ipaddress

from .proc import Program
from .wait import DEADLINE, wait_for


# Given with every route: GoBGP and FRR take no loopback address as a next hop, and the peers here are often on 127.0.0.0/8.
NEXT_HOP = {"ipv4": "192.0.2.1", "ipv6": "2001:db8:ffff::1"}


@dataclasses.dataclass
class Peer:
    """
    A BGP neighbour. `name` is a word for the configuration; `port` None: the daemon does not connect, it waits for the
    neighbour (who must then come from `neighbor`). With a `password`, every segment is signed (RFC 2385).
    """

    name: str
    local: str
    neighbor: str
    port: int | None
    asn: int = 65001
    neighbor_asn: int = 65001
    hold_time: int = 90
    password: str | None = None  # TCP MD5

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
    """
    A BGP daemon. Each kind has its own way to do and to tell these:

    established(name)          its own view of the session with the peer of that name
    prefixes(family)           the set of prefixes in its table of "ipv4" or "ipv6", own and learned
    withdraw(*prefixes)        takes back what it announced
    disable(name, text)        administrative shutdown of a session, with a text for the neighbour (RFC 9003)
    enable(name)               the session may come up again
    shutdown_seen(name, text)  whether it says that the neighbour sent it an administrative shutdown with this text
    """

    sends_text = True  # whether disable() can give the neighbour a text of ours
    keeps_table = True  # whether it has prefixes()

    def established(self, name):
        raise NotImplementedError

    def prefixes(self, family="ipv4"):
        raise NotImplementedError

    def shutdown_seen(self, name, text):
        raise NotImplementedError

    def wait_waiting(self, name, timeout=DEADLINE):
        """After the end of a session: waits until it would take the neighbour's next connection."""

    def wait_prefixes(self, wanted, family="ipv4", timeout=DEADLINE):
        """Waits until the table is exactly these prefixes."""
        wanted = set(wanted)
        try:
            wait_for(lambda: self.prefixes(family) == wanted, "", timeout, interval=0.3)
        except AssertionError:
            have = self.prefixes(family)
            raise AssertionError(f"{self.name}: {len(have)} {family} prefixes after {timeout:g} s, {len(wanted - have)} of "
                                 f"{len(wanted)} missing, too many: {sorted(have - wanted)[:5]}") from None

    def wait_shutdown_seen(self, name, text, timeout=DEADLINE):
        wait_for(lambda: self.shutdown_seen(name, text), f"{self.name} saying that {name} sent it a shutdown with "
                 f"{text!r}", timeout, interval=0.3)

    def wait_established(self, *names, timeout=DEADLINE):
        for name in names:
            def look(name=name):
                self.assert_running()
                return self.established(name)

            wait_for(look, f"{self.name}: session {name} Established", timeout, interval=0.3)

    def wait_down(self, name, timeout=DEADLINE):
        wait_for(lambda: not self.established(name), f"{self.name}: session {name} no longer Established", timeout)
