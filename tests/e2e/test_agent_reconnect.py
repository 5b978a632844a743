# SPDX-License-Identifier: Apache-2.0
"""A target that is not there, or does not want us: clear words, patience, and never a tight loop."""

import time
from pathlib import Path

import grpc
import pytest

from harness import paths
from harness.agent import TOKEN, Agent
from harness.grpc_target import GrpcTarget
from harness.ports import free_port
from harness.proc import run
from harness.scene import agent_alone
from harness.wait import wait_for


def test_target_down_at_start_and_up_later(workdir):
    """A device meanwhile is refused cleanly after a while; when the target is there, all works."""
    port = free_port()
    with Agent(workdir, f"127.0.0.1:{port}") as agent:
        agent.wait_for_log(level="warn error", pattern=f"127.0.0.1:{port}")
        assert agent.health()[0] == 503 and not agent.status()["ControlStream"]["Connected"]
        assert agent.status()["Heartbeats"]["LastRx"] is None
        with agent.connect() as device:
            device.wait_ended()
            assert not device.received
        assert agent.cpu_seconds() < 3, "a tight loop"
        with GrpcTarget(port=port) as server:
            server.wait_control()
            agent.wait_control()
            assert agent.health() == (200, "ok")
            with agent.connect():
                server.wait_data()


def test_a_name_that_does_not_exist(workdir):
    with Agent(workdir, "no-such-host.invalid:443") as agent:
        agent.wait_for_log(level="warn error", pattern="no-such-host.invalid")
        assert agent.health()[0] == 503
        agent.assert_running()


def test_wrong_token_is_said_once_and_tried_slowly(workdir):
    with GrpcTarget() as server:
        server.refuse_control = (grpc.StatusCode.UNAUTHENTICATED, "unknown email or token")
        with Agent(workdir, server.address, log_level="debug") as agent:
            begin = time.monotonic()
            server.wait_control()
            complaint = "unauthenticated|token|credential"
            agent.wait_for_log(level="warn error", pattern=complaint)
            with agent.connect() as device:  # a while in which it could try again and complain again
                device.wait_ended()
            attempts, seconds = len(server.controls), time.monotonic() - begin
            assert attempts <= 3 + seconds, f"{attempts} tries within {seconds:.1f} s"
            assert len(agent.find_log(level="warn error", pattern=complaint)) == 1, "one clear line, not one a try"
            assert not agent.secrets_shown()
            assert agent.health()[0] == 503


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INTERNAL])
def test_control_that_always_fails_is_no_tight_loop(workdir, code):
    with GrpcTarget() as server:
        server.refuse_control = (code, "not today: 100 % full")
        with Agent(workdir, server.address) as agent:
            begin = time.monotonic()
            server.wait_control(3)
            seconds = time.monotonic() - begin
            assert len(server.controls) <= 4 + seconds
            agent.wait_for_log(level="warn error", pattern="not today: 100 % full")
            server.refuse_control = None
            agent.wait_control()


def test_control_that_ends_is_opened_again(workdir):
    """A server that ends Control with OK (it is going to be restarted): a new one, the sessions stay."""
    with agent_alone(workdir) as (agent, server), agent.connect() as device:
        call = server.wait_data()
        server.control.finish()
        server.wait_control(2)
        agent.wait_control()
        assert server.controls[0].value("instance") == server.controls[1].value("instance")
        device.send(b"still the same session")
        call.wait_data(22)
        assert len(server.datas) == 1


def test_wrong_token_never_in_output_of_a_bad_start(workdir):
    """Neither the token's value in an error of the command line."""
    result = run([paths.kbgp(), "--email", "a@example.com", "--token", TOKEN, "--log-level", "loud"])
    assert result.returncode == 2
    assert TOKEN not in result.stdout + result.stderr


def test_token_is_overwritten_in_the_arguments(workdir):
    """Whoever may list processes does not see a token that came as a flag."""
    with GrpcTarget() as server, \
            Agent(workdir, server.address, token=None, extra=["--token", TOKEN]) as agent:
        assert server.wait_control().value("x-ch-auth-api-token") == TOKEN
        assert TOKEN.encode() not in Path(f"/proc/{agent.pid}/cmdline").read_bytes()
        wait_for(lambda: agent.status()["ControlStream"]["Connected"], "Control up")
        assert not agent.secrets_shown()
