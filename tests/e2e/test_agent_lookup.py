# SPDX-License-Identifier: Apache-2.0
"""How the agent asks about devices: one question for many connections, the cache, denials, pushed answers."""

import time

import grpc

from harness.grpc_target import GrpcTarget, blocked, known, pushed
from harness.scene import agent_alone
from harness.schema import BLOCK_IP
from harness.wait import wait_for

DENIED = "Deny-listed an INVALID / UNKNOWN device"


def connect_until(agent, server, number, source="127.0.0.2"):
    """Connects again and again until Data call `number` is there; returns the last connection, which stays open."""
    devices = []

    def attempt():
        if not devices or devices[-1].ended:
            devices.append(agent.connect(source))
        return len(server.datas) >= number

    wait_for(attempt, f"Data call {number}")
    for d in devices[:-1]:
        d.close()
    return devices[-1]


def test_simultaneous_connections_share_one_question(workdir):
    """100 connections of a device wait; one ControlRequest, whose answer (not to be cached) serves them all."""
    with agent_alone(workdir, GrpcTarget(workers=120), multi=100) as (agent, server):
        server.answer = lambda request: []
        devices = [agent.connect("127.0.0.2") for _ in range(100)]
        agent.wait_accepted(agent.port)
        server.wait_lookups(1)
        assert not server.datas, "a Data call before the answer"
        server.answer = lambda request: [known(request)]
        server.control.push(known(server.lookups()[0], ttl_seconds=0))
        wait_for(lambda: len(agent.find_log("opening Data stream")) == 100, "100 sessions opened", interval=0.3)
        assert len(server.lookups()) == 1
        for d in devices:
            assert d.ended is None
        for d in devices:
            d.reset()


def test_different_devices_are_asked_about_each(workdir):
    with agent_alone(workdir) as (agent, server):
        server.answer = lambda request: [known(request, ttl_seconds=600)]
        with agent.connect("127.0.0.2"), agent.connect("127.0.0.3"), agent.connect("127.0.0.2"):
            server.wait_data(3)
            assert sorted(r.device_ip for r in server.lookups()) == ["127.0.0.2", "127.0.0.3"]


def test_cached_for_ttl_seconds(workdir):
    """Asked once while the answer is valid, asked again when it is not."""
    ttl = 5
    with agent_alone(workdir) as (agent, server):
        server.answer = lambda request: [known(request, ttl_seconds=ttl)]
        for n in range(1, 4):
            with agent.connect():
                server.wait_data(n)
        begin = time.monotonic()
        assert len(server.lookups()) == 1

        def asked_again():
            agent.connect().close()
            return len(server.lookups()) == 2

        wait_for(asked_again, "a second question", interval=0.3)
        assert time.monotonic() - begin > ttl / 2, "asked again although the answer was still valid"


def test_not_cached_with_ttl_0(workdir):
    with agent_alone(workdir) as (agent, server):
        for n in range(1, 4):
            with agent.connect():
                server.wait_data(n)
            assert len(server.lookups()) == n


def test_ttl_counter(workdir):
    """The answer itself, then two returns from the cache, then a new question."""
    with agent_alone(workdir) as (agent, server):
        server.answer = lambda request: [known(request, ttl_seconds=600, ttl_counter=2)]
        asked = []
        for n in range(1, 6):
            with agent.connect():
                server.wait_data(n)
            asked.append(len(server.lookups()))
        assert asked == [1, 1, 1, 2, 2]


def test_block_ip_is_logged_once_and_then_refused(workdir):
    with agent_alone(workdir) as (agent, server):
        server.answer = lambda request: [blocked(request, 1200)]
        with agent.connect("127.0.0.2") as device:
            peer = f"127.0.0.2:{device.local[1]}"
            device.wait_ended()
            assert not device.received
        line = agent.wait_for_log(DENIED)
        assert line["component"] == "proxy/client-data" and line["service"] == "ktbgp-agent"
        assert line["device_ip"] == "127.0.0.2" and line["peer-addr"] == peer
        assert line["local-addr"] == f"127.0.0.1:{agent.port}" and len(line["sessid"]) == 36
        assert str(line["ttl_seconds"]) == "1200" and str(line["ttl_counter"]) == "0"
        for _ in range(10):
            with agent.connect("127.0.0.2") as device:
                device.wait_ended()
        assert len(server.lookups()) == 1 and len(agent.find_log(DENIED)) == 1 and not server.datas

        server.answer = lambda request: [known(request)]
        with agent.connect("127.0.0.3"):  # another device is none the worse
            server.wait_data()


def test_pushed_unblock_takes_effect_at_once(workdir):
    with agent_alone(workdir) as (agent, server):
        server.answer = lambda request: [blocked(request, 1200)]
        with agent.connect() as device:
            device.wait_ended()
        server.control.push(pushed("127.0.0.2", ttl_seconds=600, device_id=7, device_name="new", company_id=3))
        with connect_until(agent, server, 1):
            assert agent.wait_for_log("opening Data stream")["device"] == "3:new:7-ipv4"
            assert len(server.lookups()) == 1, "the pushed answer makes a question needless"


def test_pushed_answer_is_used_without_a_question(workdir):
    """Also for the connections that are waiting."""
    with agent_alone(workdir) as (agent, server):
        server.answer = lambda request: []
        with agent.connect("127.0.0.2"), agent.connect("127.0.0.2"):
            server.wait_lookups(1)
            agent.wait_accepted(agent.port)
            server.control.push(pushed("127.0.0.2", ttl_seconds=600))
            server.wait_data(2)
        assert len(server.lookups()) == 1


def test_pushed_block_ends_a_running_session(workdir):
    with agent_alone(workdir) as (agent, server):
        server.answer = lambda request: [known(request, ttl_seconds=600)]
        with agent.connect("127.0.0.2") as device, agent.connect("127.0.0.3") as other:
            server.wait_data(2)
            agent.wait_sessions(2)
            (call,) = [c for c in server.datas if c.value("device-ip") == "127.0.0.2"]
            server.control.push(pushed("127.0.0.2", action=BLOCK_IP, ttl_seconds=1200))
            device.wait_ended()
            call.wait_over()
            agent.wait_sessions(1)
            with agent.connect("127.0.0.2") as again:
                again.wait_ended(timeout=20)
            assert len(server.datas) == 2 and len(server.lookups()) == 2
            other.send(b"still here")
            wait_for(lambda: any(c.session.data == b"still here" for c in server.datas), "data of the other device")


def test_answers_still_valid_are_used_while_control_is_down(workdir):
    with agent_alone(workdir) as (agent, server):
        server.answer = lambda request: [known(request, ttl_seconds=600)]
        with agent.connect():
            server.wait_data()
        server.refuse_control = (grpc.StatusCode.UNAVAILABLE, "going away")
        server.control.finish(*server.refuse_control)
        wait_for(lambda: not agent.status()["ControlStream"]["Connected"], "Control down in the status")
        with agent.connect():
            server.wait_data(2)


def test_a_device_waits_for_an_answer_and_is_then_refused(workdir):
    """No answer from a target that is otherwise well: closed cleanly, and asked again the next time."""
    with agent_alone(workdir) as (agent, server):
        server.answer = lambda request: []
        with agent.connect() as device:
            device.send(b"\xff" * 16)
            device.wait_ended()
            assert not device.received
        server.answer = lambda request: [known(request)]
        with connect_until(agent, server, 1):
            pass


def test_kill_drops_the_cached_answer(workdir):
    with agent_alone(workdir) as (agent, server):
        server.answer = lambda request: [known(request, ttl_seconds=600)]
        with agent.connect() as device:
            server.wait_data().kill()
            device.wait_ended()
        with agent.connect():
            server.wait_data(2)
        assert len(server.lookups()) == 2
