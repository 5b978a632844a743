# SPDX-License-Identifier: Apache-2.0
"""What the agent has seen of BGP in passing: in /admin/sessions, in the metrics, and in the line about a session's end."""

import http.client
import json
import signal
import time

import pytest

from harness import bgp
from harness.bird import Bird
from harness.gobgp import GoBgp
from harness.grpc_target import known, pushed
from harness.pattern import Pattern
from harness.ports import free_port
from harness.router import Peer, prefixes4
from harness.scene import agent_alone, chain
from harness.schema import BLOCK_IP
from harness.tcp_peer import Backend
from harness.wait import wait_for
from test_status_pages import metrics

DEVICE = "127.0.0.7"
LABELS = f'device="router_one",address="{DEVICE}",site="0"'
ENDED = "session ended"


def session(agent, address=DEVICE):
    code, page = agent.get_json(f"/admin/sessions/{address}")
    return page if code == 200 else None


def device_metric(agent, name, **labels):
    more = "".join(f',{k}="{v}"' for k, v in labels.items())
    return metrics(agent).get(f"kbgp_device_{name}{{{LABELS}{more}}}")


def wait_device_metric(agent, value, name, **labels):
    wait_for(lambda: device_metric(agent, name, **labels) == value, f"{name} {labels} to be {value}")


def bgp_state(agent):
    """The one state that is 1 in the state set of the device."""
    states = [s for s in ("idle", "connect", "opensent", "openconfirm", "established")
              if device_metric(agent, "bgp_state", state=s)]
    assert len(states) == 1, states
    return states[0]


# --- step by step, with scripted ends on both sides ---


def test_states_and_facts_in_passing(workdir, certs):
    """Each message as it passes: the state it leads to, and what it said."""
    with Backend() as backend, \
            chain(workdir, certs, {"router_one": DEVICE}, backend=backend.url) as (agent, _target), \
            agent.connect(DEVICE) as device:
        target = backend.accept()
        agent.wait_sessions(1)
        seen = session(agent)["BGP"]
        assert seen["State"] == bgp_state(agent) == "connect"
        assert seen["ASN"] is seen["RouterID"] is seen["HoldTime"] is seen["EstablishedSince"] is None
        assert seen["Router"]["LastMessage"] is seen["Router"]["MsSinceLastMessage"] is None
        assert seen["Router"]["LastNotification"] is seen["Target"]["LastNotification"] is None
        assert seen["Router"]["Messages"] == dict(open=0, update=0, notification=0, keepalive=0, route_refresh=0, other=0)

        def wait_state(state):
            wait_for(lambda: session(agent)["BGP"]["State"] == state, f"state {state}")
            assert bgp_state(agent) == state
            return session(agent)["BGP"]

        device.send(bgp.open_message(4200000001, "10.9.8.7", hold_time=90))
        seen = wait_state("opensent")
        assert (seen["ASN"], seen["RouterID"], seen["HoldTime"]) == (4200000001, "10.9.8.7", None)
        target.send(bgp.open_message(65001, "10.0.0.1", hold_time=30))
        seen = wait_state("openconfirm")
        assert seen["HoldTime"] == 30 and seen["Router"]["HoldTime"] == 90 and seen["Target"]["ASN"] == 65001
        target.send(bgp.keepalive())
        device.send(bgp.keepalive())
        seen = wait_state("established")
        assert seen["EstablishedSince"] and seen["EstablishedMs"] >= 0
        assert device_metric(agent, "bgp_established_total") == 1
        assert device_metric(agent, "bgp_asn") == 4200000001 and device_metric(agent, "bgp_hold_time_seconds") == 90

        device.send(b"".join([bgp.update(prefixes4(10)), bgp.keepalive(), bgp.update(withdrawn=prefixes4(3)),
                              bgp.message(bgp.REFRESH, b"\0\1\0\1"), bgp.message(77, b"new")]))
        wait_for(lambda: session(agent)["BGP"]["Router"]["Messages"]
                 == dict(open=1, update=2, notification=0, keepalive=2, route_refresh=1, other=1), "the router's messages")
        assert session(agent)["BGP"]["Target"]["Messages"]["keepalive"] == 1
        assert device_metric(agent, "bgp_messages_total", direction="up", message="update") == 2
        assert device_metric(agent, "bgp_messages_total", direction="up", message="other") == 1
        assert device_metric(agent, "bgp_messages_total", direction="down", message="open") == 1
        assert abs(device_metric(agent, "received_timestamp_seconds") - time.time()) < 60
        up, down = len(target.received), len(device.received)

        target.send(bgp.notification(6, 4, b"\x06reload"))
        seen = wait_state("idle")
        told = seen["Target"]["LastNotification"]
        assert told.pop("Time").startswith("20")
        assert told == {"Name": "Cease: Administrative Reset", "Code": 6, "Subcode": 4, "Text": "reload"}
        assert seen["EstablishedSince"], "when it was established stays to be seen"
        down += 19 + 2 + 7
        device.half_close()
        target.half_close()
        line = agent.wait_for_log(ENDED)
        assert line["ended-by"] == "target" and line["cause"] == "target_end"
        assert line["reason"] == "the target sent NOTIFICATION Cease/Administrative Reset: reload"
        assert line["notification-down"] == "Cease/Administrative Reset: reload" and "notification-up" not in line
        assert (line["bytes-up"], line["bytes-down"]) == (up, down)
        assert (line["bgp-messages-up"], line["bgp-messages-down"]) == (7, 3)
        assert 0 < line["established-ms"] <= line["duration-ms"] and line["hold-time"] == 30 and line["streams"] == 1
        wait_device_metric(agent, 1, "bgp_notifications_total", direction="down", code="6", subcode="4")
        assert device_metric(agent, "up") == 0 and bgp_state(agent) == "idle"


def test_counters_go_on_in_the_next_session(workdir):
    """What is counted for a device outlives its sessions; a flap shows."""
    with agent_alone(workdir) as (agent, server):
        server.answer = lambda request: [known(request, device_name="router_one")]
        for n in (1, 2, 3):
            with agent.connect(DEVICE) as device:
                call = server.wait_data(n)
                device.send(bgp.open_message(65001, "10.0.0.1") + bgp.keepalive())
                call.send(bgp.open_message(65001, "10.0.0.2") + bgp.keepalive())
                wait_device_metric(agent, n, "bgp_established_total")
                assert device_metric(agent, "up") == 1
                assert device_metric(agent, "bgp_messages_total", direction="up", message="open") == n
                device.half_close()
                device.wait_ended()
            wait_device_metric(agent, 0, "up")
        assert device_metric(agent, "bgp_messages_total", direction="down", message="keepalive") == 3
        assert device_metric(agent, "relayed_bytes_total", direction="up") \
            == 3 * len(bgp.open_message(65001, "10.0.0.1") + bgp.keepalive())
        assert device_metric(agent, "bgp_asn") == 65001, "what it was stays known"


@pytest.mark.parametrize("piece", [1, 20])
def test_notification_in_pieces(workdir, piece):
    """However TCP cuts it, it is read; and it arrives as it was sent."""
    with agent_alone(workdir) as (agent, server), agent.connect(DEVICE) as device:
        call = server.wait_data()
        data = bgp.open_message(65001, "10.0.0.1") + bgp.shutdown_notification("Zürich macht zu")
        for at in range(0, len(data), piece):
            device.send(data[at:at + piece])
            call.wait_data(min(at + piece, len(data)))
        device.half_close()
        line = agent.wait_for_log(ENDED)
        assert line["reason"] == "the router sent NOTIFICATION Cease/Administrative Shutdown: Zürich macht zu"
        assert line["ended-by"] == "router" and line["cause"] == "device_fin"
        assert bytes(call.session.data) == data


def test_hostile_text_stays_in_its_field(workdir):
    with agent_alone(workdir) as (agent, server), agent.connect(DEVICE) as device:
        call = server.wait_data()
        text = b'x"\n{"level":"error"}\x1b[2J\xff\0'
        data = bgp.notification(6, 2, bytes([len(text)]) + text)
        device.send(data)
        call.wait_data(len(data))
        wait_for(lambda: session(agent)["BGP"]["Router"]["LastNotification"], "the NOTIFICATION")
        shown = session(agent)["BGP"]["Router"]["LastNotification"]["Text"]
        assert "\n" not in shown and "\x1b" not in shown and "�" in shown
        device.half_close()
        line = agent.wait_for_log(ENDED)
        assert line["level"] == "info" and line["reason"].endswith(shown)


def test_what_is_no_bgp_is_relayed_unseen(workdir):
    """Not a byte is changed or held back because it cannot be read."""
    with agent_alone(workdir) as (agent, server), agent.connect(DEVICE) as device:
        call = server.wait_data()
        data = bgp.open_message(65001, "10.0.0.1") + b"GET / HTTP/1.1\r\n\r\n" + Pattern(3).take(200_000)
        device.send(data)
        assert call.wait_data(len(data)) == data
        seen = session(agent)["BGP"]
        assert seen["Router"]["Readable"] is False and seen["Target"]["Readable"] is True
        assert seen["ASN"] == 65001 and seen["State"] == "opensent"


# --- who ended it ---


def test_ends_without_a_notification(workdir):
    """TCP and the contract alone: each end names who and how, in the log and in the counter."""
    with agent_alone(workdir) as (agent, server):
        seen = []

        def end(how, by, cause, reason):
            with agent.connect(DEVICE) as device:
                call = server.wait_data(len(seen) + 1)
                agent.wait_sessions(1)
                how(device, call)
                wait_for(lambda: len(agent.find_log(ENDED)) > len(seen), "the line about the end")
            line = agent.find_log(ENDED)[-1]
            assert (line["ended-by"], line["cause"], line["reason"]) == (by, cause, reason)
            assert line["established-ms"] == 0 and line["hold-time"] == -1 and line["silent-up-ms"] == -1
            seen.append(cause)
            name = f'kbgp_sessions_closed_total{{cause="{cause}"}}'
            wait_for(lambda: metrics(agent)[name] == seen.count(cause), name)

        end(lambda device, call: device.half_close(), "router", "device_fin", "the router closed the connection")
        end(lambda device, call: device.reset(), "router", "device_reset", "the router reset the connection")
        end(lambda device, call: call.finish(), "target", "target_end", "the target closed the session")
        end(lambda device, call: call.kill(), "target", "target_kill", "the target sent KILL")
        end(lambda device, call: call.send_raw(b"\xff\xff\xff"), "agent", "agent_kill",
            "a message of the target was not usable, or memory for its bytes ran out")
        end(lambda device, call: server.control.push(pushed(DEVICE, action=BLOCK_IP, ttl_seconds=1)), "agent", "agent_kill",
            "the target denied the device")


def test_the_agent_stops(workdir):
    with agent_alone(workdir) as (agent, server), agent.connect(DEVICE) as device:
        server.wait_data()
        agent.wait_sessions(1)
        agent.signal(signal.SIGTERM)
        device.wait_ended()
        agent.wait_exit()
        (line,) = agent.find_log(ENDED)
        assert (line["ended-by"], line["cause"], line["reason"]) == ("agent", "shutdown", "the agent stops")


# --- with real routers ---


def target_sessions(target):
    connection = http.client.HTTPConnection("127.0.0.1", target.metrics_port, timeout=60)
    try:
        connection.request("GET", "/admin/sessions")
        return json.load(connection.getresponse())["Sessions"]
    finally:
        connection.close()


def test_bird_shuts_down_with_a_text(workdir, certs):
    routes = prefixes4(500)
    with chain(workdir, certs, {"router_one": DEVICE}) as (agent, target), \
            Bird(workdir, [Peer("peer", DEVICE, "127.0.0.1", agent.port)], {"many": routes}) as bird:
        bird.wait_established("peer")
        target.wait_prefixes(1, set(routes))
        seen = session(agent)["BGP"]
        assert (seen["State"], seen["ASN"], seen["RouterID"], seen["HoldTime"]) == \
            ("established", 65001, bird.router_id, 90)
        assert seen["Router"]["Messages"]["update"] >= 2 and seen["Router"]["MsSinceLastMessage"] >= 0
        (other,) = target_sessions(target)
        for key in ("State", "ASN", "RouterID", "HoldTime"):
            assert other["BGP"][key] == seen[key]
        assert other["BGP"]["Router"]["Messages"]["update"] == seen["Router"]["Messages"]["update"]

        bird.disable("peer", "maintenance until 6")
        line = agent.wait_for_log(ENDED)
        assert line["ended-by"] == "router" and line["device"] == "1:router_one:1-ipv4"
        assert line["reason"] == "the router sent NOTIFICATION Cease/Administrative Shutdown: maintenance until 6"
        assert target.wait_for_log(ENDED)["notification-up"] == "Cease/Administrative Shutdown: maintenance until 6"
        wait_device_metric(agent, 1, "bgp_notifications_total", direction="up", code="6", subcode="2")
        assert abs(device_metric(agent, "bgp_notification_timestamp_seconds", direction="up") - time.time()) < 60


def test_hold_time_of_a_router_that_hangs_expires(workdir, certs):
    with chain(workdir, certs, {"router_one": DEVICE}) as (agent, _target), \
            Bird(workdir, [Peer("peer", DEVICE, "127.0.0.1", agent.port, hold_time=6)]) as bird:
        bird.wait_established("peer")
        bird.signal(signal.SIGSTOP)
        try:
            line = agent.wait_for_log(ENDED)
        finally:
            bird.signal(signal.SIGCONT)
        assert line["ended-by"] == "target" and line["hold-time"] == 6
        assert line["reason"] == "the target sent NOTIFICATION " + line["notification-down"]
        assert line["notification-down"].startswith("Hold Timer Expired")
        assert line["silent-up-ms"] >= 4000 > line["silent-down-ms"]
        wait_device_metric(agent, 1, "bgp_notifications_total", direction="down", code="4", subcode="0")


def test_gobgp_and_bird_behind_the_target(workdir, certs):
    """Shutdowns from either daemon: each names the right side."""
    port = free_port()
    with Bird(workdir, [Peer("relayed", "127.0.0.1", "127.0.0.1", None, 65020, 65010)], listen_port=port) as backend, \
            chain(workdir, certs, {"router_one": DEVICE}, backend=f"tcp://127.0.0.1:{port}") as (agent, _target), \
            GoBgp(workdir, [Peer("agent", DEVICE, "127.0.0.1", agent.port, 65010, 65020)]) as router:
        router.wait_established("agent")
        wait_for(lambda: (session(agent) or {"BGP": {"State": ""}})["BGP"]["State"] == "established", "established")
        seen = session(agent)["BGP"]
        assert (seen["ASN"], seen["RouterID"], seen["Target"]["ASN"]) == (65010, router.router_id, 65020)
        router.shutdown("agent", "router is leaving")
        line = agent.wait_for_log(ENDED, pattern="router is leaving")
        assert line["ended-by"] == "router"
        assert line["reason"] == "the router sent NOTIFICATION Cease/Administrative Shutdown: router is leaving"
        wait_device_metric(agent, 2, "bgp_established_total")  # it comes back
        backend.disable("relayed", "backend is leaving")
        line = agent.wait_for_log(ENDED, pattern="backend is leaving")
        assert line["ended-by"] == "target"
        assert line["reason"] == "the target sent NOTIFICATION Cease/Administrative Shutdown: backend is leaving"
