# SPDX-License-Identifier: Apache-2.0
"""
The status pages of the agent: documented keys with their types and order, /hc with its five words, /metrics.

Needs promtool (Debian: prometheus).
"""

import contextlib
import http.client
import json
import re
import signal
import subprocess
import time
from datetime import datetime, timezone

import grpc

from harness import paths
from harness.agent import Agent
from harness.grpc_target import GrpcTarget, blocked, known, pushed
from harness.ports import free_port
from harness.proc import run
from harness.scene import agent_alone
from harness.wait import wait_for

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")

# The documentation's examples: keys in order, and what the values are.
STATUS = {
    "InstanceID": str,
    "ControlStream": {"Connected": bool, "Since": TIME, "DurationMs": int, "MessagesRx": int},
    "Heartbeats": {"LastTx": TIME, "MsSinceLastTx": int, "LastTxRTTMs": int, "LastRx": TIME, "MsSinceLastRx": int},
    "ActiveSessions": int,
    "Config": {"Listeners": list, "MD5Enabled": bool, "MD5Interface": str, "ProxyTarget": str, "APIEmail": str,
               "SiteID": int},
}
SESSIONS = {"NumSessions": int, "Sessions": list}
SUMMARY = {"Peer": str, "Time": TIME, "DurationMs": int, "Connected": bool}
DETAILS = {"Peer": str, "ConnectedSince": TIME, "ConnectedDurationMs": int, "SessionID": str, "ServerMetadata": dict}

METRICS = """
    kbgp_build_info kbgp_health_status kbgp_ready kbgp_control_connected kbgp_control_connected_timestamp_seconds
    kbgp_control_messages_total kbgp_control_reconnects_total kbgp_control_lookup_seconds kbgp_heartbeat_rtt_seconds
    kbgp_heartbeat_received_timestamp_seconds kbgp_control_cache_entries kbgp_control_cache_hits_total
    kbgp_control_cache_misses_total kbgp_connections kbgp_connection_attempts_total kbgp_connection_failures_total
    kbgp_connections_lost_total kbgp_connection_rtt_seconds kbgp_tls_peer_certificate_expiry_timestamp_seconds
    kbgp_sessions kbgp_sessions_accepted_total kbgp_sessions_refused_total kbgp_sessions_closed_total
    kbgp_data_streams_opened_total kbgp_data_streams_lost_total kbgp_session_resumes_total
    kbgp_session_resume_failures_total kbgp_relayed_bytes_total kbgp_relayed_messages_total
    kbgp_relay_paused_seconds_total kbgp_ring_bytes kbgp_ring_limit_bytes kbgp_loop_lag_seconds kbgp_log_messages_total
    process_cpu_seconds_total process_resident_memory_bytes process_virtual_memory_bytes process_start_time_seconds
    process_threads process_open_fds process_max_fds
    """.split()
DEVICE_METRICS = """
    kbgp_device_up kbgp_device_session_start_timestamp_seconds kbgp_device_received_timestamp_seconds
    kbgp_device_relayed_bytes_total kbgp_device_bgp_state kbgp_device_bgp_asn kbgp_device_bgp_hold_time_seconds
    kbgp_device_bgp_messages_total kbgp_device_bgp_established_total kbgp_device_bgp_notifications_total
    kbgp_device_bgp_notification_timestamp_seconds
    """.split()


def check_keys(page, documented):
    """The documented keys come first and in order; each value has its type. Other keys may follow."""
    assert list(page)[:len(documented)] == list(documented), page
    for key, kind in documented.items():
        value = page[key]
        if isinstance(kind, dict):
            check_keys(value, kind)
        elif kind is TIME:
            assert TIME.fullmatch(value), f"{key}: {value!r}"
        else:
            assert type(value) is kind, f"{key}: {value!r}"


def metrics(agent):
    """{series: value} of /metrics, after promtool has found nothing to complain about."""
    code, text = agent.get("/metrics")
    assert code == 200
    lint = subprocess.run([paths.find("promtool"), "check", "metrics"], input=text, text=True, capture_output=True,
                          timeout=60, check=False)
    assert lint.returncode == 0 and not lint.stdout + lint.stderr, lint.stdout + lint.stderr
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line[0] != "#"}


def families(agent):
    return re.findall(r"^# TYPE (\S+)", agent.get("/metrics")[1], re.MULTILINE)


# --- the JSON pages ---


def test_status_has_the_documented_keys(workdir):
    with agent_alone(workdir, site=42) as (agent, server):
        agent.wait_control()
        status = agent.status()
        check_keys(status, STATUS)
        assert status["ControlStream"]["Connected"] is True and status["ControlStream"]["MessagesRx"] >= 1
        assert status["Config"]["Listeners"] == agent.listen and status["Config"]["SiteID"] == 42
        assert status["InstanceID"] == server.control.value("instance")


def test_times_are_null_before_anything_happened(workdir):
    with Agent(workdir, f"127.0.0.1:{free_port()}") as agent:
        status = agent.status()
        assert list(status)[:len(STATUS)] == list(STATUS)
        assert status["ControlStream"] | {"Connected": False, "Since": None, "DurationMs": None, "MessagesRx": 0} \
            == status["ControlStream"]
        assert status["Heartbeats"]["LastRx"] is None and status["Heartbeats"]["MsSinceLastRx"] is None


def test_sessions_have_the_documented_keys(workdir):
    with agent_alone(workdir) as (agent, server):
        code, empty = agent.get_json("/admin/sessions")
        assert code == 200 and empty == {"NumSessions": 0, "Sessions": []}
        server.initial_metadata = lambda call: [*server.counters(call), ("x-tag", "one"), ("x-tag", "two")]
        with agent.connect() as device:
            call = server.wait_data()
            agent.wait_sessions(1)
            device.send(b"x" * 1000)
            call.wait_data(1000)
            call.send(b"y" * 300)
            device.wait_received(300)
            code, page = agent.get_json("/admin/sessions")
            check_keys(page, SESSIONS)
            (summary,) = page["Sessions"]
            check_keys(summary, SUMMARY)
            assert summary["Peer"] == f"127.0.0.2:{device.local[1]}" and summary["Connected"] is True
            assert summary["Device"] == "1289:a6r_kx1:127353-ipv4" and summary["State"] == "active"

            code, details = agent.get_json("/admin/sessions/127.0.0.2")
            assert code == 200
            check_keys(details, DETAILS)
            assert details["SessionID"] == call.session_id and details["ServerMetadata"]["x-tag"] == ["one", "two"]
            assert (details["BytesUp"], details["BytesDown"]) == (1000, 300)
            assert details["MessagesUp"] == call.session.received_messages and details["MessagesDown"] == 1
            assert details["Device"] == summary["Device"] and details["Local"] == f"127.0.0.1:{agent.port}"
            assert agent.get_json(f"/admin/sessions/127.0.0.2:{device.local[1]}")[1]["SessionID"] == call.session_id


def test_unknown_sessions_are_404_in_json(workdir):
    with agent_alone(workdir) as (agent, server), agent.connect():
        server.wait_data()
        for path in ("127.0.0.9", "127.0.0.2:1", "::1", "nonsense", "%22%0a"):
            code, body = agent.get_json(f"/admin/sessions/{path}")
            assert code == 404 and list(body) == ["error"], path


def test_pretty(workdir):
    """Broken into lines, and the same otherwise."""
    with agent_alone(workdir) as (agent, server), agent.connect():
        server.wait_data()
        agent.wait_sessions(1)
        for path in ("/hc", "/admin/status", "/admin/sessions", "/admin/sessions/127.0.0.2"):
            plain, pretty = agent.get(path)[1], agent.get(path + "?pretty")[1]
            assert len(plain.splitlines()) == 1 and len(pretty.splitlines()) > 3, path
            assert list(json.loads(plain)) == list(json.loads(pretty))


# --- /hc ---


def wait_health(agent, status, timeout=60):
    """Waits for the word, and returns the page."""
    pages = []

    def look():
        pages.append(agent.get_json("/hc"))
        return pages[-1][1]["status"] == status

    wait_for(look, f"/hc saying {status}", timeout)
    code, page = pages[-1]
    assert code == (200 if status == "ok" else 503)
    assert list(page)[:2] == ["timestamp", "status"] and TIME.fullmatch(page["timestamp"])
    return page


def test_ok_as_soon_as_the_target_has_answered(workdir):
    with agent_alone(workdir) as (agent, _):
        agent.wait_control()
        page = wait_health(agent, "ok", 2)
        assert abs(datetime.fromisoformat(page["timestamp"][:26] + "+00:00").timestamp() - time.time()) < 30
        assert set(page["checks"].values()) == {"ok"}


def test_initializing_then_failing_without_a_target(workdir):
    begin = time.monotonic()
    with Agent(workdir, f"127.0.0.1:{free_port()}") as agent:
        code, page = agent.get_json("/hc")
        if time.monotonic() - begin < 4:
            assert (code, page["status"]) == (503, "initializing")
        page = wait_health(agent, "failing", 30)
        assert time.monotonic() - begin >= 5
        assert page["checks"]["control"] == "failing: the Control stream is not connected"
        assert page["checks"]["listeners"] == page["checks"]["api"] == "ok"


def test_failing_at_once_with_rejected_credentials(workdir):
    with GrpcTarget() as server:
        server.refuse_control = (grpc.StatusCode.UNAUTHENTICATED, "no")
        with Agent(workdir, server.address) as agent:
            agent.wait_for_log(level="error", pattern="rejected the credentials")
            page = wait_health(agent, "failing", 3)
            assert page["checks"]["control"] == "failing: the target rejected the credentials"
            assert metrics(agent)['kbgp_connection_failures_total{stage="auth"}'] >= 1


def test_timeout_while_a_heartbeat_is_not_answered(workdir):
    with GrpcTarget() as server:
        server.echo_keepalive = False
        with Agent(workdir, server.address) as agent:
            server.wait_control().push(pushed("127.0.0.77"))  # the stream is up, and alive
            assert agent.health()[0] == 503
            page = wait_health(agent, "timeout", 30)
            assert page["checks"]["control"] == "waiting: a KEEPALIVE of the Control stream is not answered yet"
            assert metrics(agent)['kbgp_health_status{kbgp_health_status="timeout"}'] == 1
            server.control.push(pushed("", action=2))
            wait_health(agent, "ok", 3)


def test_old_result_when_the_loop_hung(workdir):
    """A process that was stopped for a while answers with what it knows, and says that this is old."""
    with agent_alone(workdir) as (agent, _):
        agent.wait_control()
        wait_health(agent, "ok")
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", agent.metrics_port, timeout=60)) as connection:
            connection.request("GET", "/hc")  # the connection is accepted, and stays
            assert json.load(connection.getresponse())["status"] == "ok"
            agent.signal(signal.SIGSTOP)
            try:
                connection.request("GET", "/hc")
                time.sleep(7)  # this long the loop must hang
            finally:
                agent.signal(signal.SIGCONT)
            response = connection.getresponse()
            assert response.status == 503 and json.load(response)["status"] == "old_result"
        wait_health(agent, "ok")


def test_short_loss_of_control_is_waited_for(workdir):
    """The target ends Control and takes it again at once: the sessions do not notice, and neither does keepalived."""
    with agent_alone(workdir) as (agent, server):
        agent.wait_control()
        wait_health(agent, "ok")
        begin = time.monotonic()
        server.control.finish()
        seen = set()

        def back():
            seen.add(agent.health())
            return len(server.controls) == 2 and agent.status()["ControlStream"]["Connected"]

        wait_for(back, "Control is back")
        if time.monotonic() - begin < 4:
            assert seen == {(200, "ok")}
        assert metrics(agent)['kbgp_control_reconnects_total{reason="ended"}'] == 1


def test_failing_when_control_stays_away(workdir):
    with agent_alone(workdir) as (agent, server):
        agent.wait_control()
        server.refuse_control = (grpc.StatusCode.UNAVAILABLE, "gone")
        server.control.finish(*server.refuse_control)
        wait_health(agent, "failing")
        server.refuse_control = None
        wait_health(agent, "ok", 90)


# --- /metrics ---


def test_metrics_are_all_there_from_the_start(workdir):
    """Every family once, every label value at 0, and nothing for promtool to complain about."""
    with Agent(workdir, f"127.0.0.1:{free_port()}") as agent:
        names = families(agent)
        assert set(names) >= {*METRICS, *DEVICE_METRICS} and len(names) == len(set(names))
        m = metrics(agent)
        assert m["kbgp_ready"] == m["kbgp_control_connected"] == 0
        states = {k: v for k, v in m.items() if k.startswith("kbgp_health_status")}
        assert len(states) == 5 and sum(states.values()) == 1
        for name, labels in {
                "kbgp_connections": ("state", "connecting ready backoff draining"),
                "kbgp_connection_failures_total": ("stage", "dns tcp proxy tls http2 auth"),
                "kbgp_control_reconnects_total": ("reason", "goaway ping_timeout reset auth ended heartbeat_timeout"),
                "kbgp_sessions": ("state", "waiting active resuming closing"),
                "kbgp_sessions_refused_total": ("reason", "blocked control_timeout limit"),
                "kbgp_sessions_closed_total": ("cause", "device_fin device_reset target_end target_kill shutdown"),
                "kbgp_relayed_bytes_total": ("direction", "up down"),
                "kbgp_log_messages_total": ("level", "debug info warn error")}.items():
            label, values = labels
            for value in values.split():
                assert f'{name}{{{label}="{value}"}}' in m
        assert m["process_resident_memory_bytes"] > 0 and m["process_threads"] >= 1


def test_metrics_count(workdir):
    with agent_alone(workdir) as (agent, server):
        server.answer = lambda request: [blocked(request) if request.device_ip == "127.0.0.9" else known(request, 600)]
        with agent.connect() as device, agent.connect("127.0.0.9") as stranger:
            call = server.wait_data()
            device.send(b"x" * 1000)
            call.wait_data(1000)
            call.send(b"y" * 300)
            device.wait_received(300)
            stranger.wait_ended()
            with agent.connect("127.0.0.9") as again:
                again.wait_ended()
            m = metrics(agent)
            assert m["kbgp_ready"] == m["kbgp_control_connected"] == 1
            assert m['kbgp_control_messages_total{direction="sent",kind="request"}'] == 2
            assert m['kbgp_control_messages_total{direction="received",kind="answer"}'] == 2
            assert m['kbgp_control_messages_total{direction="received",kind="keepalive"}'] == 1
            assert m["kbgp_control_lookup_seconds_count"] == 2 and m["kbgp_heartbeat_rtt_seconds_count"] == 1
            assert m['kbgp_control_cache_entries{answer="allow"}'] == m['kbgp_control_cache_entries{answer="block"}'] == 1
            assert m['kbgp_connections{state="ready"}'] == 2 and m["kbgp_connection_attempts_total"] == 2
            assert m['kbgp_connection_rtt_seconds{channel="control"}'] > 0
            assert m['kbgp_sessions{state="active"}'] == 1 and m["kbgp_sessions_accepted_total"] == 3
            assert m['kbgp_sessions_refused_total{reason="blocked"}'] == 2
            assert m['kbgp_relayed_bytes_total{direction="up"}'] == 1000
            assert m['kbgp_relayed_bytes_total{direction="down"}'] == 300
            assert m['kbgp_relayed_messages_total{direction="down"}'] == 1
            assert "kbgp_tls_peer_certificate_expiry_timestamp_seconds" not in m
            assert abs(m["kbgp_heartbeat_received_timestamp_seconds"] - time.time()) < 60
            server.control.push(pushed("127.0.0.77", ttl_seconds=5))
            wait_for(lambda: metrics(agent)['kbgp_control_messages_total{direction="received",kind="push"}'] == 1, "push")
            device.half_close()
            device.wait_ended()
        wait_for(lambda: metrics(agent)['kbgp_sessions_closed_total{cause="device_fin"}'] == 1, "the end counted")


def test_failures_are_counted_by_stage(workdir, certs):
    with Agent(workdir / "tcp", f"127.0.0.1:{free_port()}") as agent:
        wait_for(lambda: metrics(agent)['kbgp_connection_failures_total{stage="tcp"}'] >= 1, "a failure to connect")
    with Agent(workdir / "dns", "no-such-host.invalid:443") as agent:
        wait_for(lambda: metrics(agent)['kbgp_connection_failures_total{stage="dns"}'] >= 1, "a failure to resolve")
    with GrpcTarget(tls=certs.wrong_name) as server, Agent(workdir / "tls", server.address, ca_file=certs.ca) as agent:
        wait_for(lambda: metrics(agent)['kbgp_connection_failures_total{stage="tls"}'] >= 1, "a failure of TLS")


def test_certificate_expiry(workdir, certs):
    with GrpcTarget(tls=certs.good) as server, Agent(workdir, server.address, ca_file=certs.ca) as agent:
        agent.wait_control()
        ends = []
        for pem in (certs.good[0], certs.ca):
            text = run(["openssl", "x509", "-in", pem, "-noout", "-enddate"], check=True).stdout.strip().partition("=")[2]
            ends.append(datetime.strptime(text, "%b %d %H:%M:%S %Y %Z").replace(tzinfo=timezone.utc).timestamp())
        assert metrics(agent)["kbgp_tls_peer_certificate_expiry_timestamp_seconds"] == min(ends)


def test_backpressure_is_timed(workdir):
    with agent_alone(workdir, GrpcTarget(keep_requests=False)) as (agent, server), agent.connect() as device:
        call = server.wait_data()
        call.pause()
        device.flood(b"z" * (64 << 20))
        name = 'kbgp_relay_paused_seconds_total{direction="up"}'
        first = metrics(agent)[name]
        assert first > 0
        wait_for(lambda: metrics(agent)[name] >= first + 0.5, "time that passes while the session stands still")
        assert metrics(agent)['kbgp_ring_bytes{state="used"}'] >= 128 << 10
        call.resume()
        wait_for(lambda: metrics(agent)['kbgp_ring_bytes{state="used"}'] == 0, "the rest")
        still = metrics(agent)[name]
        agent.status()
        assert metrics(agent)[name] == still


def test_metrics_per_device_can_be_switched_off(workdir):
    with agent_alone(workdir, extra=["--metrics-per-device=false"]) as (agent, server), agent.connect():
        server.wait_data()
        names = set(families(agent))
        assert names >= set(METRICS) and not any(n.startswith("kbgp_device_") for n in names)
    with agent_alone(workdir / "env", env={"KBGP_METRICS_PER_DEVICE": "false"}) as (agent, server), agent.connect():
        server.wait_data()
        names = set(families(agent))
        assert names >= set(METRICS) and not any(n.startswith("kbgp_device_") for n in names)


def test_a_device_name_is_only_a_label(workdir):
    """What the target calls a device stands in labels, JSON and logs as it should, whatever it is."""
    name = 'a"b\\c\nd}é'
    with agent_alone(workdir) as (agent, server):
        server.answer = lambda request: [known(request, device_name=name)]
        with agent.connect():
            server.wait_data()
            m = metrics(agent)
            assert m['kbgp_device_up{device="a\\"b\\\\c\\nd}é",address="127.0.0.2",site="0"}'] == 1
            assert agent.sessions()[0]["Device"] == f"1289:{name}:127353-ipv4"
