import time, struct, socket, threading
import grpc, pytest
from harness.grpc_target import GrpcTarget, blocked, known, pushed
from harness.odd_server import OddServer, frame, literal
from harness.scene import agent_alone, chain, target_alone
from harness.agent import Agent
from harness.schema import BLOCK_IP, RESTART
from harness.wait import wait_for, wait_settled

DENIED = "Deny-listed an INVALID / UNKNOWN device"

@pytest.mark.parametrize("n", [10, 5000, 20000, 150000])
def test_rst_after_last_bytes(workdir, n):
    with agent_alone(workdir) as (agent, server):
        server.answer = lambda request: []
        device = agent.connect()
        server.wait_lookups(1)
        data = bytes(range(256)) * (n // 256 + 1)
        device.send(data[:n]); device.reset()
        time.sleep(.2)
        server.control.push(known(server.lookups()[0]))
        call = server.wait_data()
        assert call.wait_data(n, 5) == data[:n]
        wait_for(lambda: not agent.sessions(), "gone", 5)

def test_block_ttl_counter(workdir):
    with agent_alone(workdir) as (agent, server):
        def ans(r):
            a = blocked(r, 1200); a.ttl_counter = 2; return [a]
        server.answer = ans
        asked = []
        for n in range(1, 6):
            with agent.connect() as d:
                d.wait_ended()
            asked.append(len(server.lookups()))
        assert asked == [1, 1, 1, 2, 2], asked

def test_double_denial(workdir):
    with agent_alone(workdir) as (agent, server):
        with agent.connect() as a:
            server.wait_data()
            server.answer = lambda r: [blocked(r, 1200)]
            with agent.connect() as b:
                a.wait_ended(); b.wait_ended()
            agent.wait_for_log("session ended")
            time.sleep(.3)
            assert len(agent.find_log(DENIED)) == 1

def test_restart_loop(workdir):
    with agent_alone(workdir) as (agent, server):
        real = server._data
        orig = server.initial_metadata
        def md(call):
            call.restart()
            return orig(call)
        server.initial_metadata = md
        with agent.connect() as d:
            server.wait_data()
            time.sleep(5)
            print("CALLS", len(server.datas), agent.cpu_seconds())
            assert len(server.datas) < 12

def h2srv(settings, after=b""):
    def behave(sock):
        sock.sendall(frame(4, 0, 0, settings) + after)
        data = b""
        while piece := sock.recv(65536):
            data += piece
            if data.startswith(b"PRI "):
                if len(data) < 24: continue
                data = data[24:]
            while len(data) >= 9 and len(data) >= 9 + int.from_bytes(data[:3], "big"):
                length, kind, flags = int.from_bytes(data[:3], "big"), data[3], data[4]
                body, data = data[9:9 + length], data[9 + length:]
                if kind == 4 and not flags & 1: sock.sendall(frame(4, 1, 0))
                elif kind == 6 and not flags & 1: sock.sendall(frame(6, 1, 0, body))
    return behave

def test_goaway_loop(workdir):
    go = frame(7, 0, 0, struct.pack("!II", 0x7fffffff, 0))
    with OddServer(h2srv(b"", go)) as s, Agent(workdir, s.address) as agent:
        time.sleep(5)
        print("ACC", s.accepted, agent.cpu_seconds())
        assert s.accepted < 12

def test_max_streams_zero(workdir):
    """Control works, data not: pushes..."""
    with OddServer(h2srv(struct.pack("!HI", 3, 0))) as s, Agent(workdir, s.address) as agent:
        with agent.connect() as d:
            time.sleep(5)
            print("ACC", s.accepted, agent.cpu_seconds(), agent.status(), agent.health())
            assert s.accepted < 12
