# SPDX-License-Identifier: Apache-2.0
"""The target ends its connections, in good order (GOAWAY, a maximal age) and without any: what becomes of the sessions."""

import contextlib
import http.client
import json
import re
import signal
import threading

import pytest

from harness.agent import Agent
from harness.bird import Bird
from harness.grpc_target import GrpcTarget
from harness.pattern import Pattern, assert_stream
from harness.router import Peer, prefixes4
from harness.scene import agent_alone, chain, inventory_with
from harness.target import Target
from harness.tcp_peer import Backend
from harness.wait import DEADLINE, wait_for

AGES = 4  # how often the connections end in a test
SAME_KEYS = ("session-id", "instance", "device-ip", "device-port", "proxy-ip", "proxy-port")
UP, MOVES, LOST, ENDED = ("Control stream is up", "the target ends a connection, its sessions move to another",
                          "Data stream lost, the router's connection stays", "session ended")
BROKEN = "connection closed: the client does not keep to HTTP/2"


class Flow(threading.Thread):
    """
    Sends the stream of a seed at a moderate pace until it is told to stop; then `length` is how much that was. `send` may
    return how many bytes it has sent; otherwise it was all.
    """

    def __init__(self, seed, send):
        super().__init__(daemon=True)
        self.seed, self.send = seed, send
        self.length, self.failure = 0, None
        self.enough = threading.Event()

    def run(self):
        pattern = Pattern(self.seed)
        try:
            while not self.enough.wait(0.002):
                data = pattern.take(20_011)
                sent = self.send(data)
                self.length += len(data) if sent is None else sent
        except BaseException as e:  # shown by finish()
            self.failure = e

    def finish(self):
        self.enough.set()
        self.join(DEADLINE)
        assert self.failure is None and not self.is_alive(), self.failure or "the sender is stuck"
        assert self.length > 0
        return self.length


@contextlib.contextmanager
def flowing(*flows):
    for flow in flows:
        flow.start()
    try:
        yield
    finally:
        for flow in flows:
            flow.enough.set()


def target_sessions(target):
    connection = http.client.HTTPConnection("127.0.0.1", target.metrics_port, timeout=DEADLINE)
    try:
        connection.request("GET", "/admin/sessions")
        return json.load(connection.getresponse())["Sessions"]
    finally:
        connection.close()


def streams(target):
    return [s["Streams"] for s in target_sessions(target)]


def test_grpcio_sends_goaway(workdir):
    """grpcio's server ends each connection after about a second: the agent answers with a RESTART each time."""
    aged = GrpcTarget(options=[("grpc.max_connection_age_ms", 1000), ("grpc.max_connection_age_grace_ms", 60_000)])
    with agent_alone(workdir, aged) as (agent, server), agent.connect() as device:
        first = server.wait_data()
        session = first.session
        up = Flow("up", device.send)
        down = Flow("down", lambda data: session.send_stream(data, stop=down.enough))
        with flowing(up, down):
            for n in range(2, AGES + 2):
                call, before = server.wait_data(n), server.datas[n - 2]
                for key in SAME_KEYS:
                    assert call.metadata[key] == first.metadata[key], key
                assert call.peer != before.peer, "it went on over the connection that was to end"
                assert before.got_restart and not before.got_kill
                told = int(call.value("counter-up")), int(call.value("counter-down"))
                assert told == call.counted, f"call {n}: the agent says {told}, the server counted {call.counted}"
                before.wait_over()
            up_length, down_length = up.finish(), down.finish()
            assert_stream("up", session.call.wait_data(up_length), up_length, "server")
            assert_stream("down", device.wait_received(down_length), down_length, "device")
        assert device.ended is None and len(server.sessions) == 1
        assert len(agent.find_log(MOVES)) >= AGES
        assert not agent.find_log(LOST) and not agent.find_log(ENDED)
        wait_for(lambda: len(server.controls) > AGES and agent.status()["ControlStream"]["Connected"], "Control again")


def test_maximal_age_with_patterns(workdir, certs):
    """Both programs, bytes in both directions all the time: sessions move from connection to connection and never end."""
    with Backend() as backend, \
            chain(workdir, certs, {"router_one": "127.0.0.2", "router_two": "127.0.0.3"}, backend=backend.url,
                  target={"extra": ["--max-connection-age", "2"]}) as (agent, target), \
            agent.connect() as one, agent.connect("127.0.0.3") as two:
        daemons = {}
        for device in (one, two):  # who is who is told by the first byte
            device.send(b"1" if device is one else b"2")
        for _ in range(2):
            daemon = backend.accept()
            daemons[daemon.wait_received(1)] = daemon
        ends = [(one, daemons[b"1"], b"1"), (two, daemons[b"2"], b"2")]
        flows = [(Flow(f"up{name}", device.send), Flow(f"down{name}", daemon.send)) for device, daemon, name in ends]
        with flowing(*(f for pair in flows for f in pair)):
            wait_for(lambda: min(streams(target)) > AGES, f"{AGES} moves of each session", 2 * DEADLINE)
            wait_for(lambda: len(agent.find_log(UP)) > AGES, "Control stream anew, too", 2 * DEADLINE)
            for (device, daemon, name), (up, down) in zip(ends, flows):
                up_length, down_length = up.finish(), down.finish()
                assert_stream(up.seed, daemon.wait_received(1 + up_length)[1:], up_length, "backend")
                assert_stream(down.seed, device.wait_received(down_length), down_length, "device")
                assert device.ended is None and daemon.ended is None
        assert backend.count() == 2
        agent.wait_sessions(2)
        agent.wait_control()
        for program in (agent, target):
            assert not program.find_log(ENDED) and not program.find_log(level="error"), program.tail()
        assert not agent.find_log(LOST) and not target.find_log(BROKEN)
        for _device, daemon, _name in ends:
            daemon.close()
        agent.wait_sessions(0)


def test_maximal_age_with_bird(workdir, certs):
    """A real router notices nothing: one session, Established since its beginning, and its routes go on arriving."""
    many, more = prefixes4(1000), prefixes4(10, "99.0.0.0")
    with chain(workdir, certs, {"router_one": "127.0.0.7"}, target={"extra": ["--max-connection-age", "2"]}) \
            as (agent, target), \
            Bird(workdir, [Peer("peer", "127.0.0.7", "127.0.0.1", agent.port)], {"many": many, "more": more}) as bird:
        bird.wait_established("peer")
        target.wait_prefixes(1, {*many, *more})
        since = established_since(bird)
        for moves in range(2, AGES + 3):
            wait_for(lambda: max(streams(target), default=0) >= moves, f"stream {moves} of the session")
            (bird.disable if moves % 2 else bird.enable)("more")
            target.wait_prefixes(1, {*many} if moves % 2 else {*many, *more})
            assert same_session(established_since(bird), since), "BIRD's session was set up anew"
        assert len(target.events("open")) == 1 and not target.events("close") and not target.events("notification")
        assert len({s["SessionID"] for s in target_sessions(target)}) == 1
        agent.wait_control()
        agent.wait_sessions(1)


def established_since(bird):
    """When BIRD's session came up, by its own account, in seconds of the day."""
    state = re.search(r"^peer\s+BGP\s+\S+\s+up\s+(\d+):(\d+):([\d.]+)\s+Established", bird.protocol("peer"), re.MULTILINE)
    assert state, bird.protocol("peer")
    return 3600 * int(state[1]) + 60 * int(state[2]) + float(state[3])


def same_session(since, before):
    """BIRD makes the time of day from another clock each time: the last digit may change."""
    return abs(since - before) < 0.05


@pytest.mark.parametrize("backend", ["collector", "tcp"])
def test_target_killed_and_started_again(workdir, certs, backend):
    """
    A target that lost its memory counts from zero: bytes may be missing, so the session has to end (KILL), the router
    connects anew, and everything is there again. The agent's log tells the story.
    """
    networks = prefixes4(200)
    inventory, token = inventory_with(workdir, {"router_one": "127.0.0.7"})
    with contextlib.ExitStack() as stack:
        daemon, url = None, None
        if backend == "tcp":
            daemon = stack.enter_context(Bird(workdir, [Peer("relayed", "127.0.0.1", "127.0.0.1", None)], name="backend",
                                              router_id="10.255.0.9"))
            url = f"tcp://127.0.0.1:{daemon.listen_port}"
        killed = Target(workdir, inventory, tls=certs.good, backend=url)
        killed.exit_codes = (-signal.SIGKILL,)
        stack.enter_context(killed)
        agent = stack.enter_context(Agent(workdir, killed.address, ca_file=certs.ca, token=token))
        agent.wait_control()
        bird = stack.enter_context(Bird(workdir, [Peer("peer", "127.0.0.7", "127.0.0.1", agent.port)], {"list": networks}))
        bird.wait_established("peer")
        agent.wait_sessions(1)
        first = agent.get_json("/admin/sessions/127.0.0.7")[1]["SessionID"]
        before = established_since(bird)

        killed.kill()
        agent.wait_for_log(LOST, session_id=first)
        wait_for(lambda: not agent.status()["ControlStream"]["Connected"], "Control down in the status")
        assert bird.established("peer"), "the router's connection stays while the target is away"
        target = stack.enter_context(Target(workdir, inventory, tls=certs.good, backend=url, listen=killed.listen))

        ended = agent.wait_for_log(ENDED, session_id=first)
        assert (ended["ended-by"], ended["cause"]) in (("agent", "agent_kill"), ("target", "target_kill")), ended
        target.wait_for_log(level="warn", pattern="the agent counts other messages than we do", session_id=first)

        wait_for(lambda: bird.established("peer") and not same_session(established_since(bird), before), "the router's next session",
                 2 * DEADLINE)
        agent.wait_control()
        agent.wait_sessions(1)
        second = agent.get_json("/admin/sessions/127.0.0.7")[1]["SessionID"]
        assert second != first
        if daemon:
            wait_for(lambda: daemon.prefixes() == set(networks), "the routes at the daemon behind the target")
        else:
            target.wait_prefixes(1, set(networks), session=second)
        assert not agent.find_log(level="error") and not target.find_log(level="error")
