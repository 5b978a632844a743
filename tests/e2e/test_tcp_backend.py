# SPDX-License-Identifier: Apache-2.0
"""A BGP daemon behind the target: sessions, routes and shutdowns pass in both directions."""

from harness.bird import Bird
from harness.gobgp import GoBgp
from harness.ports import free_port
from harness.router import Peer, prefixes4, prefixes6
from harness.scene import chain

ROUTER_AS, BACKEND_AS = 65010, 65020


def test_bird_behind_the_target(workdir, certs):
    """GoBGP → kbgp → kbgp-target → BIRD, who sees the session coming from the target's address."""
    port = free_port()
    up4, down4 = prefixes4(20), prefixes4(50, "99.0.0.0")
    with Bird(workdir, [Peer("relayed", "127.0.0.1", "127.0.0.1", None, BACKEND_AS, ROUTER_AS)], {"down4": down4},
              listen_port=port) as backend, \
            chain(workdir, certs, {"router_one": "127.0.0.7"}, backend=f"tcp://127.0.0.1:{port}") as (agent, _target), \
            GoBgp(workdir, [Peer("agent", "127.0.0.7", "127.0.0.1", agent.port, ROUTER_AS, BACKEND_AS)]) as router:
        router.wait_established("agent")
        backend.wait_established("relayed")
        router.announce(*up4)
        backend.wait_count("relayed", len(up4))
        router.wait_prefixes(up4 + down4)
        router.withdraw(*up4[:5])
        backend.wait_count("relayed", len(up4) - 5)

        router.shutdown("agent", "router is leaving")
        backend.wait_for_text("Received: Administrative shutdown.*router is leaving")
        backend.wait_established("relayed")  # it comes back

        backend.disable("relayed", "backend is leaving")
        router.wait_for_text("backend is leaving")
        router.wait_down("agent")


def test_gobgp_behind_the_target(workdir, certs):
    """BIRD → kbgp → kbgp-target → GoBGP, IPv6 routes as well, shutdown both ways."""
    port = free_port()
    up4, up6 = prefixes4(1000), prefixes6(500)
    with GoBgp(workdir, [Peer("relayed", "127.0.0.1", "127.0.0.1", None, BACKEND_AS, ROUTER_AS)], listen_port=port,
               listen=["127.0.0.1"], families="both") as backend, \
            chain(workdir, certs, {"router_one": "127.0.0.7"}, backend=f"tcp://127.0.0.1:{port}") as (agent, _target), \
            Bird(workdir, [Peer("agent", "127.0.0.7", "127.0.0.1", agent.port, ROUTER_AS, BACKEND_AS)],
                 {"up4": up4, "up6": up6}, families="both") as router:
        router.wait_established("agent")
        backend.wait_established("relayed")
        backend.wait_prefixes(up4, "ipv4")
        backend.wait_prefixes(up6, "ipv6")
        backend.announce("99.0.0.0/24")
        router.wait_count("agent", 1)
        router.disable("up6")
        backend.wait_prefixes([], "ipv6")

        backend.shutdown("relayed", "backend is leaving")
        router.wait_for_text("Received: Administrative shutdown.*backend is leaving")
        router.wait_established("agent")  # it comes back

        router.disable("agent", "router is leaving")
        backend.wait_for_text("router is leaving")
        backend.wait_down("relayed")
