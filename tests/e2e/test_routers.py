# SPDX-License-Identifier: Apache-2.0
"""The other BGP implementations as routers: Established, 1,000 routes, a withdrawal, a shutdown, all seen by the collector."""

from pathlib import Path

import pytest

from harness import frr, openbgpd, paths
from harness.exabgp import ExaBgp
from harness.frr import Frr
from harness.openbgpd import OpenBgpd
from harness.ports import free_port
from harness.router import Peer, prefixes4, prefixes6
from harness.scene import chain

ADDRESSES = {4: ("127.0.0.7", "127.0.0.1"), 6: ("::1", "::1")}


def router(kind, workdir, family, port, networks):
    local, neighbor = ADDRESSES[family]
    peer = Peer("agent", local, neighbor, port)
    if kind is ExaBgp:
        return ExaBgp(workdir, peer, networks)
    return kind(workdir, [peer], networks, listen=local if kind is Frr else [local])


@pytest.mark.parametrize("family", [4, 6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("kind", [Frr, OpenBgpd, ExaBgp], ids=lambda k: k.__name__)
def test_router(workdir, certs, kind, family):
    program = {Frr: frr.BGPD, OpenBgpd: openbgpd.BGPD, ExaBgp: paths.find("exabgp") or "exabgp"}[kind]
    if not Path(program).exists():
        pytest.skip(f"{program} is not installed")
    local = ADDRESSES[family][0]
    networks = prefixes4(1000) if family == 4 else prefixes6(1000)
    port = free_port()
    listen = f"127.0.0.1:{port}" if family == 4 else f"[::1]:{port}"
    with chain(workdir, certs, {"router_one": local}, agent={"listen": [listen]}) as (agent, target), \
            router(kind, workdir, family, port, networks) as device:
        target.wait_event("established", address=local)
        device.wait_established("agent")
        target.wait_prefixes(1 if family == 4 else 2, set(networks))
        device.withdraw(networks[0])
        target.wait_prefixes(1 if family == 4 else 2, set(networks[1:]))
        agent.wait_sessions(1)
        if kind is ExaBgp:
            device.disable()
            told = target.wait_event("notification", direction="received")
        else:
            device.disable("agent", "good night")
            told = target.wait_event("notification", direction="received")
            assert told["text"] == "good night"
        assert (told["code"], told["subcode"]) == (6, 2)
        target.wait_event("close", address=local)
