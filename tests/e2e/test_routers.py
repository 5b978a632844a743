# SPDX-License-Identifier: Apache-2.0
"""Each BGP implementation as the router before the collector: routes, a withdrawal, and shutdowns of either side."""

import pytest

from harness.daemons import KINDS, daemon, skip_without
from harness.ports import free_port
from harness.router import Peer, prefixes4, prefixes6
from harness.scene import chain
from harness.wait import wait_for

GOODBYE = "maintenance until 04:00"
TARGET_GOODBYE = "kbgp-target stops"
CEASE, ADMINISTRATIVE_SHUTDOWN = 6, 2


@pytest.mark.parametrize("family", [4, 6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_router(workdir, certs, kind, family):
    skip_without(kind)
    local, neighbor = ("127.0.0.7", "127.0.0.1") if family == 4 else ("::1", "::1")
    networks = prefixes4(1000) if family == 4 else prefixes6(1000)
    afi = 1 if family == 4 else 2
    port = free_port()
    listen = f"127.0.0.1:{port}" if family == 4 else f"[::1]:{port}"
    with chain(workdir, certs, {"router_one": local}, agent={"listen": [listen]}) as (agent, target), \
            daemon(kind, workdir, Peer("agent", local, neighbor, port), [networks[:1], networks[1:]]) as router:
        target.wait_event("established", address=local)
        router.wait_established("agent")
        target.wait_prefixes(afi, set(networks))
        router.withdraw(networks[0])
        target.wait_prefixes(afi, set(networks[1:]))
        agent.wait_sessions(1)

        router.disable("agent", GOODBYE)
        told = target.wait_event("notification", direction="received")
        assert (told["code"], told["subcode"]) == (CEASE, ADMINISTRATIVE_SHUTDOWN)
        first = target.wait_event("close", address=local)["session"]
        ended = agent.wait_for_log("session ended", session_id=first)
        if router.sends_text:
            assert told["text"] == GOODBYE
            assert GOODBYE in ended["notification-up"]

        # once more, and now it is the target that says goodbye
        router.enable("agent")
        second = wait_for(lambda: [e["session"] for e in target.events("established") if e["session"] != first],
                          "the router's next session")[0]
        router.wait_established("agent")
        agent.wait_sessions(1)
        target.stop()
        assert target.events("notification", direction="sent", session=second)
        router.wait_shutdown_seen("agent", TARGET_GOODBYE)
        ended = agent.wait_for_log("session ended", session_id=second)
        assert ended["ended-by"] == "target" and TARGET_GOODBYE in ended["notification-down"]
