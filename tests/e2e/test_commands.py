# SPDX-License-Identifier: Apache-2.0
"""`kbgp status` and `kbgp sessions`: what the running agent says, as a table for people and as JSON for programs."""

import json
import re

import grpc
import pytest

from harness import odd_server, paths
from harness.agent import EMAIL, Agent
from harness.grpc_target import GrpcTarget
from harness.odd_server import OddServer
from harness.ports import free_port
from harness.proc import clean_env, run, timed
from harness.scene import agent_alone
from harness.wait import wait_for
from test_check import answer, endless

STATUS = {"InstanceID", "ControlStream", "Heartbeats", "ActiveSessions", "Config"}


def ask(name, port, *words, env=None):
    return run([paths.kbgp(), name, "--metrics-port", str(port), *words], env=clean_env(**(env or {})))


def shown(agent, name, *words):
    result = ask(name, agent.metrics_port, *words)
    assert result.returncode == 0 and result.stderr == "", result.stderr
    return result.stdout


def fields(text):
    """{name: value} of `kbgp status`."""
    return dict(re.split(r"  +", line, maxsplit=1) for line in text.splitlines())


def test_status(workdir):
    """No account is needed; every line says what the page says."""
    with agent_alone(workdir, site=17) as (agent, server):
        agent.wait_control()
        with agent.connect() as device:
            server.wait_data()
            agent.wait_sessions(1)
            table = fields(shown(agent, "status"))
            assert table["Health"] == "ok" and table["Target"] == server.address and table["Sessions"] == "1"
            assert re.fullmatch(r"connected since \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ \(\d+s\), \d+ messages received",
                                table["Control"])
            assert re.fullmatch(r"sent \d+s ago, answered \d+s ago, round trip \d+ ms", table["Heartbeat"])
            assert table["Listening"] == agent.listen[0] and table["MD5"] == "off"
            assert table["Account"] == f"{EMAIL}, site 17"
            assert table["Instance"] == agent.status()["InstanceID"]
            assert table["Version"] in run([paths.kbgp(), "--version"]).stdout
            page = json.loads(shown(agent, "status", "--json"))
            assert STATUS <= set(page) and page["Config"] == agent.status()["Config"]
            device.half_close()


def test_status_without_the_target(workdir):
    with Agent(workdir, f"127.0.0.1:{free_port()}") as agent:
        table = fields(shown(agent, "status"))
        assert table["Health"] in ("initializing", "failing")
        assert table["Control"] == "not connected" and table["Heartbeat"] == "not answered yet"
        assert table["Sessions"] == "0" and table["Account"] == f"{EMAIL}, site any"


def test_status_with_a_rejected_token(workdir):
    with GrpcTarget() as server:
        server.refuse_control = (grpc.StatusCode.UNAUTHENTICATED, "unknown token")
        with Agent(workdir, server.address) as agent:
            agent.wait_for_log(level="error", pattern="rejected")
            assert "rejects" in fields(shown(agent, "status"))["Control"]


def test_status_after_the_target_went(workdir):
    with Agent(workdir, f"127.0.0.1:{(port := free_port())}") as agent:
        with GrpcTarget(port=port):
            agent.wait_control()
        agent.wait_for_log(level="warn error", pattern="Control|connection")
        assert re.fullmatch(r"not connected since [^ ]+Z \(\d+s\)", fields(shown(agent, "status"))["Control"])


def test_sessions(workdir):
    with agent_alone(workdir) as (agent, server):
        assert shown(agent, "sessions") == "no sessions\n"
        assert json.loads(shown(agent, "sessions", "--json"))["NumSessions"] == 0
        with agent.connect("127.0.0.2") as one, agent.connect("127.0.0.33") as two:
            agent.wait_sessions(2)
            one.send(b"x" * 1500)
            server.wait_data(1), server.wait_data(2)
            wait_for(lambda: any(len(s.data) == 1500 for s in server.sessions.values()), "1500 bytes at the target")
            heading, *rows = shown(agent, "sessions").splitlines()
            names = heading.split()
            assert names == ["PEER", "DEVICE", "SINCE", "DURATION", "STATE", "BGP", "AS", "UP", "DOWN"]
            table = {row.split()[0]: dict(zip(names, row.split())) for row in rows}
            peers = {f"{d.local[0]}:{d.local[1]}" for d in (one, two)}
            assert set(table) == peers and len(rows) == 2
            for row in table.values():
                assert row["DEVICE"] == "1289:a6r_kx1:127353-ipv4" and row["STATE"] == "active"
                assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", row["SINCE"])
                assert re.fullmatch(r"\d+s", row["DURATION"]) and row["DOWN"] == "0"
            assert table[f"{one.local[0]}:{one.local[1]}"]["UP"] == "1.5k"
            assert all(row.index("active") == heading.index("STATE") for row in rows)
            page = json.loads(shown(agent, "sessions", "--json"))
            assert page["NumSessions"] == 2 and {s["Peer"] for s in page["Sessions"]} == peers


@pytest.mark.parametrize("addr, shown_as", [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]"),
                                            ("127.0.0.9", "127.0.0.9")])
def test_where_the_agent_serves_its_pages(workdir, addr, shown_as):
    """--metrics-addr as the agent has it, by flag or variable; no proxy is asked, no account needed."""
    with OddServer(odd_server.garbage) as proxy, GrpcTarget() as server, \
            Agent(workdir, server.address, extra=["--metrics-addr", addr]) as agent:
        env = {"http_proxy": f"http://{proxy.address}", "ALL_PROXY": f"http://{proxy.address}"}
        result = ask("status", agent.metrics_port, "--metrics-addr", addr, env=env)
        assert result.returncode == 0 and "Health" in result.stdout, result.stderr
        result = run([paths.kbgp(), "status"], env=clean_env(KBGP_METRICS_ADDR=addr, **env,
                                                             KBGP_METRICS_PORT=str(agent.metrics_port)))
        assert result.returncode == 0 and "Health" in result.stdout, result.stderr
        result = ask("status", port := free_port(), "--metrics-addr", addr)
        assert result.returncode == 1 and f"{shown_as}:{port}" in result.stderr
        assert proxy.accepted == 0


@pytest.mark.parametrize("name", ["status", "sessions"])
def test_nobody_there(name):
    port = free_port()
    for words in ([], ["--json"]):
        result = ask(name, port, *words)
        assert result.returncode == 1 and result.stdout == ""
        assert len(result.stderr.splitlines()) == 1 and f"127.0.0.1:{port}" in result.stderr


@pytest.mark.parametrize("behaviour", [
    odd_server.garbage, odd_server.close_at_once, odd_server.http1_html, odd_server.silence, endless, answer(b""),
    answer(b'{"error":"gone\x1b[2J"}', 404), answer(b"[]"), answer(b"[" * 100000), answer(b'{"a":1'),
], ids=lambda b: b.__name__)
@pytest.mark.parametrize("name", ["status", "sessions"])
def test_a_stranger_on_that_port(name, behaviour):
    """One printable line on stderr, exit code 1, and not for long."""
    with OddServer(behaviour) as server:
        result, seconds = timed(lambda: ask(name, server.port))
        assert result.returncode == 1 and result.stdout == "" and len(result.stderr.splitlines()) == 1
        assert result.stderr.rstrip().isprintable() and seconds < 10, result.stderr


@pytest.mark.parametrize("body", [
    b"{}", b'{"Config":7,"ControlStream":[],"Heartbeats":"x","Sessions":{"Peer":"x"}}',
    b'{"Sessions":[1,null,{},{"Peer":7,"Time":{},"DurationMs":"x","Connected":"yes"}]}',
    b'{"Sessions":[{"Peer":"\\u001b[31m\\u0007\\n","Time":"' + b"9" * 5000 + b'.1","DurationMs":-9223372036854775808}]}',
    b'{"InstanceID":"\\u001b]0;x\\u0007","Config":{"Listeners":[' + b'"\\u0001\\u009b",' * 3000 + b'"x"]}}',
    b'{"ControlStream":{"Connected":true,"Since":".","DurationMs":9223372036854775807,"MessagesRx":-1}}',
], ids=["empty", "types", "rows", "long", "escapes", "numbers"])
@pytest.mark.parametrize("name", ["status", "sessions"])
def test_json_of_another_shape(name, body):
    """Shown as far as it goes: nothing that a terminal would obey, no crash."""
    with OddServer(answer(body)) as server:
        result = ask(name, server.port)
        assert result.returncode == 0 and result.stderr == ""
        assert result.stdout and all(line.isprintable() for line in result.stdout.splitlines())


def test_words_and_flags():
    """What belongs to a command is refused elsewhere; --help names the commands."""
    text = run([paths.kbgp(), "--help"]).stdout
    for command in ("check", "status", "sessions"):
        assert re.search(rf"^  {command} ", text, re.MULTILINE), text
        assert run([paths.kbgp(), command, "--help"]).stdout == text
    for words, about in ((["--json"], "--json"), (["--ready"], "--ready"), (["status", "--quiet"], "--quiet"),
                         (["check", "--json"], "--json"), (["sessions", "--ready"], "--ready"),
                         (["status", "sessions"], "sessions"), (["statu"], "statu"), (["Status"], "Status")):
        result = run([paths.kbgp(), *words])
        assert result.returncode == 2 and about in result.stderr and result.stdout == "", words


def test_a_token_that_lost_its_flag_is_not_shown():
    """"--token= SECRET" and "--token=ONE TWO": the word may be the secret."""
    for words in (["--token=", "hush"], ["--token=first", "hush"], ["status", "--token=", "hush"]):
        result = run([paths.kbgp(), *words])
        assert result.returncode == 2 and "hush" not in result.stderr
