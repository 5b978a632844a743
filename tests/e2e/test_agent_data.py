# SPDX-License-Identifier: Apache-2.0
"""Bytes through the agent: message sizes, order, ends. The server is grpcio, the device a socket."""

import random

import grpc
import pytest

from harness import bgp
from harness.grpc_target import known
from harness.pattern import Pattern, assert_stream
from harness.scene import agent_alone
from harness.schema import KILL
from harness.wait import wait_for


def test_messages_carry_at_most_64_kib(workdir):
    length = 8 << 20
    with agent_alone(workdir) as (agent, server), agent.connect() as device:
        call = server.wait_data()
        device.send_pattern(1, length)
        assert_stream(1, call.wait_data(length), length, "server")
        sizes = [sum(map(len, r.data)) for r in call.requests]
        assert max(sizes) <= 65536
        assert min(sizes) > 0, "an empty message"


def test_small_writes_arrive_as_they_are_sent(workdir):
    """No timer waits for more: a BGP KEEPALIVE of 19 bytes goes out by itself, and its answer comes back."""
    with agent_alone(workdir) as (agent, server), agent.connect() as device:
        call = server.wait_data()
        for n in range(1, 51):
            device.send(bgp.keepalive())
            call.wait_data(19 * n)
            call.send(bgp.keepalive())
            device.wait_received(19 * n)
        assert call.session.data == bytes(device.received) == bgp.keepalive() * 50


@pytest.mark.parametrize("size", [1, 65535, 65536, 1 << 20, (4 << 20) - 64])
def test_server_messages_of_any_size(workdir, size):
    with agent_alone(workdir) as (agent, server), agent.connect() as device:
        call = server.wait_data()
        data = Pattern(size).take(2 * size)
        call.send(data[:size])
        call.send(data[size:])
        assert_stream(size, device.wait_received(2 * size), 2 * size, "device")


def test_repeated_and_empty_data_fields(workdir):
    """`data` is repeated: the fields of a message follow each other; empty fields and empty messages mean nothing."""
    random_ = random.Random(5)
    with agent_alone(workdir) as (agent, server), agent.connect() as device:
        call = server.wait_data()
        pattern, length = Pattern(9), 0
        for _ in range(50):
            fields = [pattern.take(random_.choice([0, 1, 2, 127, 128, 5000])) for _ in range(random_.randrange(6))]
            length += sum(map(len, fields))
            call.send(*fields)
        assert_stream(9, device.wait_received(length), length, "device")
        device.send(b"alive")
        call.wait_data(5)


def test_a_message_over_4_mib_ends_that_session_only(workdir):
    with agent_alone(workdir) as (agent, server), agent.connect("127.0.0.2") as device, \
            agent.connect("127.0.0.3") as other:
        server.wait_data(2)
        calls = {c.value("device-ip"): c for c in server.datas}
        calls["127.0.0.2"].send(bytes((4 << 20) + 65536))
        calls["127.0.0.2"].wait_over()
        calls["127.0.0.3"].send(b"fine")
        other.wait_received(4)
        agent.assert_running()
        assert device.received == bytes(len(device.received))


def test_ok_ends_the_session_and_delivers_every_byte(workdir):
    """The target's end with status OK, data right before it: the device gets all of it and then a plain FIN."""
    length = 600_000
    with agent_alone(workdir) as (agent, server), agent.connect() as device:
        call = server.wait_data()
        call.session.send_stream(Pattern(2).take(length))
        call.finish()
        assert device.wait_ended() == "fin"
        assert_stream(2, bytes(device.received), length, "device")
        wait_for(lambda: not agent.sessions(), "end of the session in /admin/sessions")


def test_ok_to_a_device_that_reads_late(workdir):
    """As before, with a device that reads nothing until the stream is long over."""
    length = 2 << 20
    with agent_alone(workdir) as (agent, server), agent.connect() as device:
        device.pause()
        call = server.wait_data()
        call.session.send_stream(Pattern(2).take(length))
        call.finish()
        wait_for(lambda: call.sent == -(-length // 8192) or call.over.is_set(), "all messages taken by gRPC")
        device.resume()
        assert device.wait_ended() == "fin"
        assert_stream(2, bytes(device.received), length, "device")


def test_fin_of_the_device_comes_after_its_last_byte(workdir):
    """A NOTIFICATION sent right before the connection is closed reaches the server, then END_STREAM."""
    length = 500_000
    last = bgp.shutdown_notification("maintenance window")
    with agent_alone(workdir) as (agent, server):
        device = agent.connect()
        call = server.wait_data()
        device.send_pattern(3, length)
        device.send(last)
        device.close()
        wait_for(lambda: call.client_done, "END_STREAM of the agent")
        data = bytes(call.session.data)
        assert data.endswith(last)
        assert_stream(3, data[:-len(last)], length, "server")
        assert not any(r.action for r in call.requests), "an orderly end needs no action"


def test_fin_before_the_data_call_is_up(workdir):
    """Everything was sent and closed while the lookup was still running: it arrives all the same."""
    last = bgp.notification(6, 7)
    with agent_alone(workdir) as (agent, server):
        server.answer = lambda request: []
        with agent.connect() as device:
            device.send(b"x" * 10_000 + last)
            device.half_close()
            server.wait_lookups(1)
            server.control.push(known(server.lookups()[0]))
            call = server.wait_data()
            call.wait_data(10_000 + len(last))
            assert call.session.data == b"x" * 10_000 + last


def test_half_close_leaves_the_other_direction_open(workdir):
    length = 400_000
    with agent_alone(workdir) as (agent, server), agent.connect() as device:
        server.end_with_client = False
        call = server.wait_data()
        device.send(b"last words")
        device.half_close()
        wait_for(lambda: call.client_done, "END_STREAM of the agent")
        assert call.session.data == b"last words"
        call.session.send_stream(Pattern(4).take(length))
        assert_stream(4, device.wait_received(length), length, "device")
        assert device.ended is None
        call.finish()
        assert device.wait_ended() == "fin"


def test_reset_of_the_device_ends_the_call(workdir):
    with agent_alone(workdir) as (agent, server):
        device = agent.connect()
        call = server.wait_data()
        server.end_with_client = False
        device.send(b"hello")
        call.wait_data(5)
        device.reset()
        wait_for(lambda: call.client_done, "end of the agent's half")
        call.finish()
        wait_for(lambda: not agent.sessions(), "end of the session in /admin/sessions")


def test_kill_of_the_server_closes_the_device(workdir):
    with agent_alone(workdir) as (agent, server), agent.connect() as device:
        call = server.wait_data()
        call.kill()
        device.wait_ended()
        call.wait_over()
        wait_for(lambda: not agent.sessions(), "end of the session in /admin/sessions")
        assert len(server.datas) == 1, "a KILL must not be followed by another try"


def test_wrong_counters_are_answered_with_kill(workdir):
    """The server claims seven messages that were never sent: KILL arrives, the device is closed, the cache is dropped."""
    with agent_alone(workdir) as (agent, server):
        server.answer = lambda request: [known(request, ttl_seconds=600)]
        server.initial_metadata = lambda call: [("counter-up", "7"), ("counter-down", "0")]
        with agent.connect() as device:
            call = server.wait_data()
            device.wait_ended()
            wait_for(lambda: call.client_done, "END_STREAM after the KILL")
            assert [r.action for r in call.requests] == [KILL]
        server.initial_metadata = server.counters
        with agent.connect():
            server.wait_data(2)
        assert len(server.lookups()) == 2


@pytest.mark.parametrize("pairs", [[], [("counter-up", "0")]], ids=["none", "only-up"])
def test_a_server_without_counters_does_not_check(workdir, pairs):
    with agent_alone(workdir) as (agent, server):
        server.initial_metadata = lambda call: pairs
        with agent.connect() as device:
            call = server.wait_data()
            device.send(b"ping")
            call.wait_data(4)
            call.send(b"pong")
            device.wait_received(4)


def test_garbage_of_a_router_is_relayed_untouched(workdir):
    """What is no BGP is none of the agent's business."""
    length = 200_000
    with agent_alone(workdir) as (agent, server), agent.connect() as device:
        call = server.wait_data()
        device.send_pattern(6, length, piece=1237)
        assert_stream(6, call.wait_data(length), length, "server")


def test_many_connections_that_close_at_once(workdir):
    """Nothing is left of them, and a proper session after them is as good as before."""
    with agent_alone(workdir) as (agent, server):
        for n in range(60):
            device = agent.connect(f"127.0.2.{n + 1}")
            device.reset() if n % 2 else device.close()
        wait_for(lambda: not agent.sessions(), "/admin/sessions empty")
        with agent.connect("127.0.0.9") as device:
            device.send(b"proper")
            wait_for(lambda: any(s.data == b"proper" for s in server.sessions.values()), "data of the proper session")


def test_invalid_protobuf_from_the_server(workdir):
    """A server that sends what is no message: the session may die, the agent and its other sessions do not."""
    with agent_alone(workdir) as (agent, server), agent.connect("127.0.0.2") as device:
        call = server.wait_data()
        call.send_raw(b"\x12\xff\xff\xff\xff\x0fgarbage")
        wait_for(lambda: call.over.is_set() or device.ended, "the session's end")
        agent.assert_running()
        with agent.connect("127.0.0.3") as other:
            wait_for(lambda: [c for c in server.datas if c.value("device-ip") == "127.0.0.3"], "another Data call")
            other.send(b"ok")
            wait_for(lambda: any(s.data == b"ok" for s in server.sessions.values()), "its data")


def test_cancelled_by_the_server(workdir):
    """A status other than OK with nothing outstanding is transient: the device's connection stays."""
    with agent_alone(workdir) as (agent, server), agent.connect() as device:
        call = server.wait_data()
        call.finish(grpc.StatusCode.CANCELLED, "moved")
        again = server.wait_data(2)
        assert again.session is call.session and device.ended is None
