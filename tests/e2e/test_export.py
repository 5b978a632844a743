# SPDX-License-Identifier: Apache-2.0
"""Logs and metrics sent to a collector: what arrives, who gets the account, and what happens when it does not work."""

import re
import signal
import time

import pytest

from harness import paths
from harness.agent import EMAIL, TOKEN
from harness.otlp import Receiver, answer, hang, pairs, reset, slow
from harness.ports import free_port
from harness.proc import Program, clean_env
from harness.scene import agent_alone
from harness.wait import DEADLINE, wait_for

FAILED, REFUSED, WORKS = "export failed, trying again", "export not accepted, next try in an hour", "export works again"
ABOUT_EXPORT = {FAILED, REFUSED, WORKS, "export accepted in part", "export queue is full, dropping the oldest records"}


class TinyProxy(Program):
    """tinyproxy on 127.0.0.1, asking for a password if there is one."""

    def __init__(self, workdir, user=None, password=None):
        self.port = free_port()
        config = workdir / "tinyproxy.conf"
        config.write_text(f"Port {self.port}\nListen 127.0.0.1\nTimeout 600\nMaxClients 50\nLogLevel Info\n"
                          + (f"BasicAuth {user} {password}\n" if user else ""))
        super().__init__("tinyproxy", [paths.find("tinyproxy"), "-d", "-c", config], workdir)
        credentials = f"{user}:{password}@" if user else ""
        self.url = f"http://{credentials}127.0.0.1:{self.port}"

    def wait_ready(self):
        self.wait_listening(self.port)


def counter(agent, name, **labels):
    """The value of a series of /metrics."""
    _, text = agent.get("/metrics")
    for line in text.splitlines():
        found = re.fullmatch(rf"{name}(?:\{{(.*)\}})? (\S+)", line)
        if found and dict(re.findall(r'(\w+)="([^"]*)"', found[1] or "")) == labels:
            return float(found[2])
    raise AssertionError(f"no {name}{labels} in /metrics")


def test_logs_and_metrics_arrive(workdir, certs):
    with Receiver(tls=certs.good) as receiver, \
            agent_alone(workdir, extra=receiver.options() + ["--ca-file", str(certs.ca)]) as (agent, server):
        with agent.connect() as device:
            server.wait_data()
            device.send(b"hello")
            opened = receiver.wait_record("opening Data stream")
            metrics = receiver.wait("metrics")
        instance = agent.status()["InstanceID"]
        for request in receiver.requests:
            assert request.headers["Content-Type"] == "application/json"
            assert request.headers["X-CH-Auth-Email"] == EMAIL
            assert request.headers["X-CH-Auth-API-Token"] == TOKEN
            assert request.resource()["service.name"] == "kbgp"
            assert request.resource()["service.instance.id"] == instance
            assert TOKEN.encode() not in request.body

        # A log record is what stands in the log, field by field.
        (line,) = agent.find_log("opening Data stream")
        assert opened["severity"] == 9 and opened["scope"] == line["module"] == "proxy/client-data"
        for key in line.keys() - {"time", "level", "message", "service"}:
            assert opened[key] == line[key], key
        assert opened["client-metadata"]["x-ch-auth-api-token"] == ["[redacted]"]
        assert len([r for r in receiver.records() if r["message"] == "kbgp started"]) <= 1

        # The metrics are those of the page, and every family with a series is there.
        _, page = agent.get("/metrics")
        types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", page, re.MULTILINE))
        sampled = {n for n in types if re.search(rf"^{n}(_bucket|\{{| )", page, re.MULTILINE)}
        exported = metrics.metrics()
        assert exported.keys() <= types.keys()
        assert sampled - exported.keys() <= {n for n in sampled if "device" in n or n.endswith("_timestamp_seconds")}
        for name, metric in exported.items():
            assert {"counter": "sum", "gauge": "gauge", "histogram": "histogram"}[types[name]] in metric, name
        assert all(m["sum"]["isMonotonic"] for m in exported.values() if "sum" in m)
        (build,) = exported["kbgp_build_info"]["gauge"]["dataPoints"]
        assert pairs(build["attributes"])["version"]
        assert exported["kbgp_heartbeat_rtt_seconds"]["unit"] == "s"
        wait_for(lambda: counter(agent, "kbgp_export_records_total", signal="metrics") > 50, "delivered points counted")
        wait_for(lambda: counter(agent, "kbgp_export_records_total", signal="logs") > 0, "delivered log records counted")
        assert counter(agent, "kbgp_export_dropped_total", signal="logs") == 0
        assert not [m for m in ABOUT_EXPORT if agent.find_log(m)]
        assert not agent.secrets_shown()


def test_metrics_come_every_minute(workdir):
    with Receiver() as receiver, agent_alone(workdir, extra=receiver.options(logs=False)) as (agent, _):
        first = receiver.wait("metrics")
        second = receiver.wait("metrics", 2, timeout=DEADLINE + 60)
        assert 55 < second.time - first.time < 90
        (a,), (b,) = (r.metrics()["process_cpu_seconds_total"]["sum"]["dataPoints"] for r in (first, second))
        assert a["startTimeUnixNano"] == b["startTimeUnixNano"]
        assert 55e9 < int(b["timeUnixNano"]) - int(a["timeUnixNano"]) < 90e9
        assert b["asDouble"] >= a["asDouble"]
        assert counter(agent, "kbgp_export_failures_total", signal="metrics", reason="unreachable") == 0


def test_log_export_can_be_switched_off(workdir):
    with Receiver() as receiver, \
            agent_alone(workdir, extra=receiver.options() + ["--disable-log-export"]) as (agent, _):
        receiver.wait("metrics")
        assert agent.stop() == 0  # what there was to send is sent by now
        assert not receiver.of("logs")


def test_the_account_goes_to_this_host_only_without_tls(workdir):
    """By http:// the account goes to a loopback address, and not through a web proxy."""
    with Receiver() as direct, agent_alone(workdir / "direct", extra=direct.options(metrics=False)):
        assert direct.wait("logs").headers["X-CH-Auth-API-Token"] == TOKEN
    with TinyProxy(workdir) as proxy, Receiver() as receiver, \
            agent_alone(workdir / "proxied", extra=receiver.options(metrics=False),
                        env={"HTTP_PROXY": proxy.url, "NO_PROXY": "none.example"}) as (agent, _):
        request = receiver.wait("logs")
        assert "Via" in request.headers  # tinyproxy's
        assert "X-CH-Auth-API-Token" not in request.headers
        assert "X-CH-Auth-Email" not in request.headers
        assert not agent.secrets_shown()


def test_through_a_web_proxy_with_a_password(workdir, certs):
    with TinyProxy(workdir, "operator", "pass-word-17") as proxy, Receiver(tls=certs.good) as receiver, \
            agent_alone(workdir, extra=receiver.options() + ["--ca-file", str(certs.ca)],
                        env={"HTTPS_PROXY": proxy.url, "NO_PROXY": "none.example"}) as (agent, _):
        for kind in ("logs", "metrics"):
            assert receiver.wait(kind).headers["X-CH-Auth-API-Token"] == TOKEN
        assert f"127.0.0.1:{receiver.port}" in proxy.output()
        assert TOKEN not in proxy.output()
        assert "pass-word-17" not in agent.output()


def test_a_proxy_that_refuses_is_named_without_its_password(workdir, certs):
    with TinyProxy(workdir, "operator", "right") as proxy, Receiver(tls=certs.good) as receiver:
        wrong = proxy.url.replace("right", "wrong-secret")
        with agent_alone(workdir, extra=receiver.options() + ["--ca-file", str(certs.ca)],
                         env={"HTTPS_PROXY": wrong, "NO_PROXY": "none.example"}) as (agent, _):
            line = agent.wait_for_log(FAILED, signal="logs")
            assert str(proxy.port) in line["proxy"]
            assert re.search(r"40[17]", line["error"])
            assert "wrong-secret" not in agent.output()
            assert not receiver.requests


def test_retry_after_is_honoured_and_told_once(workdir):
    busy = answer(503, Retry_After="4")
    with Receiver(logs=[busy, answer(429), answer(502), answer(504)]) as receiver, \
            agent_alone(workdir, extra=receiver.options(metrics=False)) as (agent, _):
        first, second, last = receiver.wait("logs", 1), receiver.wait("logs", 2), receiver.wait("logs", 5)
        assert second.time - first.time >= 3.9
        assert first.body == second.body == last.body
        works = agent.wait_for_log(WORKS, level="info", signal="logs")
        assert works["dropped"] == 0
        (line,) = agent.find_log(FAILED, signal="logs")
        assert line["level"] == "warn" and "503" in line["error"] and line["url"] == f"{receiver.base}/logs"
        assert counter(agent, "kbgp_export_failures_total", signal="logs", reason="busy") == 4
        # What the export says about itself is not exported; what else was written in the meantime is, later.
        with agent.connect():
            receiver.wait_record("opening Data stream")
        assert not ABOUT_EXPORT & {r["message"] for r in receiver.records()}


def endless(handler):
    """An answer without an end."""
    handler.close_connection = True
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while not handler.server.over.is_set():
        handler.wfile.write(b"x" * 65536)


def test_receivers_without_manners_do_not_disturb_the_relay(workdir):
    with Receiver(logs=[reset, hang], metrics=[endless]) as receiver, \
            agent_alone(workdir, extra=receiver.options()) as (agent, server):
        receiver.wait("logs", 2)
        receiver.wait("metrics")  # neither comes to an end now
        with agent.connect() as device:
            call = server.wait_data()
            for i in range(50):
                begin = time.monotonic()
                device.send(b"x" * 1000)
                call.wait_data(1000 * (i + 1))
                assert agent.get("/hc")[0] == 200
                assert time.monotonic() - begin < 5
        request = receiver.wait("logs", 3)  # after the 30 s that a request has
        assert request.body == receiver.of("logs")[0].body
        agent.wait_for_log(WORKS, signal="logs")
        assert len(agent.find_log(FAILED, signal="logs")) == 1
        assert counter(agent, "kbgp_export_failures_total", signal="logs", reason="unreachable") == 1
        assert counter(agent, "kbgp_export_failures_total", signal="logs", reason="timeout") == 1
        wait_for(lambda: counter(agent, "kbgp_export_failures_total", signal="metrics", reason="timeout") == 1,
                 "the endless answer cut")
        assert agent.rss() < 200 << 20


def test_a_slow_answer_is_waited_for(workdir):
    with Receiver(logs=[slow]) as receiver, agent_alone(workdir, extra=receiver.options(metrics=False)) as (agent, _):
        with agent.connect():
            receiver.wait_record("opening Data stream")
        assert not agent.find_log(FAILED, signal="logs")
        assert len(receiver.of("logs")) == len({r.body for r in receiver.of("logs")})


@pytest.mark.parametrize("status", [400, 301])
def test_not_accepted_stops_for_an_hour(workdir, status):
    said = b'{"code":3,"message":"no such tenant, your token is ' + TOKEN.encode() + b'"}'
    told = b'{"code":3,"message":"no such tenant"}'
    with Receiver(logs=[answer(status, told if status == 400 else said, Location="http://127.0.0.1:9/")]) as receiver, \
            agent_alone(workdir, extra=receiver.options(metrics=False)) as (agent, _):
        receiver.wait("logs")
        line = agent.wait_for_log(REFUSED, level="warn", signal="logs")
        assert str(status) in line["error"]
        assert ("no such tenant" in line["error"]) == (status == 400)
        lost = counter(agent, "kbgp_export_dropped_total", signal="logs")
        assert lost > 0
        with agent.connect():
            wait_for(lambda: counter(agent, "kbgp_export_dropped_total", signal="logs") > lost, "records dropped at once")
        assert counter(agent, "kbgp_export_failures_total", signal="logs", reason="refused") == 1
        # The operator has put it right and says so.
        agent.signal(signal.SIGHUP)
        receiver.wait("logs", 2)
        agent.wait_for_log(WORKS, signal="logs")
        assert len(agent.find_log(REFUSED)) == 1 and not agent.find_log(FAILED, signal="logs")
        assert not agent.secrets_shown()


def test_another_server_error_drops_what_it_answers(workdir):
    with Receiver(logs=[answer(500, b"<html>oops</html>", "text/html")]) as receiver, \
            agent_alone(workdir, extra=receiver.options(metrics=False)) as (agent, _):
        first = receiver.wait("logs")
        agent.wait_for_log(FAILED, signal="logs")
        with agent.connect():
            second = receiver.wait("logs", 2)
        assert not {r["message"] for r in first.records()} & {r["message"] for r in second.records()}
        assert counter(agent, "kbgp_export_dropped_total", signal="logs") == len(first.records())


def test_partial_success_is_told_once_and_counted(workdir):
    partial = answer(200, b'{"partialSuccess":{"rejectedLogRecords":"1","errorMessage":"record too old"}}')
    with Receiver(logs=[partial, partial]) as receiver, \
            agent_alone(workdir, extra=receiver.options(metrics=False)) as (agent, _):
        sent = len(receiver.wait("logs").records())
        with agent.connect():
            sent += len(receiver.wait("logs", 2).records())
        wait_for(lambda: counter(agent, "kbgp_export_failures_total", signal="logs", reason="partial") == 2, "both counted")
        assert counter(agent, "kbgp_export_dropped_total", signal="logs") == 2
        assert counter(agent, "kbgp_export_records_total", signal="logs") == sent - 2
        (line,) = agent.find_log("export accepted in part")
        assert line["error"] == "record too old" and line["rejected"] == 1
        assert not agent.find_log(FAILED, signal="logs")


def test_a_receiver_with_a_strangers_certificate_gets_nothing(workdir, certs):
    with Receiver(tls=certs.stranger) as receiver, \
            agent_alone(workdir, extra=receiver.options() + ["--ca-file", str(certs.ca)]) as (agent, _):
        line = agent.wait_for_log(FAILED, signal="logs")
        assert re.search("certificate|SSL|verif", line["error"])
        agent.wait_for_log(FAILED, signal="metrics")
        assert not receiver.requests


def test_a_name_that_does_not_resolve_is_told_once(workdir):
    url = "https://collector.invalid/logs"
    with agent_alone(workdir, extra=["--disable-log-export=false", f"--log-export-url={url}"]) as (agent, _):
        line = agent.wait_for_log(FAILED, signal="logs")
        assert line["url"] == url and "collector.invalid" in line["error"] + line["url"]
        wait_for(lambda: counter(agent, "kbgp_export_failures_total", signal="logs", reason="unreachable") >= 2, "2 tries")
        assert len(agent.find_log(FAILED, signal="logs")) == 1


def test_the_last_records_are_sent_before_the_end(workdir):
    with Receiver() as receiver, agent_alone(workdir, extra=receiver.options()) as (agent, _):
        receiver.wait("metrics")
        before = len(receiver.of("metrics"))
        assert agent.stop() == 0
        assert "stopping" in {r["message"] for r in receiver.records()}
        assert len(receiver.of("metrics")) == before + 1


def test_the_end_does_not_wait_for_a_receiver_that_hangs(workdir):
    with Receiver(logs=[hang], metrics=[hang]) as receiver, agent_alone(workdir, extra=receiver.options()) as (agent, _):
        receiver.wait("logs")
        receiver.wait("metrics")
        begin = time.monotonic()
        assert agent.stop() == 0
        assert time.monotonic() - begin < 4


def test_a_url_that_is_none_is_a_usage_error(workdir):
    agent = Program("kbgp", [paths.kbgp(), "--email", EMAIL, "--target", "127.0.0.1:9", "--insecure",
                             "--log-export-url", "collector:4318/v1/logs"], workdir, env=clean_env(KENTIK_API_TOKEN=TOKEN))
    agent.start()
    wait_for(lambda: not agent.running(), "the end of kbgp")
    assert agent.process.returncode == 2
    assert "--log-export-url" in agent.output()
