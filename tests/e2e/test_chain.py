# SPDX-License-Identifier: Apache-2.0
"""The main job: a real router's BGP sessions through both programs to the collector."""

import re

import pytest

from harness.agent import Agent
from harness.bird import Bird
from harness.gobgp import GoBgp
from harness.net import Chain
from harness.ports import free_port
from harness.router import Peer, prefixes4, prefixes6
from harness.scene import chain, inventory_with
from harness.target import Target
from harness.wait import wait_for

MANY4, MANY6 = prefixes4(10_000), prefixes6(2_000)
FEW4, FEW6 = prefixes4(20, "99.0.0.0"), prefixes6(10, "2001:db9::")


def test_bird_through_three_namespaces(workdir, certs, namespaces):
    with Chain() as net:
        inventory, token = inventory_with(workdir, {"router_one": [net.router4, net.router6]})
        port = free_port()
        with Target(workdir, inventory, tls=certs.good, netns=net.target, listen=[f"{net.target4}:4443"]) as target, \
                Agent(workdir, f"{net.target4}:4443", ca_file=certs.ca, token=token, netns=net.agent,
                      listen=[f"0.0.0.0:{port}", f"[::]:{port}"]) as agent, \
                Bird(workdir, [Peer("peer4", net.router4, net.agent4, port), Peer("peer6", net.router6, net.agent6, port)],
                     {"many4": MANY4, "many6": MANY6, "few4": FEW4, "few6": FEW6}, netns=net.router) as bird:
            agent.wait_control()
            bird.wait_established("peer4", "peer6")
            target.wait_prefixes(1, {*MANY4, *FEW4})
            target.wait_prefixes(2, {*MANY6, *FEW6})

            for address in (net.router4, net.router6):
                opened = target.wait_event("open", address=address)
                assert opened["device"] == "router_one"
                assert opened["asn"] == 65001 and opened["router_id"] == bird.router_id and opened["hold_time"] == 90
                assert target.events("established", address=address, session=opened["session"])
            announce = target.events("announce", address=net.router4)[0]
            assert announce["next_hop"] == "192.0.2.1" and announce["safi"] == 1
            assert announce["origin"] in ("igp", "egp", "incomplete") and announce["local_pref"] == 100
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", announce["time"])
            assert target.events("announce", address=net.router6)[0]["next_hop"] == "2001:db8:ffff::1"
            target.wait_event("end-of-rib", address=net.router4, afi=1)
            target.wait_event("end-of-rib", address=net.router6, afi=2)

            agent.wait_sessions(2)
            peers = {s["Peer"].rsplit(":", 1)[0] for s in agent.sessions()}
            assert peers == {net.router4, f"[{net.router6}]"}

            bird.disable("few4")
            bird.disable("few6")
            target.wait_prefixes(1, set(MANY4))
            target.wait_prefixes(2, set(MANY6))
            bird.enable("few4")
            target.wait_prefixes(1, {*MANY4, *FEW4})
            assert bird.established("peer4") and bird.established("peer6")
            assert len(target.events("open")) == 2, "a session was set up more than once"


@pytest.mark.parametrize("asn", [65001, 65010], ids=["iBGP", "eBGP"])
def test_gobgp_on_loopback(workdir, certs, asn):
    """The same with another BGP implementation, and with the collector as an external peer of a configured AS."""
    port = free_port()
    local_as = [] if asn == 65001 else ["--local-as", "65001"]
    with chain(workdir, certs, {"router_two": ["127.0.0.7", "::1"]}, target={"extra": local_as},
               agent={"listen": [f"127.0.0.1:{port}", f"[::1]:{port}"]}) as (agent, target), \
            GoBgp(workdir, [Peer("peer4", "127.0.0.7", "127.0.0.1", port, asn), Peer("peer6", "::1", "::1", port, asn)]) as gobgp:
        gobgp.wait_established("peer4", "peer6")
        gobgp.announce(*FEW4, *FEW6)
        target.wait_prefixes(1, set(FEW4))
        target.wait_prefixes(2, set(FEW6))
        assert target.events("open", address="127.0.0.7")[0]["asn"] == asn
        path = "" if asn == 65001 else str(asn)
        assert {e["as_path"] for e in target.events("announce")} == {path}
        agent.wait_sessions(2)
        gobgp.withdraw(FEW4[0], FEW6[0])
        target.wait_prefixes(1, set(FEW4[1:]))
        target.wait_prefixes(2, set(FEW6[1:]))
        for name in ("peer4", "peer6"):
            assert gobgp.established(name)


def test_session_details(workdir, certs):
    """/admin/sessions/ADDRESS shows the session that the log and the target know, with the target's metadata."""
    port = free_port()
    with chain(workdir, certs, {"router_one": "127.0.0.7"}) as (agent, target), \
            Bird(workdir, [Peer("peer4", "127.0.0.7", "127.0.0.1", agent.port)], listen_port=port) as bird:
        bird.wait_established("peer4")
        agent.wait_sessions(1)
        code, details = agent.get_json("/admin/sessions/127.0.0.7")
        assert code == 200
        opening = agent.wait_for_log("opening Data stream")
        assert details["SessionID"] == opening["session-id"] == target.wait_event("open")["session"]
        assert details["Peer"] == opening["peer-addr"] == f"127.0.0.7:{details['Peer'].rsplit(':', 1)[1]}"
        assert details["ConnectedDurationMs"] >= 0 and details["ConnectedSince"].startswith("20")
        assert details["ServerMetadata"]["counter-up"] == ["0"] and details["ServerMetadata"]["counter-down"] == ["0"]
        assert details["ServerMetadata"]["content-type"][0].startswith("application/grpc")
        assert agent.get("/admin/sessions/127.0.0.8")[0] == 404
        code, pretty = agent.get("/admin/sessions?pretty")
        assert code == 200 and len(pretty.splitlines()) > 3

        bird.disable("peer4", "over and out")
        assert target.wait_event("notification", direction="received")["text"] == "over and out"
        target.wait_event("close", address="127.0.0.7")
        wait_for(lambda: not agent.sessions(), "the session's end in /admin/sessions")
