# SPDX-License-Identifier: Apache-2.0
"""--multi: how many sessions share an HTTP/2 connection. The server counts connections by their client port."""

import collections

import pytest

from harness.grpc_target import GrpcTarget
from harness.pattern import Pattern, assert_stream
from harness.scene import agent_alone


@pytest.mark.parametrize("multi, sessions, connections", [(3, 7, 3), (1, 4, 4), (None, 10, 1), (None, 11, 2)])
def test_sessions_share_connections(workdir, multi, sessions, connections):
    with agent_alone(workdir, multi=multi) as (agent, server):
        devices = []
        try:
            for n in range(sessions):
                devices.append(agent.connect(f"127.0.1.{n + 1}"))
            server.wait_data(sessions)
            peers = collections.Counter(c.peer for c in server.datas)
            assert max(peers.values()) <= (multi or 10) and len(peers) == connections, peers
        finally:
            for d in devices:
                d.reset()


def test_a_seat_that_is_left_is_taken_again(workdir):
    """A session on a full connection ends: the next one comes there, and is no reason for another connection."""
    with agent_alone(workdir, multi=2) as (agent, server):
        devices = {}
        try:
            for n in range(4):
                devices[f"127.0.1.{n + 1}"] = agent.connect(f"127.0.1.{n + 1}")
            server.wait_data(4)
            first = server.datas[0]
            devices.pop(first.value("device-ip")).reset()
            first.wait_over()
            agent.wait_sessions(3)
            devices["127.0.1.9"] = agent.connect("127.0.1.9")
            server.wait_data(5)
            assert server.datas[4].peer == first.peer, [c.peer for c in server.datas]
        finally:
            for d in devices.values():
                d.reset()


def test_a_full_server_gets_another_connection(workdir):
    """MAX_CONCURRENT_STREAMS below --multi: no session waits for another to end."""
    server = GrpcTarget(options=[("grpc.max_concurrent_streams", 2)])
    with agent_alone(workdir, server) as (agent, server):
        devices = [agent.connect(f"127.0.1.{n + 1}") for n in range(5)]
        try:
            server.wait_data(5)
            peers = collections.Counter([c.peer for c in server.datas] + [server.control.peer])
            assert max(peers.values()) <= 2, peers
        finally:
            for d in devices:
                d.reset()


def test_sessions_on_one_connection_do_not_mix(workdir):
    """Five sessions with patterns of their own, one of them stuck: each gets its bytes, the stuck one holds up none."""
    length = 300_000
    with agent_alone(workdir, multi=5) as (agent, server):
        devices = {}
        try:
            for n in range(5):
                devices[f"127.0.1.{n + 1}"] = agent.connect(f"127.0.1.{n + 1}")
            server.wait_data(5)
            calls = {c.value("device-ip"): c for c in server.datas}
            assert len({c.peer for c in calls.values()}) == 1
            stuck = calls["127.0.1.1"]
            stuck.pause()
            devices["127.0.1.1"].flood(bytes(32 << 20), quiet=1)
            for ip, device in list(devices.items())[1:]:
                device.send_pattern(ip, length)
                calls[ip].send(Pattern(ip + " down").take(length))
            for ip, device in list(devices.items())[1:]:
                assert_stream(ip, calls[ip].wait_data(length), length, f"up of {ip}")
                assert_stream(ip + " down", device.wait_received(length), length, f"down of {ip}")
        finally:
            for d in devices.values():
                d.reset()
