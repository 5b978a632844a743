# SPDX-License-Identifier: Apache-2.0
"""kbgp-target's Data call, with grpcio as the agent and a scripted TCP server as the BGP daemon behind it."""

import random
import threading
import uuid

import grpc
import pytest

from harness import bgp
from harness.pattern import Pattern, assert_stream
from harness.scene import target_alone
from harness.schema import KILL, RESTART, DataRequest
from harness.tcp_peer import Backend
from harness.wait import wait_for, wait_settled

OK = grpc.StatusCode.OK


@pytest.mark.parametrize("tls", [False, True], ids=["h2c", "tls"])
def test_bytes_both_ways(workdir, certs, tls):
    """Messages of odd sizes with any number of data fields, empty ones among them; what comes back is in pieces ≤ 64 KiB."""
    random_ = random.Random(1)
    with target_alone(workdir, tls=certs.good if tls else None, ca_file=certs.ca if tls else None) \
            as (client, backend, _target):
        stream = client.data("127.0.0.2")
        headers = stream.initial_metadata()
        assert headers["counter-up"] == ["0"] and headers["counter-down"] == ["0"]
        assert "kbgp-resume" not in headers, "the client has not asked for it"
        daemon = backend.accept()
        pattern, length = Pattern("up"), 0
        for size in (1, 19, 65535, 65536, 65537, 1 << 20, (4 << 20) - 64):
            stream.send_data(pattern.take(size))
            length += size
        for _ in range(200):
            fields = [pattern.take(random_.choice([0, 1, 2, 127, 128, 4096])) for _ in range(random_.randrange(5))]
            stream.send_data(*fields)
            length += sum(map(len, fields))
        assert_stream("up", daemon.wait_received(length), length, "backend")
        daemon.send_pattern("down", 3 << 20)
        assert_stream("down", stream.wait_data(3 << 20), 3 << 20, "agent")
        assert max(sum(map(len, m.data)) for m in stream.messages) <= 65536
        assert not any(m.action for m in stream.messages)


def test_end_of_the_device(workdir):
    """END_STREAM: the backend has every byte and then FIN; what it still says is delivered, then status OK."""
    last = bgp.shutdown_notification("bye")
    with target_alone(workdir) as (client, backend, _target):
        stream = client.data("127.0.0.2")
        daemon = backend.accept()
        stream.send_data(Pattern(1).take(300_000))
        stream.send_data(last)
        stream.half_close()
        assert daemon.wait_ended() == "fin"
        assert daemon.received.endswith(last)
        assert_stream(1, bytes(daemon.received[:-len(last)]), 300_000, "backend")
        daemon.send_pattern(2, 500_000)
        daemon.close()
        assert stream.status() == (OK, "")
        assert_stream(2, bytes(stream.data), 500_000, "agent")


def test_end_of_the_backend(workdir):
    """The backend says its last word and closes: every byte, then status OK."""
    last = bgp.notification(6, 4)
    with target_alone(workdir) as (client, backend, _target):
        stream = client.data("127.0.0.2")
        daemon = backend.accept()
        daemon.send_pattern(2, 700_000)
        daemon.send(last)
        daemon.close()
        assert stream.status()[0] == OK
        assert stream.data.endswith(last)
        assert_stream(2, bytes(stream.data[:-len(last)]), 700_000, "agent")


def test_cancelled_call_closes_the_backend(workdir):
    """An agent that goes for good (its session is not taken up again) leaves no connection behind."""
    with target_alone(workdir) as (client, backend, _target):
        stream = client.data("127.0.0.2")
        daemon = backend.accept()
        stream.send_data(b"hello")
        daemon.wait_received(5)
        stream.send_data(action=KILL)
        stream.half_close()
        daemon.wait_ended()
        stream.status()


def test_backend_that_refuses(workdir):
    """No BGP daemon there: the call ends with a status that says so, and is no crash."""
    with target_alone(workdir) as (client, backend, target):
        backend.__exit__(None, None, None)
        code, text = client.data("127.0.0.2").status()
        assert code in (OK, grpc.StatusCode.UNAVAILABLE), (code, text)
        target.wait_for_log(level="warn error", pattern=f"127.0.0.1:{backend.port}")
        with Backend(port=backend.port) as again:
            stream = client.data("127.0.0.2")
            stream.send_data(b"now")
            again.accept().wait_received(3)


def test_a_backend_with_gtsm(workdir):
    """A BGP daemon that drops whatever has a smaller TTL than 255."""
    with target_alone(workdir) as (client, backend, _target):
        backend.want_ttl(255)
        stream = client.data("127.0.0.2")
        stream.send_data(b"up")
        daemon = backend.accept()
        daemon.wait_received(2)
        daemon.send(b"down")
        stream.wait_data(4)


def test_restart_by_the_agent(workdir):
    """A session over four calls, its counters right each time, the backend's connection the same, no byte lost."""
    session_id, up, down, sent, received = str(uuid.uuid4()), 0, 0, 0, 0
    pattern_up, pattern_down, data = Pattern("up"), Pattern("down"), bytearray()
    with target_alone(workdir) as (client, backend, _target):
        daemon = None
        for n in range(4):
            stream = client.data("127.0.0.2", session_id=session_id, up=up, down=down, received=data)
            headers = stream.initial_metadata()
            assert (headers["counter-up"], headers["counter-down"]) == ([str(up)], [str(down)]), f"call {n}"
            daemon = daemon or backend.accept()
            for size in (1, 5000, 70_000):
                stream.send_data(pattern_up.take(size))
                sent += size
            daemon.wait_received(sent)
            daemon.send(pattern_down.take(100_000))
            received += 100_000
            stream.wait_data(received)
            assert stream.restart() == (OK, "")
            up += stream.data_messages
            down += stream.received_messages
        assert_stream("up", bytes(daemon.received), sent, "backend")
        assert_stream("down", bytes(data), received, "agent")
        assert backend.count() == 1 and daemon.ended is None


def test_restart_while_the_backend_sends(workdir):
    """RESTART from the agent in the midst of a stream of the backend: nothing lost, nothing doubled."""
    session_id, up, down, data, length = str(uuid.uuid4()), 0, 0, bytearray(), 4 << 20
    with target_alone(workdir) as (client, backend, _target):
        stream = client.data("127.0.0.2", session_id=session_id, received=data)
        daemon = backend.accept()
        sender = threading.Thread(target=daemon.send_pattern, args=("down", length))
        sender.start()
        for n in range(1, 6):
            wait_for(lambda: len(data) >= n * length // 8, "progress")
            assert stream.restart() == (OK, "")
            assert stream.messages[-1].action == RESTART, "nothing may follow the RESTART"
            up += stream.data_messages
            down += stream.received_messages
            stream = client.data("127.0.0.2", session_id=session_id, up=up, down=down, received=data)
            assert stream.initial_metadata()["counter-down"] == [str(down)]
        stream.wait_data(length)
        sender.join(60)
        assert_stream("down", bytes(data), length, "agent")
        assert backend.count() == 1


@pytest.mark.parametrize("up, down", [(5, 0), (0, 5)])
def test_wrong_counters_of_a_new_session(workdir, up, down):
    """A session that the target does not know cannot have messages: KILL."""
    with target_alone(workdir) as (client, _backend, _target):
        stream = client.data("127.0.0.2", up=up, down=down)
        stream.wait_message(lambda m: m.action == KILL)
        stream.half_close()
        stream.status()


def test_wrong_counters_of_a_continued_session(workdir):
    session_id = str(uuid.uuid4())
    with target_alone(workdir) as (client, backend, _target):
        stream = client.data("127.0.0.2", session_id=session_id)
        daemon = backend.accept()
        stream.send_data(b"abc")
        daemon.wait_received(3)
        stream.restart()
        again = client.data("127.0.0.2", session_id=session_id, up=1 + stream.data_messages,
                            down=stream.received_messages)
        again.wait_message(lambda m: m.action == KILL)
        daemon.wait_ended()
        again.half_close()
        again.status()


def test_continued_with_counters_that_leave_out_actions(workdir):
    """An agent that does not count its RESTART reads the contract the other way; that is accepted."""
    session_id = str(uuid.uuid4())
    with target_alone(workdir) as (client, backend, _target):
        stream = client.data("127.0.0.2", session_id=session_id)
        daemon = backend.accept()
        stream.send_data(b"abc")
        daemon.wait_received(3)
        stream.restart()
        again = client.data("127.0.0.2", session_id=session_id, up=1, down=0)
        again.send_data(b"def")
        assert daemon.wait_received(6) == b"abcdef"
        assert not again.messages


def test_a_message_over_4_mib(workdir):
    with target_alone(workdir) as (client, _backend, target):
        stream = client.data("127.0.0.2")
        stream.send_data(bytes((4 << 20) + 65536))
        code, _text = stream.status()
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
        target.assert_running()


@pytest.mark.parametrize("junk", [b"\x12\xff\xff\xff\xff\x7fxx", b"\xff\xff\xff", b"\x17"], ids=["length", "varint", "type"])
def test_malformed_message(workdir, junk):
    with target_alone(workdir) as (client, backend, target):
        stream = client.data("127.0.0.2")
        daemon = backend.accept()
        stream.send_data(b"before")
        stream.send(junk)
        code, _text = stream.status()
        assert code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL)
        assert bytes(daemon.received) in (b"", b"before"), "nothing of the bad message"
        target.assert_running()


def test_unknown_fields_and_actions_are_skipped(workdir):
    """A later version of the contract may have more fields: they mean nothing here."""
    with target_alone(workdir) as (client, backend, _target):
        stream = client.data("127.0.0.2")
        daemon = backend.accept()
        unknown = b"\x9a\x06\x03xyz" + b"\xa0\x06\x05" + b"\xa9\x06" + bytes(8) + b"\xb5\x06" + bytes(4)
        stream.send(unknown + DataRequest(data=[b"abc"]).SerializeToString() + unknown)
        stream.send_data(b"def")
        assert daemon.wait_received(6) == b"abcdef"


def test_a_backend_that_stops_reading_stops_the_agent(workdir):
    piece, number = 65536, 1000
    with target_alone(workdir) as (client, backend, target):
        stream = client.data("127.0.0.2")
        daemon = backend.accept()
        daemon.pause()
        before = target.rss()
        pattern = Pattern(1)
        for _ in range(number):
            stream.send_data(pattern.take(piece))
        taken = wait_settled(lambda: stream.sent, "messages of the agent") * piece
        assert taken < 40 << 20
        assert target.rss() - before < 24 << 20
        daemon.resume()
        assert_stream(1, daemon.wait_received(number * piece), number * piece, "backend")


def test_an_agent_that_stops_reading_stops_the_backend(workdir):
    offered = 64 << 20
    with target_alone(workdir) as (client, backend, target):
        stream = client.data("127.0.0.2")
        daemon = backend.accept()
        stream.initial_metadata()
        stream.pause()
        before = target.rss()
        data = Pattern(2).take(offered)
        taken = daemon.flood(data)
        assert taken < 40 << 20
        assert target.rss() - before < 24 << 20
        stream.resume()
        daemon.send(data[taken:])
        assert_stream(2, stream.wait_data(offered), offered, "agent")


def test_one_stuck_session_holds_up_no_other(workdir):
    """Two sessions on one HTTP/2 connection, the backend of the first reads nothing."""
    with target_alone(workdir, {"router_one": "127.0.0.2", "router_two": "127.0.0.3"}) as (client, backend, _target):
        stuck = client.data("127.0.0.2")
        daemon = backend.accept()
        daemon.pause()
        for _ in range(300):
            stuck.send_data(bytes(65536))
        wait_settled(lambda: stuck.sent, "messages of the stuck session", quiet=1)
        other = client.data("127.0.0.3")
        second = backend.accept()
        other.send_data(Pattern(3).take(500_000))
        assert_stream(3, second.wait_received(500_000), 500_000, "second backend")
        second.send_pattern(4, 500_000)
        assert_stream(4, other.wait_data(500_000), 500_000, "second agent session")
