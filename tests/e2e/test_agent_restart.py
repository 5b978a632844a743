# SPDX-License-Identifier: Apache-2.0
"""A session over several Data calls: RESTART, transient errors, refusals. The device's connection knows nothing of it."""

import threading

import grpc
import pytest

from harness.grpc_target import GrpcTarget, known
from harness.pattern import Pattern, assert_stream
from harness.scene import agent_alone
from harness.wait import wait_for

SAME_KEYS = ("session-id", "instance", "proto", "device-ip", "device-port", "proxy-ip", "proxy-port")


def continued(call, first):
    """Asserts that `call` goes on with the session of `first`; returns the counters that the agent tells."""
    for key in SAME_KEYS:
        assert call.metadata[key] == first.metadata[key], key
    return int(call.value("counter-up")), int(call.value("counter-down"))


def test_restart_of_an_idle_session(workdir):
    with agent_alone(workdir) as (agent, server), agent.connect() as device:
        first = server.wait_data()
        first.restart()
        second = server.wait_data(2)
        assert first.got_restart and first.over.is_set()
        assert continued(second, first) == (1, 1), "each RESTART is a message"
        device.send(b"up")
        second.wait_data(2)
        second.send(b"down")
        device.wait_received(4)
        assert len(agent.sessions()) == 1


def test_repeated_restart_while_data_flows_both_ways(workdir):
    """Eight RESTARTs of the server in the midst of two streams: every byte arrives once, counters always agree."""
    restarts, length = 8, 6 << 20
    with agent_alone(workdir) as (agent, server), agent.connect() as device:
        first = server.wait_data()
        session = first.session
        failures = []

        def up():
            try:
                device.send_pattern("up", length)
            except Exception as e:  # shown at the end
                failures.append(e)

        down_data = Pattern("down").take(length)
        stop = threading.Event()
        threads = [threading.Thread(target=up),
                   threading.Thread(target=session.send_stream, args=(down_data,), kwargs={"piece": 5000, "stop": stop})]
        for t in threads:
            t.start()
        try:
            for n in range(1, restarts + 1):
                step = n * length // (restarts + 2)
                wait_for(lambda: len(session.data) >= step and len(device.received) >= step, f"progress before RESTART {n}")
                session.call.restart()
                again = server.wait_data(n + 1)
                told = continued(again, first)
                assert told == again.counted, f"RESTART {n}: the agent says {told}, the server counted {again.counted}"
            for t in threads:
                t.join(60)
            assert not failures and not any(t.is_alive() for t in threads), failures
            assert_stream("up", server.datas[-1].wait_data(length), length, "server")
            assert_stream("down", device.wait_received(length), length, "device")
        finally:
            stop.set()
            device.reset()
        assert len(server.datas) == restarts + 1


def test_counters_without_action_messages_are_accepted(workdir):
    """A server that does not count RESTARTs reads the contract the other way; its numbers fit exactly, so no KILL."""
    def without_actions(call):
        s = call.session
        return [("counter-up", str(s.received_messages - s.received_actions)),
                ("counter-down", str(s.sent_messages - s.sent_actions))]

    with agent_alone(workdir) as (agent, server):
        server.initial_metadata = without_actions
        with agent.connect() as device:
            total = b""
            for n in range(1, 5):
                call = server.wait_data(n)
                device.send(b"ping%d" % n)
                total += b"ping%d" % n
                assert call.wait_data(len(total)) == total
                call.send(b"pong")
                device.wait_received(4 * n)
                call.restart()
            server.wait_data(5)
            assert device.ended is None and not any(c.got_kill for c in server.datas)


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL])
def test_transient_error_continues_the_session(workdir, code):
    """Nothing was outstanding, so the counters agree and the session goes on."""
    with agent_alone(workdir) as (agent, server), agent.connect() as device:
        first = server.wait_data()
        device.send(b"one")
        first.wait_data(3)
        first.send(b"two")
        device.wait_received(3)
        first.finish(code, "try again")
        second = server.wait_data(2)
        assert continued(second, first) == (1, 1)
        device.send(b"three")
        assert second.wait_data(8) == b"onethree"
        assert device.ended is None


def test_error_before_the_first_answer(workdir):
    """The first Data call is refused as UNAVAILABLE (a draining server): the next try has the same session-id."""
    with agent_alone(workdir) as (agent, server):
        server.refuse_data = lambda call: None if server.datas[1:] or len(call.session.calls) else \
            (grpc.StatusCode.UNAVAILABLE, "draining")
        with agent.connect() as device:
            first = server.wait_data()
            second = server.wait_data(2)
            assert first.value("session-id") == second.value("session-id")
            device.send(b"there")
            second.wait_data(5)


def test_permission_denied_asks_control_anew(workdir):
    with agent_alone(workdir) as (agent, server):
        server.answer = lambda request: [known(request, ttl_seconds=600)]
        server.refuse_data = (grpc.StatusCode.PERMISSION_DENIED, "no such device")
        devices = [agent.connect()]
        try:
            server.wait_data()
            server.refuse_data = None

            def asked_again():
                if devices[-1].ended:
                    devices.append(agent.connect())
                return len(server.lookups()) >= 2 and any(not c.over.is_set() for c in server.datas)

            wait_for(asked_again, "a second question and a Data call that is served")
        finally:
            for d in devices:
                d.close()


def test_lost_connection_is_made_again(workdir):
    """The server goes away without a word and comes back on the same port: Control and new sessions work again."""
    with agent_alone(workdir) as (agent, server):
        server.answer = lambda request: [known(request, ttl_seconds=600)]
        with agent.connect():
            server.wait_data()
        port = server.port
        server.__exit__(None, None, None)
        wait_for(lambda: not agent.status()["ControlStream"]["Connected"], "Control down in the status")
        with GrpcTarget(port=port) as again:
            again.wait_control()
            wait_for(lambda: agent.status()["ControlStream"]["Connected"], "Control up in the status")
            assert again.control.value("instance") == server.controls[0].value("instance")
            with agent.connect("127.0.0.3"):
                again.wait_data()
