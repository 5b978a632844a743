# SPDX-License-Identifier: Apache-2.0
"""The harness against itself: what it says about our programs is only worth something if its own parts work and can fail."""

import grpc
import pytest

from harness import bgp, schema, tcp_peer
from harness.bird import Bird
from harness.frr import Frr
from harness.gobgp import GoBgp
from harness.grpc_agent import GrpcAgent
from harness.grpc_target import GrpcTarget
from harness.net import Chain, in_namespace
from harness.openbgpd import OpenBgpd
from harness.pattern import Pattern, assert_stream, first_difference
from harness.ports import free_port
from harness.proc import Program, run
from harness.router import Peer, prefixes4
from harness.wait import wait_for


def test_pattern_finds_a_lost_a_doubled_and_a_wrong_byte():
    pattern, data = Pattern(1), b""
    for size in (1, 2, 3, 65535, 65536, 65537, 100000):
        data += pattern.take(size)
    assert first_difference(1, data) is None
    assert first_difference(1, data[:70000] + data[70001:]) is not None
    assert first_difference(1, data[:70000] + data[69999:]) is not None
    wrong = bytearray(data)
    wrong[123456] ^= 1
    assert first_difference(1, wrong) == 123456
    with pytest.raises(AssertionError):
        assert_stream(1, data[:-1], len(data), "short")


def test_tcp_peers_end_as_told():
    with tcp_peer.Backend() as backend:
        with tcp_peer.connect(backend.port, source="127.0.0.9") as device:
            there = backend.accept()
            assert there.peer[0] == "127.0.0.9"
            device.send_pattern(1, 300_000)
            device.half_close()
            there.wait_received(300_000)
            assert there.wait_ended() == "fin"
            there.send_pattern(2, 100_000)
            there.close()
            assert_stream(2, device.wait_received(100_000), 100_000, "device")
            assert device.wait_ended() == "fin"
        with tcp_peer.connect(backend.port) as device:
            there = backend.accept()
            device.reset()
            assert there.wait_ended() == "rst"
        with tcp_peer.connect(backend.port) as device:
            there = backend.accept()
            there.pause()
            data = Pattern(3).take(32 << 20)
            taken = device.flood(data)
            assert taken < len(data), "nobody stopped it"
            there.resume()
            assert_stream(3, there.wait_received(taken), taken, "backend")


def test_a_program_that_fails_is_noticed(workdir):
    with pytest.raises(AssertionError, match="exit code 3"):
        with Program("fails", ["sh", "-c", "exit 3"], workdir) as program:
            program.wait_exit()
    with pytest.raises(AssertionError, match="sanitizer"):
        with Program("leaks", ["sh", "-c", "echo 'x.c:1:2: runtime error: overflow' >&2"], workdir) as program:
            program.wait_exit()
    with pytest.raises(AssertionError, match="did not end"):
        with Program("stubborn", ["sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 0.1; done"], workdir) as program:
            program.wait_for_text("deaf")
            program.stop(timeout=0.5)


def test_grpc_agent_and_grpc_target(certs):
    """The protocol between two grpcio scripts: lookup, data both ways, RESTART from either side, the end."""
    with GrpcTarget(tls=certs.good) as server, GrpcAgent(server.address, "e@example.com", "t", certs.ca) as client:
        control = client.control()
        control.send(schema.ControlRequest(action=schema.KEEPALIVE))
        control.wait_message(lambda m: m.action == schema.KEEPALIVE)
        assert client.lookup(control, "127.0.0.2").device_name == "a6r_kx1"

        session_id = "cbce1788-bb34-4c2c-8056-5b3224d4e893"
        first = client.data("127.0.0.2", session_id=session_id)
        call = server.wait_data()
        assert call.value("session-id") == session_id and call.value("device-ip") == "127.0.0.2"
        assert first.initial_metadata()["counter-up"] == ["0"]
        first.send_data(b"abc", b"def")
        assert call.wait_data(6) == b"abcdef"
        call.send(b"xyz")
        assert first.wait_data(3) == b"xyz"
        assert first.restart() == (grpc.StatusCode.OK, "")

        second = client.data("127.0.0.2", session_id=session_id, up=2, down=2)
        call = server.wait_data(2)
        assert second.initial_metadata()["counter-up"] == ["2"] and second.initial_metadata()["counter-down"] == ["2"]
        call.restart()
        second.wait_message(lambda m: m.action == schema.RESTART)
        second.send_data(action=schema.RESTART)
        second.half_close()
        assert second.status()[0] == grpc.StatusCode.OK

        server.refuse_data = (grpc.StatusCode.PERMISSION_DENIED, "who?")
        assert client.data("127.0.0.3").status() == (grpc.StatusCode.PERMISSION_DENIED, "who?")


def test_grpc_backpressure_is_seen():
    """A reader that stops makes the other side's messages stay where they are: both directions."""
    with GrpcTarget() as server, GrpcAgent(server.address, "e@example.com", "t") as client:
        stream = client.data("127.0.0.2")
        call = server.wait_data()
        call.pause()
        for _ in range(500):
            stream.send_data(bytes(65536))
        wait_for(lambda: stream.sent > 0, "first message taken")
        assert stream.sent < 400
        call.resume()
        call.wait_data(500 * 65536)


def test_scripted_speaker_with_bird(workdir):
    """Our hand-made BGP messages are good enough for BIRD: session, routes, a shutdown text."""
    port = free_port()
    with Bird(workdir, [Peer("scripted", "127.0.0.1", "127.0.0.5", None)], {"own": prefixes4(3, "99.0.0.0")},
              listen_port=port) as bird:
        with tcp_peer.connect(port, source="127.0.0.5") as device:
            speaker = bgp.Speaker(device)
            speaker.establish()
            bird.wait_established("scripted")
            device.send(bgp.update(prefixes4(10)))
            bird.wait_count("scripted", 10)
            device.send(bgp.update(withdrawn=prefixes4(4)))
            bird.wait_count("scripted", 6)
            bird.disable("scripted", "good night")
            assert b"good night" in speaker.wait_message(bgp.NOTIFICATION)


@pytest.mark.parametrize("router", [GoBgp, Frr, OpenBgpd], ids=lambda r: r.__name__)
def test_daemons_with_bird(workdir, router):
    port = free_port()
    with Bird(workdir, [Peer("daemon", "127.0.0.1", "127.0.0.6", None)], {"own": prefixes4(10)}, listen_port=port) as bird:
        with router(workdir, [Peer("bird", "127.0.0.6", "127.0.0.1", port)]) as daemon:
            daemon.wait_established("bird")
            bird.wait_established("daemon")
            bird.disable("daemon", "good night")
            daemon.wait_down("bird")


def test_namespaces(namespaces):
    """The router reaches the agent, the agent the target, the router not the target; afterwards nothing is left."""
    with Chain() as chain:
        for ns, address in ((chain.router, chain.agent4), (chain.router, chain.agent6), (chain.agent, chain.target4),
                            (chain.agent, chain.target6), (chain.target, chain.uplink4)):
            with pytest.raises(ConnectionRefusedError):  # there, and nobody listens
                in_namespace(ns, lambda a=address: tcp_peer.connect(9, a))
        for address in (chain.target4, chain.target6):
            with pytest.raises(OSError, match="unreachable"):
                in_namespace(chain.router, lambda a=address: tcp_peer.connect(9, a, timeout=3))
        names = {chain.router, chain.agent, chain.target}
        assert names <= set(run(["ip", "netns", "list"]).stdout.split())
    assert not names & set(run(["ip", "netns", "list"]).stdout.split())
