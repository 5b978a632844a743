# SPDX-License-Identifier: Apache-2.0
"""SIGTERM and SIGINT end the agent in good order, SIGHUP reads files again; and what systemd is told."""

import re
import shutil
import signal
import time

import grpc
import pytest

from harness import bgp
from harness.agent import EMAIL, TOKEN, Agent
from harness.certs import Authority
from harness.grpc_target import GrpcTarget
from harness.notify import NotifySocket
from harness.pattern import Pattern, assert_stream
from harness.ports import free_port
from harness.scene import agent_alone
from harness.tcp_peer import Backend
from harness.wait import wait_for

LAST = bgp.shutdown_notification("last words")
STUCK = 180 * 1024  # more than the windows of a server that does not read, less than the agent's ring


def unread(agent, device):
    """Bytes that wait in the agent's socket of this device, and bytes that wait in the device's own."""
    waiting = 0
    with open(f"/proc/{agent.pid}/net/tcp") as file:
        for line in file.read().splitlines()[1:]:
            _, local, remote, _, queues = line.split()[:5]
            ports = int(local.split(":")[1], 16), int(remote.split(":")[1], 16)
            if ports == (agent.port, device.local[1]):
                waiting += int(queues.split(":")[1], 16)
            if ports == (device.local[1], agent.port):
                waiting += int(queues.split(":")[0], 16)
    return waiting


def stick(agent, server, device, length=STUCK):
    """The target reads nothing, and the agent holds `length` bytes and a NOTIFICATION that it cannot pass on."""
    call = server.wait_data()
    call.pause()
    device.send(Pattern("up").take(length))
    device.send(LAST)
    wait_for(lambda: unread(agent, device) == 0, "the agent to have read everything")
    return call


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_last_words_are_delivered(workdir, number):
    """Everything that was read, the NOTIFICATION at its end, arrives; the device gets a FIN; exit code 0."""
    with agent_alone(workdir) as (agent, server), agent.connect() as device:
        call = stick(agent, server, device)
        agent.signal(number)
        agent.wait_for_log("stopping")
        assert len(call.session.data) < STUCK, "nothing was held back: the test proves nothing"
        call.resume()
        begin = time.monotonic()
        assert agent.wait_exit(10) == 0 and time.monotonic() - begin < 6
        data = call.wait_data(STUCK + len(LAST))
        assert data.endswith(LAST)
        assert_stream("up", data[:-len(LAST)], STUCK, "target")
        assert device.wait_ended() == "fin"
        assert not [r for r in agent.find_log(level="warn error") if "export" not in r["message"]]


def test_new_devices_are_refused_at_once(workdir):
    with agent_alone(workdir) as (agent, server), agent.connect() as device:
        stick(agent, server, device)
        agent.signal(signal.SIGTERM)
        wait_for(lambda: agent.port not in agent.listeners(), "the listener to be closed")
        with pytest.raises(ConnectionRefusedError):
            agent.connect()
        agent.signal(signal.SIGTERM)
        assert agent.wait_exit(10) == 0


def test_five_seconds_and_no_more(workdir):
    """A target that takes nothing does not keep the agent; one line says what was lost."""
    with agent_alone(workdir) as (agent, server), agent.connect() as device:
        stick(agent, server, device)
        begin = time.monotonic()
        assert agent.stop(timeout=20) == 0
        assert 4 < time.monotonic() - begin < 8
        assert agent.find_log(level="warn", pattern="did not end in time")[0]["sessions"] == 1
        device.wait_ended()


def test_the_second_signal_cuts(workdir):
    with agent_alone(workdir) as (agent, server), agent.connect() as device:
        stick(agent, server, device)
        agent.signal(signal.SIGTERM)
        agent.wait_for_log("stopping")
        begin = time.monotonic()
        agent.signal(signal.SIGINT)
        assert agent.wait_exit(10) == 0 and time.monotonic() - begin < 3
        assert not agent.find_log(pattern="did not end in time")
        device.wait_ended()


def test_sigpipe_is_ignored(workdir):
    with agent_alone(workdir) as (agent, server), agent.connect() as device:
        agent.signal(signal.SIGPIPE)
        device.send(b"still there")
        server.wait_data().wait_data(11)


# SIGHUP

def only_with(*tokens):
    """What a target answers that knows these tokens only."""

    def refusal(call):
        good = call.value("x-ch-auth-api-token") in tokens
        return None if good else (grpc.StatusCode.UNAUTHENTICATED, "unknown token")
    return refusal


def reload(agent):
    """SIGHUP; returns its log line."""
    before = len(agent.find_log("reloaded"))
    agent.signal(signal.SIGHUP)
    return wait_for(lambda: agent.find_log("reloaded")[before:], "the line of a reload")[0]


def with_token_file(workdir, text=TOKEN):
    path = workdir / "token"
    path.write_text(text + "\n")
    return path, dict(token=None, extra=["--token-file", str(path)])


def test_token_file_is_read_again(workdir):
    """New calls carry the new token; the sessions that run do not notice."""
    path, options = with_token_file(workdir, "first-token")
    with agent_alone(workdir, **options) as (agent, server), agent.connect("127.0.0.2") as one:
        assert server.wait_data(1).value("x-ch-auth-api-token") == "first-token"
        assert reload(agent)["token"] == "unchanged"
        path.write_text("second-token\n")
        line = reload(agent)
        assert (line["level"], line["token"], line["token-file"]) == ("info", "changed", str(path))
        with agent.connect("127.0.0.3"):
            assert server.wait_data(2).value("x-ch-auth-api-token") == "second-token"
            one.send(b"unimpressed")
            server.wait_data(1).wait_data(11)
            assert len(server.controls) == 1 and len(server.datas) == 2
        assert "first-token" not in agent.output() and "second-token" not in agent.output()


def test_token_file_that_cannot_be_read(workdir):
    """One error that names the file; the old token is still used."""
    path, options = with_token_file(workdir)
    with agent_alone(workdir, **options) as (agent, server):
        for spoil in (path.unlink, lambda: path.write_text(""), lambda: path.write_text("two words")):
            spoil()
            assert reload(agent)["token"] == "kept"
        assert len(agent.find_log(level="error", pattern=re.escape(str(path)))) == 3
        with agent.connect():
            assert server.wait_data().value("x-ch-auth-api-token") == TOKEN
        assert "two words" not in agent.output()


def test_nothing_to_read_again(workdir):
    with agent_alone(workdir) as (agent, _server):
        line = reload(agent)
        assert (line["token"], line["certificates"]) == ("not from a file", "none")
        assert not agent.find_log(level="warn error")
        agent.assert_running()


def test_log_level_of_the_file_of_variables(workdir):
    """--env-file gives what the environment lacks; its log level is read again, a flag's stays."""
    path = workdir / "kbgp.env"
    path.write_text(f'# comment\nKENTIK_API_TOKEN= "{TOKEN}"\nKBGP_LOG_LEVEL=info\n')
    with agent_alone(workdir, token=None, extra=["--env-file", str(path)]) as (agent, server), agent.connect():
        assert server.wait_data().value("x-ch-auth-api-token") == TOKEN
        path.write_text("KBGP_LOG_LEVEL=debug\n")
        assert reload(agent)["log-level"] == "debug"
        path.write_text("KBGP_LOG_LEVEL=loud\n")
        assert reload(agent)["log-level"] == "debug"
        assert agent.find_log(level="error", pattern="loud")
        path.unlink()
        assert reload(agent)["log-level"] == "debug"
        assert agent.find_log(level="error", pattern=re.escape(str(path)))
        assert TOKEN not in agent.output()
    path.write_text("KBGP_LOG_LEVEL=debug\n")
    with agent_alone(workdir, extra=["--env-file", str(path), "--log-level", "info"]) as (agent, _server):
        assert reload(agent)["log-level"] == "info"


@pytest.mark.parametrize("how", ["alone", "sighup"])
def test_rejected_token_that_changes(workdir, how):
    """Once the file has another token it is tried soon, with SIGHUP or without; the complaint comes once a token."""
    path, options = with_token_file(workdir, "wrong-token")
    with GrpcTarget() as server:
        server.refuse_control = only_with("right-token")
        with Agent(workdir, server.address, **options) as agent:
            line = agent.wait_for_log(level="error", pattern="rejected the credentials")
            assert line["email"] == EMAIL and "unknown token" in line["grpc-message"]
            path.write_text("wrong-again\n")
            begin = time.monotonic()
            if how == "sighup":
                assert reload(agent)["token"] == "changed"
            wait_for(lambda: len(agent.find_log(pattern="rejected the credentials")) == 2, "the second token's rejection")
            path.write_text("right-token\n")
            if how == "sighup":
                assert reload(agent)["token"] == "changed"
            agent.wait_control()
            assert time.monotonic() - begin < 30, "not promptly"
            assert agent.health() == (200, "ok")
            assert len(server.controls) == 3 and not re.search("wrong-|right-token", agent.output())


def test_token_that_was_replaced_before_its_rejection(workdir):
    """The file is read before the next try, and there is nothing to complain about."""
    path, options = with_token_file(workdir, "first-token")
    with agent_alone(workdir, **options) as (agent, server):
        agent.wait_control()
        path.write_text("second-token\n")
        server.refuse_control = only_with("second-token")
        server.control.finish(grpc.StatusCode.UNAUTHENTICATED, "token expired")
        server.wait_control(2, timeout=20)
        assert server.control.value("x-ch-auth-api-token") == "second-token"
        agent.wait_for_log(pattern="changed in its file")
        assert not agent.find_log(level="error")


def test_rejected_token_without_a_file(workdir):
    """Nothing could have changed: the next try is far away."""
    with GrpcTarget() as server:
        server.refuse_control = only_with()
        with Agent(workdir, server.address) as agent:
            line = agent.wait_for_log(level="error", pattern="rejected the credentials")
            assert line["retry-ms"] == 60000
            reload(agent)
            assert len(server.controls) == 1 and agent.health()[0] == 503


def test_ca_file_is_read_again(workdir, certs):
    """A CA that the agent learns by SIGHUP; a broken file changes nothing; the session that runs goes on."""
    ca, port = workdir / "ca.pem", free_port()
    shutil.copy(Authority(workdir / "stranger").ca, ca)
    with Agent(workdir, f"127.0.0.1:{port}", ca_file=ca) as agent:
        with GrpcTarget(port=port, tls=certs.good) as server:
            agent.wait_for_log(level="warn error", pattern="certificate")
            shutil.copy(certs.ca, ca)
            assert reload(agent)["certificates"] == "read again"
            agent.wait_control()
            with agent.connect() as device:
                call = server.wait_data()
                ca.write_text("-----BEGIN NOTHING-----\n")
                assert reload(agent)["certificates"] == "kept"
                assert agent.find_log(level="error", pattern=re.escape(str(ca)))
                device.send(b"hello")
                call.wait_data(5)
        with GrpcTarget(port=port, tls=certs.good):
            agent.wait_for_log("no connection to the target", channel="control")
            agent.wait_control()


# systemd

def notified(workdir, manager, address, **options):
    env = {"NOTIFY_SOCKET": manager.path, **options.pop("env", {})}
    return Agent(workdir, address, env=env, **options)


def test_systemd_is_told(workdir):
    """READY once everything listens, STATUS as it changes, RELOADING and READY around a reload, STOPPING."""
    with NotifySocket(workdir) as manager, GrpcTarget() as server, notified(workdir, manager, server.address) as agent:
        manager.wait("READY=1")
        assert manager.messages[0] == "READY=1"
        manager.wait(f"STATUS=0 sessions, connected to {server.address}")
        with agent.connect():
            manager.wait(f"STATUS=1 session, connected to {server.address}")
        manager.wait(f"STATUS=0 sessions, connected to {server.address}", 2)
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        reload(agent)
        manager.wait("READY=1", 2)
        told = manager.wait("RELOADING=1")
        usec = int(re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=(\d+)", told)[1])
        assert before <= usec <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        order = [m.split("=")[0] for m in manager.messages if not m.startswith("STATUS")]
        assert order == ["READY", "RELOADING", "READY"], "no WATCHDOG was asked for"
        agent.signal(signal.SIGTERM)
        assert agent.wait_exit(10) == 0
        manager.wait("STOPPING=1")
        assert len([m for m in manager.messages if m.startswith("STATUS")]) < 12, "only what changed is sent"


def test_systemd_is_told_of_trouble(workdir):
    with NotifySocket(workdir) as manager, GrpcTarget() as server:
        server.refuse_control = only_with()
        with notified(workdir, manager, server.address):
            manager.wait(f"STATUS=0 sessions, credentials rejected by {server.address}")
    (workdir / "second").mkdir()
    with NotifySocket(workdir / "second") as manager, \
            notified(workdir, manager, address := f"127.0.0.1:{free_port()}"):
        manager.wait("READY=1")  # a target that cannot be reached is no failed start
        manager.wait(f"STATUS=0 sessions, not connected to {address}")


def test_watchdog(workdir):
    """At least twice in the time allowed; not for another process's watchdog."""
    with NotifySocket(workdir) as manager, \
            notified(workdir, manager, "127.0.0.1:1", env={"WATCHDOG_USEC": "1000000"}) as agent:
        manager.wait("WATCHDOG=1")
        begin = time.monotonic()
        manager.wait("WATCHDOG=1", 7)
        assert 2.0 < time.monotonic() - begin < 30.0, "6 more at half a second each"
        agent.assert_running()


def test_no_ready_without_a_listener(workdir):
    with NotifySocket(workdir) as manager, Backend() as taken:
        agent = notified(workdir, manager, "127.0.0.1:1", listen=[f"127.0.0.1:{taken.port}"]).start()
        assert agent.wait_exit() == 1
        assert not any(m.startswith("READY") for m in manager.messages)
