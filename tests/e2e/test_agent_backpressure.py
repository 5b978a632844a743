# SPDX-License-Identifier: Apache-2.0
"""Who does not read stops the one who sends, end to end, and the agent's memory does not grow meanwhile."""

from harness.grpc_target import pushed
from harness.pattern import Pattern, assert_stream
from harness.scene import agent_alone
from harness.schema import BLOCK_IP
from harness.wait import wait_settled

OFFERED = 64 << 20
# Socket buffers of the kernel on both sides (up to 6 MB each), windows and rings; far below what is offered.
BOUND = 40 << 20
GROWTH = 24 << 20


def test_a_server_that_stops_reading_stops_the_device(workdir):
    with agent_alone(workdir) as (agent, server), agent.connect() as device:
        call = server.wait_data()
        call.pause()
        before = agent.rss()
        data = Pattern(1).take(OFFERED)
        taken = device.flood(data)
        assert taken < BOUND, f"{taken} bytes taken although the server reads nothing"
        assert agent.rss() - before < GROWTH, "the agent keeps what the server does not read"
        call.resume()
        device.send(data[taken:])
        assert_stream(1, call.wait_data(OFFERED), OFFERED, "server")
        assert agent.rss() - before < GROWTH


def test_a_device_that_stops_reading_stops_the_server(workdir):
    piece = 65536
    with agent_alone(workdir) as (agent, server), agent.connect() as device:
        device.pause()
        call = server.wait_data()
        before = agent.rss()
        pattern = Pattern(2)
        for _ in range(OFFERED // piece):
            call.send(pattern.take(piece))
        taken = wait_settled(lambda: call.sent, "messages of the server") * piece
        assert taken < BOUND, f"{taken} bytes taken although the device reads nothing"
        assert agent.rss() - before < GROWTH, "the agent keeps what the device does not read"
        device.resume()
        assert_stream(2, device.wait_received(OFFERED), OFFERED, "device")
        assert agent.rss() - before < GROWTH


def test_a_server_that_takes_no_kill(workdir):
    """The device is denied while its session stands still: not even the KILL gets through. The agent cuts the session after 5 s."""
    with agent_alone(workdir) as (agent, server), agent.connect("127.0.0.7") as device, agent.connect("127.0.0.8") as other:
        server.wait_data().pause()
        server.wait_data(2)
        agent.wait_sessions(2)
        calls = {call.value("device-ip"): call for call in server.datas}
        calls["127.0.0.7"].pause()
        calls["127.0.0.8"].resume()
        device.flood(Pattern(1).take(OFFERED))
        server.control.push(pushed("127.0.0.7", action=BLOCK_IP, ttl_seconds=60))
        device.wait_ended()
        line = agent.wait_for_log("session ended")
        assert line["cause"] == "agent_kill" and line["reason"].endswith("the target did not take the KILL")
        agent.wait_sessions(1)
        data = Pattern(2).take(1000)
        other.send(data)
        assert calls["127.0.0.8"].wait_data(len(data)) == data
