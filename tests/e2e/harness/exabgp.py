# SPDX-License-Identifier: Apache-2.0
"""ExaBGP as a router: it announces what it is told through a pipe, and connects to ports of our choice."""

import os
import re
import sys

from . import paths
from .proc import clean_env
from .router import NEXT_HOP, Router

# Commands come through the pipe; what ExaBGP tells about received messages goes into a file.
_FEEDER = """
import sys, threading
def keep():
    with open(sys.argv[2], "w", buffering=1) as told:
        for line in sys.stdin:
            told.write(line)
threading.Thread(target=keep, daemon=True).start()
while True:
    with open(sys.argv[1]) as pipe:
        for line in pipe:
            sys.stdout.write(line)
            sys.stdout.flush()
"""


class ExaBgp(Router):
    """One neighbour (ExaBGP has one destination port a process), given as a Peer with a port."""

    exit_codes = None
    sends_text = False
    keeps_table = False

    def __init__(self, workdir, peer, networks=(), *, router_id="10.255.0.5", netns=None, name="exabgp"):
        self.peer = peer
        self.networks = list(networks)
        self.router_id = router_id
        env = clean_env(**{
            "exabgp.tcp.port": str(peer.port), "exabgp.daemon.user": "root", "exabgp.log.destination": "stderr",
            "exabgp.log.level": "DEBUG", "exabgp.log.network": "true", "exabgp.log.message": "true",
            "exabgp.api.cli": "false", "exabgp.api.ack": "false", "exabgp.daemon.drop": "false"})
        super().__init__(name, [paths.find("exabgp"), f"{name}.conf"], workdir, netns=netns, cwd=workdir, env=env)
        self.pipe = self.workdir / f"{name}.pipe"
        os.mkfifo(self.pipe)
        self.told = self.workdir / f"{name}.told"
        (self.workdir / f"{name}-feed.py").write_text(_FEEDER)
        (self.workdir / f"{name}.conf").write_text(self._config(self.workdir / f"{name}-feed.py"))

    def _config(self, feeder):
        p = self.peer
        family = "ipv6" if p.ipv6 else "ipv4"
        routes = "\n".join(f"  route {n} next-hop {NEXT_HOP[family]};" for n in self.networks)
        return f"""process feed {{
 run {sys.executable} {feeder} {self.pipe} {self.told};
 encoder text;
}}
neighbor {p.neighbor} {{
 router-id {self.router_id};
 local-address {p.local};
 local-as {p.asn};
 peer-as {p.neighbor_asn};
 hold-time {p.hold_time};
 family {{ {family} unicast; }}
 api {{ processes [ feed ]; receive {{ packets; notification; }} }}
 static {{
{routes}
 }}
}}
"""

    def established(self, name=None):
        return self.stderr().count("connected to peer") + self.stdout().count("connected to peer") > 0

    def tell(self, *commands):
        with open(self.pipe, "w") as pipe:
            for c in commands:
                pipe.write(c + "\n")

    def withdraw(self, *prefixes):
        self.tell(*(f"withdraw route {p} next-hop {_next_hop(p)}" for p in prefixes))

    def announce(self, *prefixes):
        self.tell(*(f"announce route {p} next-hop {_next_hop(p)}" for p in prefixes))

    def disable(self, name=None, text=None):
        """Administrative shutdown; ExaBGP sends no text of ours with it. The session comes back by itself."""
        self.tell(f"neighbor {self.peer.neighbor} teardown 2")

    def enable(self, name=None):
        pass

    def shutdown_seen(self, name, text):
        """From the message as ExaBGP received it and gives it to its API: its log says nothing about a NOTIFICATION."""
        if not self.told.exists():
            return False
        bodies = re.findall(r" receive 3 header 0x[0-9A-F]+ body 0x([0-9A-F]+)", self.told.read_text(), re.IGNORECASE)
        data = text.encode() if text else b""
        return bytes([6, 2, len(data)]) + data in map(bytes.fromhex, bodies)


def _next_hop(prefix):
    return NEXT_HOP["ipv6" if ":" in prefix else "ipv4"]
