# SPDX-License-Identifier: Apache-2.0
"""
A BGP daemon behind the target, each router before a daemon of another kind: routes, a withdrawal, and shutdowns pass, in
both directions, as if the two were connected directly.
"""

import pytest

from harness.bird import Bird
from harness.daemons import daemon, skip_without
from harness.exabgp import ExaBgp
from harness.frr import Frr
from harness.gobgp import GoBgp
from harness.openbgpd import OpenBgpd
from harness.ports import free_port
from harness.router import Peer, prefixes4, prefixes6
from harness.scene import chain

ROUTER_AS, BACKEND_AS = 65010, 65020
PAIRS = [(Bird, GoBgp), (Frr, Bird), (GoBgp, OpenBgpd), (GoBgp, Bird), (ExaBgp, Frr), (OpenBgpd, GoBgp)]
ROUTER_GOODBYE, BACKEND_GOODBYE = "the router is leaving", "the backend is leaving"


@pytest.mark.parametrize("family", [4, 6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("kinds", PAIRS, ids=lambda pair: "-".join(k.__name__ for k in pair))
def test_daemon_behind_the_target(workdir, certs, kinds, family):
    skip_without(*kinds)
    local, here = ("127.0.0.7", "127.0.0.1") if family == 4 else ("::1", "::1")
    up = prefixes4(1000) if family == 4 else prefixes6(1000)
    down = prefixes4(50, "99.0.0.0") if family == 4 else prefixes6(50, "2001:db9::")
    table = f"ipv{family}"
    port, backend_port = free_port(), free_port()
    at = "[::1]" if family == 6 else here
    # the backend sees the connection come from the target's address
    relayed = Peer("relayed", here, here, None, BACKEND_AS, ROUTER_AS)
    with daemon(kinds[1], workdir, relayed, [down], backend_port) as backend, \
            chain(workdir, certs, {"router_one": local}, backend=f"tcp://{at}:{backend_port}",
                  agent={"listen": [f"{at}:{port}"]}) as (agent, _target), \
            daemon(kinds[0], workdir, Peer("agent", local, here, port, ROUTER_AS, BACKEND_AS), [up[:1], up[1:]]) as router:
        router.wait_established("agent")
        backend.wait_established("relayed")
        backend.wait_prefixes(up + down, table)
        if router.keeps_table:
            router.wait_prefixes(up + down, table)
        router.withdraw(up[0])
        backend.wait_prefixes(up[1:] + down, table)

        router.disable("agent", ROUTER_GOODBYE)
        backend.wait_shutdown_seen("relayed", ROUTER_GOODBYE if router.sends_text else None)
        ended = agent.wait_for_log("session ended", ended_by="router")
        if router.sends_text:
            assert ROUTER_GOODBYE in ended["notification-up"]

        backend.wait_waiting("relayed")
        router.enable("agent")
        backend.wait_established("relayed")
        router.wait_established("agent")
        backend.wait_prefixes(up[1:] + down, table)
        agent.wait_sessions(1)
        session = agent.sessions()[0]["Peer"]
        backend.disable("relayed", BACKEND_GOODBYE)
        router.wait_shutdown_seen("agent", BACKEND_GOODBYE)
        ended = agent.wait_for_log("session ended", peer_addr=session)
        assert ended["ended-by"] == "target" and BACKEND_GOODBYE in ended["notification-down"]
