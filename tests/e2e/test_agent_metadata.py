# SPDX-License-Identifier: Apache-2.0
"""What the agent says about itself and a device: metadata of both calls, the ControlRequest, the log line of a session."""

import re

from harness import paths
from harness.agent import EMAIL, TOKEN
from harness.grpc_target import known
from harness.proc import run
from harness.scene import agent_alone
from harness.schema import KEEPALIVE
from harness.wait import wait_for

UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
COMMON = {"x-ch-auth-email", "x-ch-auth-api-token", "version", "instance"}
TUPLE = {"proto", "device-ip", "device-port", "proxy-ip", "proxy-port"}
DATA = COMMON | TUPLE | {"session-id", "counter-up", "counter-down"}
EXTENSION = {"kbgp-resume"}


def test_metadata_of_control(workdir):
    with agent_alone(workdir) as (agent, server):
        call = server.control
        assert set(call.metadata) == COMMON
        assert call.value("x-ch-auth-email") == EMAIL and call.value("x-ch-auth-api-token") == TOKEN
        assert UUID4.fullmatch(call.value("instance"))
        assert call.value("version") in run([paths.kbgp(), "--version"]).stdout
        assert agent.status()["InstanceID"] == call.value("instance")


def test_metadata_of_data(workdir):
    with agent_alone(workdir) as (agent, server), agent.connect("127.0.0.2") as device:
        call = server.wait_data()
        assert DATA <= set(call.metadata) <= DATA | EXTENSION
        for key in COMMON:
            assert call.metadata[key] == server.control.metadata[key]
        assert call.value("proto") == "BGP"
        assert (call.value("device-ip"), call.value("device-port")) == ("127.0.0.2", str(device.local[1]))
        assert (call.value("proxy-ip"), call.value("proxy-port")) == ("127.0.0.1", str(agent.port))
        assert UUID4.fullmatch(call.value("session-id"))
        assert (call.value("counter-up"), call.value("counter-down")) == ("0", "0")


def test_site_id(workdir):
    with agent_alone(workdir, site=4711) as (agent, server), agent.connect():
        assert server.control.value("sid") == "4711"
        assert server.wait_data().value("sid") == "4711"
        assert agent.status()["Config"]["SiteID"] == 4711


def test_ipv6_addresses_are_canonical(workdir):
    """An IPv6 listener, and the same address forms everywhere."""
    with agent_alone(workdir, listen=["[::1]:10179"]) as (agent, server), agent.connect("::1", "::1") as device:
        call = server.wait_data()
        assert (call.value("device-ip"), call.value("proxy-ip")) == ("::1", "::1")
        assert agent.wait_for_log("opening Data stream")["peer-addr"] == f"[::1]:{device.local[1]}"


def test_control_request(workdir):
    with agent_alone(workdir) as (agent, server), agent.connect("127.0.0.2") as device:
        server.wait_data()
        (request,) = server.lookups()
        assert request.proto == "BGP" and request.action == 0
        assert (request.device_ip, request.device_port) == ("127.0.0.2", device.local[1])
        assert (request.proxy_ip, request.proxy_port) == ("127.0.0.1", agent.port)


def test_first_heartbeat_comes_at_once(workdir):
    """KEEPALIVE is the first thing on a new Control stream, and its answer shows in the status."""
    with agent_alone(workdir) as (agent, server):
        wait_for(lambda: server.control.requests, "first ControlRequest")
        assert server.control.requests[0].action == KEEPALIVE
        agent.wait_control()
        status = agent.status()
        beats, stream = status["Heartbeats"], status["ControlStream"]
        assert beats["LastTx"] and beats["LastRx"] and beats["LastTxRTTMs"] >= 0 and beats["MsSinceLastRx"] >= 0
        assert stream["Since"] and stream["DurationMs"] >= 0 and stream["MessagesRx"] >= 1
        assert status["ActiveSessions"] == 0
        config = status["Config"]
        assert config["ProxyTarget"] == server.address and config["APIEmail"] == EMAIL and config["SiteID"] == 0
        assert config["Listeners"] == agent.listen and config["MD5Enabled"] is False
        assert agent.health() == (200, "ok")


def test_session_ids_are_new_even_for_the_same_ports(workdir):
    """Two connections of one 5-tuple, one after the other, are two sessions."""
    with agent_alone(workdir) as (agent, server):
        with agent.connect("127.0.0.2", source_port=23456) as device:
            first = server.wait_data()
            device.reset()
        first.wait_over()
        with agent.connect("127.0.0.2", source_port=23456):
            second = server.wait_data(2)
        assert first.value("device-port") == second.value("device-port") == "23456"
        assert first.value("session-id") != second.value("session-id")
        assert first.value("instance") == second.value("instance")


def test_log_line_of_a_session(workdir):
    """The documented line with the documented fields; the token is nowhere in what the agent writes."""
    with agent_alone(workdir, log_level="debug") as (agent, server), agent.connect("127.0.0.2") as device:
        call = server.wait_data()
        line = agent.wait_for_log("opening Data stream", level="info")
        shown = line["client-metadata"]
        assert shown["x-ch-auth-api-token"] == ["[redacted]"]
        assert {k: v for k, v in shown.items() if k != "x-ch-auth-api-token"} \
            == {k: v for k, v in call.metadata.items() if k != "x-ch-auth-api-token"}
        assert line["device"] == "1289:a6r_kx1:127353-ipv4"
        assert line["local-addr"] == f"127.0.0.1:{agent.port}" and line["peer-addr"] == f"127.0.0.2:{device.local[1]}"
        assert line["module"] == "proxy/client-data" and line["service"] == "ktbgp-agent"
        assert line["session-id"] == call.value("session-id")
        assert not agent.secrets_shown()
        assert TOKEN not in agent.get("/admin/status")[1] + agent.get("/admin/sessions/127.0.0.2")[1]


def test_every_line_on_stderr_is_a_json_object_with_time_level_message(workdir):
    with agent_alone(workdir, log_level="debug") as (agent, server), agent.connect():
        server.wait_data()
        agent.wait_for_log("opening Data stream")
        lines = agent.stderr().split("\n")[:-1]
        records = agent.log()
        assert len(records) == len(lines) > 0
        for record in records:
            assert list(record)[:3] == ["time", "level", "message"] and record["message"], record
            assert record["level"] in ("debug", "info", "warn", "error")


def test_metadata_pairs_of_the_answer_go_into_the_call(workdir):
    """Each legal pair, repeated values included; those that are none, or are ours, are left out with a warning."""
    legal = [("backend-pin", ["42b0e9c9"]), ("x-many", ["one", "two"])]
    illegal = [("bad key", ["1"]), ("session-id", ["forged"]), ("x-ch-auth-email", ["forged@example.com"]),
               ("grpc-timeout", ["1S"]), (":path", ["/elsewhere"]), ("x-newline", ["a\nb"]), ("", ["x"])]
    with agent_alone(workdir) as (agent, server):
        server.answer = lambda request: [known(request, metadata=illegal + legal)]
        with agent.connect():
            call = server.wait_data()
            assert DATA <= set(call.metadata) <= DATA | EXTENSION | {"backend-pin", "x-many"}
            assert call.metadata["backend-pin"] == ["42b0e9c9"] and call.metadata["x-many"] == ["one", "two"]
            assert UUID4.fullmatch(call.value("session-id")) and call.value("x-ch-auth-email") == EMAIL
            line = str(agent.wait_for_log(level="warn", pattern="metadata"))
            assert any(repr(key) in line for key, _ in illegal if key), line
