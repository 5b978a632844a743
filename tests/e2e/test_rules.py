# SPDX-License-Identifier: Apache-2.0
"""Rules of the protocol that show only with an unkind peer: resets with last words, targets that never come to rest."""

import re
import socket
import struct
import time

import grpc
import pytest

from harness.agent import Agent
from harness.grpc_target import GrpcTarget, blocked, known, pushed
from harness.net import Chain, in_namespace
from harness.odd_server import OddServer, frame
from harness.proc import run
from harness.scene import agent_alone, target_alone
from harness.wait import wait_for

DENIED = "Deny-listed an INVALID / UNKNOWN device"


# --- last words in front of a reset ---


@pytest.mark.parametrize("length", [10, 5000, 50000])
def test_bytes_in_front_of_a_reset_arrive(workdir, length):
    """The router resets while everything it said still lies in the socket: all of it is read first, then the reset."""
    data = bytes(range(256)) * (length // 256 + 1)
    with agent_alone(workdir) as (agent, server):
        server.answer = lambda request: []
        device = agent.connect()
        server.wait_lookups(1)
        device.send(data[:length])
        device.reset()
        server.control.push(known(server.lookups()[0]))
        assert server.wait_data().wait_data(length) == data[:length]
        wait_for(lambda: not agent.sessions(), "end of the session")
        agent.wait_for_log("session ended")


def test_bytes_in_front_of_a_reset_arrive_although_there_is_something_to_write(workdir):
    """The error is found by writing: a router says NOTIFICATION and closes with our KEEPALIVE unread."""
    data = b"notification" * 500
    with agent_alone(workdir) as (agent, server):
        server.answer = lambda request: []
        device = agent.connect()
        server.wait_lookups(1)
        original = server.initial_metadata

        def metadata(call):
            call.send(b"keepalive" * 1000)
            return original(call)

        server.initial_metadata = metadata
        device.send(data)
        device.reset()
        server.control.push(known(server.lookups()[0]))
        assert server.wait_data().wait_data(len(data)) == data
        wait_for(lambda: not agent.sessions(), "end of the session")


@pytest.mark.parametrize("length", [10, 5000, 50000])
def test_bytes_in_front_of_a_reset_of_the_backend_arrive(workdir, length):
    data = bytes(range(256)) * (length // 256 + 1)
    with target_alone(workdir) as (client, backend, target):
        call = client.data("127.0.0.2")
        far = backend.accept()
        call.send_data(b"hello")
        far.wait_received(5)
        far.pause()
        call.send_data(b"unread" * 500)
        far.send(data[:length])
        far.reset()
        assert call.wait_data(length) == data[:length]
        call.status()


# --- Control's answers ---


def test_ttl_counter_of_a_denial(workdir):
    """The answer itself, then two refusals from the cache, then a new question."""
    def answer(request):
        denial = blocked(request, 1200)
        denial.ttl_counter = 2
        return [denial]

    with agent_alone(workdir) as (agent, server):
        server.answer = answer
        asked = []
        for _ in range(5):
            with agent.connect() as device:
                device.wait_ended()
            asked.append(len(server.lookups()))
        assert asked == [1, 1, 1, 2, 2]


def test_a_denial_is_logged_once_although_a_session_runs(workdir):
    """The answer refuses the connection that asked, ends the session that runs, and is one line."""
    with agent_alone(workdir) as (agent, server), agent.connect() as running:
        server.wait_data()
        server.answer = lambda request: [blocked(request, 1200)]
        with agent.connect() as asking:
            running.wait_ended()
            asking.wait_ended()
        agent.wait_for_log("session ended")
        wait_for(lambda: not agent.sessions(), "no session")
        assert len(agent.find_log(DENIED)) == 1


def test_a_session_denied_after_permission_denied_has_its_line(workdir):
    with agent_alone(workdir) as (agent, server), agent.connect() as device:
        call = server.wait_data()
        agent.wait_sessions(1)
        server.answer = lambda request: [blocked(request, 1200)]
        call.finish(grpc.StatusCode.PERMISSION_DENIED, "not any more")
        device.wait_ended()
        line = agent.wait_for_log("session ended")
        assert "denied" in line["reason"], line
        assert len(agent.find_log(DENIED)) == 1


def test_connections_that_wait_are_bounded(workdir):
    """A flood from addresses about which no answer comes: refused past the limit, few lines, and others still served."""
    with agent_alone(workdir) as (agent, server):
        server.control.push(pushed("127.0.0.2", ttl_seconds=600))
        server.answer = lambda request: []
        flood = []
        try:
            for n in range(1500):
                sock = socket.socket()
                flood.append(sock)
                sock.bind((f"127.9.{n // 250}.{n % 250 + 1}", 0))
                sock.connect(("127.0.0.1", agent.port))
            full = "too many connections wait for the target's answer, refusing more"
            agent.wait_for_log(full)
            with agent.connect("127.0.0.2") as device:
                call = server.wait_data()
                device.send(b"alive")
                call.wait_data(5)
            assert len(server.lookups()) <= 1024
            assert len(agent.find_log(full)) <= 20, "a line for each connection"
        finally:
            for sock in flood:
                sock.close()


def test_a_link_local_device_has_no_zone_on_the_wire(workdir, namespaces):
    """A zone means something on one host only: not sent, and the answer (of any target) need not have it."""
    def link_local(netns, interface):
        def look():
            text = run(["ip", "-n", netns, "-6", "-o", "addr", "show", "dev", interface, "scope", "link"]).stdout
            found = re.search(r"inet6 (fe80:[0-9a-f:]+)/", text)
            return found and "tentative" not in text and found[1]
        return wait_for(look, f"a link-local address of {interface}")

    with Chain() as chain:
        ours, theirs = link_local(chain.agent, "to-router"), link_local(chain.router, "to-agent")
        server = GrpcTarget(host=chain.uplink4)
        in_namespace(chain.agent, server.__enter__)
        try:
            with Agent(workdir, server.address, listen=[f"[{ours}%to-router]:1790"], netns=chain.agent):
                def dial():
                    sock = socket.socket(socket.AF_INET6)
                    sock.connect((ours, 1790, 0, socket.if_nametoindex("to-agent")))
                    return sock

                server.wait_control()
                with in_namespace(chain.router, dial):
                    call = server.wait_data()
                    (request,) = server.lookups()
                    assert (request.device_ip, request.proxy_ip) == (theirs, ours)
                    assert (call.value("device-ip"), call.value("proxy-ip")) == (theirs, ours)
        finally:
            server.__exit__(None, None, None)


# --- a target that never comes to rest is no tight loop ---


def http2_server(settings=b"", after=b""):
    """Speaks HTTP/2 as far as SETTINGS and PING go, answers no call, and says `after` right behind its SETTINGS."""
    def behave(sock):
        sock.sendall(frame(4, 0, 0, settings) + after)
        data = sock.recv(24, 256)  # MSG_WAITALL: the preface
        while piece := sock.recv(65536):
            data = (data if not data.startswith(b"PRI ") else b"") + piece
            while len(data) >= 9 and len(data) >= 9 + int.from_bytes(data[:3], "big"):
                length, kind, flags = int.from_bytes(data[:3], "big"), data[3], data[4]
                body, data = data[9:9 + length], data[9 + length:]
                if kind == 4 and not flags & 1:
                    sock.sendall(frame(4, 1, 0))
                elif kind == 6 and not flags & 1:
                    sock.sendall(frame(6, 1, 0, body))
    return behave


def test_goaway_at_once_each_time(workdir):
    goaway = frame(7, 0, 0, struct.pack("!II", 0x7FFFFFFF, 0))
    with OddServer(http2_server(after=goaway)) as server, Agent(workdir, server.address) as agent:
        begin = time.monotonic()
        wait_for(lambda: server.accepted >= 4, "four connections")
        assert server.accepted <= 6 + 2 * (time.monotonic() - begin), "a tight loop"
        assert agent.health()[0] == 503


def test_no_stream_allowed_each_time(workdir):
    """MAX_CONCURRENT_STREAMS 0: said, and tried again slowly."""
    with OddServer(http2_server(settings=struct.pack("!HI", 3, 0))) as server, Agent(workdir, server.address) as agent:
        agent.wait_for_log("the target takes no Control stream on this connection")
        with agent.connect() as device:
            device.wait_ended()
        assert server.accepted <= 6 and agent.cpu_seconds() < 3


def test_restart_at_once_each_time(workdir):
    """Followed at once, as RESTART asks for, but not for ever; and the session lives."""
    with agent_alone(workdir) as (agent, server):
        original = server.initial_metadata

        def metadata(call):
            if len(server.datas) < 22:
                call.restart()
            return original(call)

        server.initial_metadata = metadata
        begin = time.monotonic()
        with agent.connect() as device:
            server.wait_data(19)
            assert len(server.datas) <= 20 + 10 * (time.monotonic() - begin), "a tight loop"
            server.wait_data(22)
            device.send(b"alive")
            server.datas[-1].wait_data(5)


# --- metadata that comes late ---


def test_initial_metadata_comes_late(workdir):
    """The device speaks long before the server's metadata is there: what was sent before does not count against it."""
    with agent_alone(workdir) as (agent, server):
        server.initial_metadata = lambda call: None
        with agent.connect() as device:
            call = server.wait_data()
            for n in range(1, 6):
                device.send(b"x" * 1000)
                call.wait_data(n * 1000)
            assert not agent.connected_sessions()
            call.context.send_initial_metadata([("counter-up", "0"), ("counter-down", "0")])
            agent.wait_sessions(1)
            call.send(b"down")
            device.wait_received(4)
            assert not call.got_kill


# --- status OK while bytes wait to be sent ---


def test_ok_ends_the_session_while_the_device_still_sends(workdir):
    """The target has enough: the device is told by FIN, and the session is gone although bytes were on their way."""
    with agent_alone(workdir, GrpcTarget(keep_requests=False)) as (agent, server), agent.connect() as device:
        call = server.wait_data()
        call.pause()
        device.flood(b"u" * (8 << 20))
        call.send(b"last words")
        call.finish()
        assert device.wait_received(10) == b"last words"
        assert device.wait_ended() in ("fin", "rst")
        wait_for(lambda: not agent.sessions(), "end of the session")
        line = agent.wait_for_log("session ended")
        assert line["ended-by"] == "target" and line["cause"] == "target_end", line
