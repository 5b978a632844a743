# SPDX-License-Identifier: Apache-2.0
"""The agent's log: JSON lines or text for people, levels, what a journal gets, and no token."""

import json
import os
import re
import socket
import subprocess

import pytest

from harness import paths
from harness.agent import EMAIL, TOKEN, Agent
from harness.grpc_target import GrpcTarget, blocked
from harness.ports import free_port
from harness.proc import clean_env
from harness.scene import agent_alone
from harness.wait import wait_for

TEXT_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z (DBG|INF|WRN|ERR) (\S.*)")


def test_json_lines(workdir):
    """Every line is an object with time, level, message and service."""
    with agent_alone(workdir, log_level="debug") as (agent, server), agent.connect():
        server.wait_data()
        agent.wait_for_log("opening Data stream")
        lines = agent.stderr().splitlines()
        for line in lines:
            record = json.loads(line)
            assert list(record)[:3] == ["time", "level", "message"] and record["service"] == "ktbgp-agent"
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", record["time"])
            assert record["level"] in ("debug", "info", "warn", "error")
        assert agent.stdout() == "", "logs go to stderr"


def test_opening_a_stream_as_documented(workdir):
    """Message and fields of the documentation; the token is redacted."""
    with agent_alone(workdir) as (agent, server), agent.connect() as device:
        call = server.wait_data()
        line = agent.wait_for_log("opening Data stream")
        assert line["device"] == "1289:a6r_kx1:127353-ipv4" and line["module"] == "proxy/client-data"
        assert line["local-addr"] == f"127.0.0.1:{agent.port}"
        assert line["peer-addr"] == f"{device.local[0]}:{device.local[1]}"
        assert line["session-id"] == call.session_id
        metadata = line["client-metadata"]
        assert metadata["x-ch-auth-api-token"] == ["[redacted]"] and metadata["x-ch-auth-email"] == [EMAIL]
        assert metadata["counter-up"] == metadata["counter-down"] == ["0"]
        assert all(isinstance(v, list) and all(isinstance(s, str) for s in v) for v in metadata.values())
        assert not agent.secrets_shown()


def test_denial_as_documented(workdir):
    with GrpcTarget() as server:
        server.answer = lambda request: [blocked(request)]
        with Agent(workdir, server.address) as agent, agent.connect() as device:
            device.wait_ended()
            line = agent.wait_for_log("Deny-listed an INVALID / UNKNOWN device")
            assert line["component"] == "proxy/client-data" and line["device_ip"] == "127.0.0.2"
            assert (line["ttl_counter"], line["ttl_seconds"]) == (0, 1200)
            assert line["peer-addr"] == f"{device.local[0]}:{device.local[1]}" and line["sessid"]


@pytest.mark.parametrize("extra, env", [(["--human-logs"], {}), ([], {"KBGP_HUMAN_LOGS": "true"})], ids=["flag", "variable"])
def test_text_for_people(workdir, extra, env):
    with agent_alone(workdir, extra=extra, env=env) as (agent, server), agent.connect():
        server.wait_data()
        agent.wait_for_text("INF opening Data stream client-metadata=")
        lines = wait_for(lambda: agent.stderr().endswith("\n") and agent.stderr().splitlines(), "whole lines")
        for line in lines:
            assert TEXT_LINE.fullmatch(line), line
        line = next(line for line in lines if "opening Data stream" in line)
        assert "module=proxy/client-data" in line and "service=ktbgp-agent" in line
        assert '"x-ch-auth-api-token":["[redacted]"]' in line and TOKEN not in agent.output()


@pytest.mark.parametrize("level, shown", [("debug", {"info", "warn"}), ("info", {"info", "warn"}), ("warn", {"warn"}),
                                          ("error", set())])
def test_levels(workdir, level, shown):
    """By flag; what is below the level is not written. The target goes away, which is a warning."""
    with Agent(workdir, f"127.0.0.1:{(port := free_port())}", log_level=level) as agent:
        with GrpcTarget(port=port):
            agent.wait_control()
        wait_for(lambda: not agent.status()["ControlStream"]["Connected"], "Control to be down")
        wait_for(lambda: {r["level"] for r in agent.log()} - {"debug"} == shown, f"lines of {shown}: {agent.log()}")


def test_level_by_variable(workdir):
    with agent_alone(workdir, env={"KBGP_LOG_LEVEL": "error"}) as (agent, _server):
        agent.wait_control()
        assert agent.output() == ""


@pytest.mark.parametrize("human", [False, True], ids=["json", "text"])
@pytest.mark.parametrize("journal", [False, True], ids=["file", "journal"])
def test_priority_for_the_journal(workdir, journal, human):
    """Where stderr is the journal's stream each line begins with its priority; elsewhere not."""
    with open(workdir / "stderr", "w+b") as stderr:
        stat = os.fstat(stderr.fileno())
        env = clean_env(KENTIK_API_TOKEN=TOKEN, JOURNAL_STREAM=f"{stat.st_dev}:{stat.st_ino + (not journal)}")
        with socket.create_server(("127.0.0.1", free_port())) as taken:
            argv = [paths.kbgp(), "--email", EMAIL, "--target=127.0.0.1:9", "--metrics-port", str(free_port()), "--insecure",
                    "--listen", f"127.0.0.1:{free_port()},127.0.0.1:{taken.getsockname()[1]}"]
            done = subprocess.run(argv + (["--human-logs"] if human else []), env=env, stderr=stderr, timeout=30, check=False)
        assert done.returncode == 1
        stderr.seek(0)
        lines = stderr.read().decode().splitlines()
    assert len(lines) >= 2
    for line in lines:
        prefix = re.match(r"<(\d)>", line)
        assert bool(prefix) is journal
        text = line[3:] if prefix else line
        if human:
            level = TEXT_LINE.fullmatch(text)[1]
        else:
            level = {"debug": "DBG", "info": "INF", "warn": "WRN", "error": "ERR"}[json.loads(text)["level"]]
        if prefix:
            assert prefix[1] == {"DBG": "7", "INF": "6", "WRN": "4", "ERR": "3"}[level]
    assert "cannot start" in lines[-1]
