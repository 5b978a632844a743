# SPDX-License-Identifier: Apache-2.0
"""`kbgp check`: a line for each thing that a new user gets wrong. `kbgp check --ready`: the health check of containers."""

import contextlib
import os
import re
import socket
import subprocess
import threading
import time

import grpc
import pytest

from harness import odd_server, paths
from harness.agent import EMAIL, TOKEN, Agent
from harness.grpc_target import GrpcTarget
from harness.odd_server import OddServer
from harness.ports import free_port
from harness.proc import clean_env, run, timed
from harness.scene import agent_alone, chain

STEPS = ["TCP", "TLS", "HTTP/2", "credentials"]


class Report:
    """What `kbgp check` said: `verdict[name]` is "ok", "PROBLEM" or "-", `text[name]` the rest of the line."""

    def __init__(self, result):
        self.code, self.output = result.returncode, result.stdout
        assert result.stderr == "", result.stderr
        assert TOKEN not in self.output
        self.verdict, self.text = {}, {}
        for line in self.output.splitlines():
            match = re.fullmatch(r"(.+?) +(ok|PROBLEM|-) +(.*)", line)
            if match:
                self.verdict[match[1]], self.text[match[1]] = match[2], match[3]

    def problems(self):
        return [name for name, verdict in self.verdict.items() if verdict == "PROBLEM"]

    def assert_problem(self, name, *words):
        """That, and nothing else, is wrong; the line has these words; and what comes after it was not tried."""
        assert self.code == 1 and self.problems() == [name], self.output
        for word in words:
            assert word in self.text[name], self.output
        if name in STEPS:
            at = STEPS.index(name)
            assert all(self.verdict[s] != "PROBLEM" for s in STEPS[:at]), self.output
            assert all(self.text[s] == "not tried" for s in STEPS[at + 1:]), self.output


def command(target, *words, email=EMAIL, listen=None, metrics_port=None, insecure=True):
    argv = [paths.kbgp(), "check", "--target", target, "--listen", listen or f"127.0.0.1:{free_port()}",
            "--metrics-port", str(metrics_port or free_port()), *map(str, words)]
    if email:
        argv += ["--email", email]
    return argv + (["--insecure"] if insecure else [])


def check(target, *words, token=TOKEN, env=None, **options):
    return Report(run(command(target, *words, **options), env=clean_env(KENTIK_API_TOKEN=token, **(env or {}))))


# All is well

@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_all_is_well(certs, tls):
    """Every line ok, exit code 0; the target saw one Control call as the agent makes it."""
    with GrpcTarget(tls=certs.good if tls else None) as server:
        report = check(server.address, *(["--ca-file", certs.ca] if tls else []), "--site-id", "17", insecure=not tls)
        assert report.code == 0, report.output
        assert {"configuration", "DNS", "web proxy", *STEPS, "status pages", "capture", "TCP-MD5"} < set(report.verdict)
        assert report.verdict["TLS"] == ("ok" if tls else "-") and report.verdict["credentials"] == "ok"
        assert report.verdict["capture"] == report.verdict["TCP-MD5"] == "-", "not needed without MD5"
        assert report.output.rstrip().endswith("All is well.")
        assert len(server.controls) == 1 and not server.datas
        metadata = server.control.metadata
        assert (metadata["x-ch-auth-email"], metadata["x-ch-auth-api-token"]) == ([EMAIL], [TOKEN])
        assert metadata["sid"] == ["17"]
        server.control.wait_over()


def test_before_our_own_target(workdir, certs):
    with chain(workdir, certs, {"router_one": "127.0.0.2"}) as (agent, target):
        token = agent.env["KENTIK_API_TOKEN"]
        report = check(target.address, "--ca-file", certs.ca, insecure=False, token=token)
        assert report.code == 0, report.output
        report = check(target.address, "--ca-file", certs.ca, insecure=False, token="another-token")
        report.assert_problem("credentials", "rejects", EMAIL, "--email")


def test_quiet_prints_nothing():
    with GrpcTarget() as server:
        for target, code in ((server.address, 0), (f"127.0.0.1:{free_port()}", 1)):
            result = run([*command(target), "--quiet"], env=clean_env(KENTIK_API_TOKEN=TOKEN))
            assert (result.returncode, result.stdout, result.stderr) == (code, "", "")


def test_bad_usage():
    """Exit code 2, as of the agent."""
    for words in (["--no-such-flag"], ["--multi", "0"], ["status"], ["--json"]):
        result = run(command("127.0.0.1:1", *words), env=clean_env(KENTIK_API_TOKEN=TOKEN))
        assert result.returncode == 2 and result.stdout == "" and words[0] in result.stderr


# The configuration

def test_no_account(workdir):
    """Said, and everything else is still looked at."""
    with GrpcTarget() as server:
        report = check(server.address, email=None)
        report.assert_problem("configuration", "--email", "KENTIK_API_EMAIL")
        assert report.verdict["HTTP/2"] == "ok" and report.text["credentials"] == "not tried"
        check(server.address, token=None).assert_problem("configuration", "KENTIK_API_TOKEN", "--token-file")
        missing = workdir / "no-token"
        report = check(server.address, "--token-file", missing, token=None)
        report.assert_problem("configuration", str(missing), "No such file")
        assert not server.controls


def test_unreadable_certificate(workdir):
    (workdir / "junk.pem").write_text("-----BEGIN NOTHING-----\n")
    with GrpcTarget() as server:
        report = check(server.address, "--ca-file", workdir / "junk.pem", insecure=False)
        report.assert_problem("certificates", "junk.pem", "--ca-file")
        assert report.text["TCP"] == "not tried"


# The way to the target

def test_name_that_does_not_exist():
    report = check("no-such-host.invalid:443")
    report.assert_problem("DNS", "no-such-host.invalid", "--target")
    assert report.text["TCP"] == "not tried"


def test_name_that_does():
    with GrpcTarget() as server:
        report = check(f"localhost:{server.port}")
        assert report.code == 0 and "127.0.0.1" in report.text["DNS"]
        assert {"TCP", "HTTP/2", "credentials"} <= set(report.verdict) and len(server.controls) == 1, report.output


def test_nobody_listens():
    address = f"127.0.0.1:{free_port()}"
    check(address).assert_problem("TCP", address, "firewall", "HTTPS_PROXY")


@pytest.mark.parametrize("which, words", [
    ("stranger", ["somebody else's CA", "--ca-file"]), ("wrong_name", ["another name", "kbgp test CA"]),
    ("expired", ["expired", "clock"])])
def test_bad_certificates(certs, which, words):
    """A middlebox that looks into TLS is named by the issuer of its certificate."""
    with GrpcTarget(tls=getattr(certs, which)) as server:
        check(server.address, "--ca-file", certs.ca, insecure=False).assert_problem("TLS", server.address, *words)
        assert not server.controls


def test_target_without_tls(certs):
    with GrpcTarget() as server:
        check(server.address, "--ca-file", certs.ca, insecure=False).assert_problem("TLS", "--insecure")


def test_web_server_without_http2(certs):
    """TLS is well, then."""
    with OddServer(odd_server.http1_html, tls=certs.good, alpn=("http/1.1",)) as server:
        report = check(server.address, "--ca-file", certs.ca, insecure=False)
        report.assert_problem("HTTP/2", "HTTP/2")
        assert report.verdict["TLS"] == "ok"


@pytest.mark.parametrize("behaviour", [odd_server.garbage, odd_server.http1_html, odd_server.close_at_once],
                         ids=lambda f: f.__name__)
def test_what_is_no_http2(behaviour):
    with OddServer(behaviour) as server:
        check(server.address).assert_problem("HTTP/2", server.address, "--target")


@pytest.mark.parametrize("behaviour, words", [(odd_server.http2_html, ["UNAVAILABLE", "503"]),
                                              (odd_server.http2_ok_html, ["--target"])], ids=["503", "portal"])
def test_http2_that_is_no_grpc(behaviour, words):
    with OddServer(behaviour) as server:
        check(server.address).assert_problem("credentials", server.address, *words)


def test_silence():
    """A server that says nothing is waited for, but not for ever."""
    with OddServer(odd_server.silence) as server:
        report, seconds = timed(lambda: check(server.address))
        report.assert_problem("HTTP/2", "SETTINGS")
        assert seconds < 20


def test_no_answer_on_control():
    with GrpcTarget() as server:
        server.echo_keepalive = False
        report, seconds = timed(lambda: check(server.address))
        report.assert_problem("credentials", "does not answer")
        assert seconds < 20


@pytest.mark.parametrize("status, words", [
    ((grpc.StatusCode.UNAUTHENTICATED, "no such \x1b[31muser"), [EMAIL, "no such ?[31muser", "--email"]),
    ((grpc.StatusCode.UNIMPLEMENTED, "unknown service"), ["UNIMPLEMENTED", "unknown service", "--target"])],
    ids=["rejected", "another-service"])
def test_target_refuses(status, words):
    """Its words are told, its escape sequences are not."""
    with GrpcTarget() as server:
        server.refuse_control = status
        check(server.address).assert_problem("credentials", *words)


# Web proxies (how they are chosen and spoken to has tests of its own)

def through_proxy(answer_line):
    """A web proxy that answers CONNECT with this line, and with 200 goes on to the address that was asked for."""

    def behave(sock):
        head = b""
        while b"\r\n\r\n" not in head:
            head += sock.recv(4096)
        sock.sendall(answer_line + b"\r\n\r\n")
        if b" 200" not in answer_line:
            return
        host, port = head.split()[1].decode().rsplit(":", 1)
        with socket.create_connection((host, int(port)), 10) as onward:
            back = threading.Thread(target=splice, args=(onward, sock), daemon=True)
            back.start()
            splice(sock, onward)
            back.join()

    return behave


def splice(source, sink):
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def proxied(server, proxy, variable="HTTP_PROXY", credentials=""):
    return check(server.address, env={variable: f"http://{credentials}{proxy.address}", "NO_PROXY": "nowhere.invalid"})


def test_through_a_web_proxy():
    with GrpcTarget() as server, OddServer(through_proxy(b"HTTP/1.1 200 Established")) as proxy:
        report = proxied(server, proxy, credentials="someone:hush@")
        assert report.code == 0, report.output
        assert proxy.address in report.text["web proxy"] and "HTTP_PROXY" in report.text["web proxy"]
        assert "by the proxy" in report.text["TCP"] and proxy.accepted == 1
        assert "hush" not in report.output


def test_a_web_proxy_that_refuses():
    with GrpcTarget() as server, OddServer(through_proxy(b"HTTP/1.1 407 Proxy Authentication Required")) as proxy:
        report = proxied(server, proxy, credentials="someone:hush@")
        report.assert_problem("web proxy", proxy.address, "407", "NO_PROXY")
        assert report.text["TCP"] == "not tried" and "hush" not in report.output and not server.controls


def test_a_web_proxy_that_is_not_there():
    with GrpcTarget() as server:
        report = check(server.address, env={"http_proxy": f"http://127.0.0.1:{(port := free_port())}", "NO_PROXY": "x.invalid"})
        report.assert_problem("web proxy", f"127.0.0.1:{port}")


def test_a_variable_that_names_no_proxy():
    with GrpcTarget() as server:
        report = check(server.address, env={"HTTP_PROXY": "ftp://someone:hush@proxy.invalid", "NO_PROXY": "x.invalid"})
        report.assert_problem("web proxy", "HTTP_PROXY")
        assert "hush" not in report.output


# Rights of this host

def test_port_in_use_by_another_program():
    with GrpcTarget() as server, socket.create_server(("127.0.0.1", free_port())) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        check(server.address, listen=address).assert_problem(f"listen {address}", "in use", "ss -ltnp", "--listen")
        check(server.address, metrics_port=taken.getsockname()[1]).assert_problem("status pages", "in use",
                                                                                  "--metrics-port")


def test_port_in_use_by_the_running_agent(workdir):
    """That is how it should be, also where the agent listens on all addresses."""
    for listen in ("127.0.0.1", "0.0.0.0"):
        port = free_port()
        with agent_alone(workdir, listen=[f"{listen}:{port}"]) as (agent, server):
            name = f"127.0.0.1:{port}"
            report = check(server.address, listen=name, metrics_port=agent.metrics_port)
            assert report.code == 0, report.output
            assert "running kbgp" in report.text[f"listen {name}"] and f"{listen}:{port}" in report.text[f"listen {name}"]
            assert "running kbgp" in report.text["status pages"]


def test_missing_rights(namespaces):
    """Without CAP_NET_BIND_SERVICE and CAP_NET_RAW, in a namespace where ports below 1024 need one."""
    less = ["unshare", "-n", "setpriv", "--bounding-set", "-net_bind_service,-net_raw"]
    argv = command("127.0.0.1:1", "--enable-md5-support", listen="127.0.0.1:179")
    report = Report(run([*less, *argv], env=clean_env(KENTIK_API_TOKEN=TOKEN)))
    assert report.problems() == ["TCP", "listen 127.0.0.1:179", "capture"], report.output
    assert "CAP_NET_BIND_SERVICE" in report.text["listen 127.0.0.1:179"]
    assert "CAP_NET_RAW" in report.text["capture"] and report.verdict["TCP-MD5"] == "ok"


def test_md5(namespaces):
    with GrpcTarget() as server:
        report = check(server.address, "--enable-md5-support")
        assert report.code == 0 and report.verdict["capture"] == report.verdict["TCP-MD5"] == "ok", report.output
        report = check(server.address, "--enable-md5-support", "--md5-listen-interface", "nosuch0")
        report.assert_problem("capture", "nosuch0", "--md5-listen-interface")


# check --ready

def ready(port, *words):
    return run([paths.kbgp(), "check", "--ready", "--metrics-port", str(port), *words])


def test_ready(workdir):
    """Exit code 0 and one line; quickly; without an account; and the target is not asked."""
    with agent_alone(workdir) as (agent, server):
        agent.wait_control()
        results = [timed(lambda: ready(agent.metrics_port)) for _ in range(5)]
        for result, _ in results:
            assert (result.returncode, result.stdout, result.stderr) == (0, "ok\n", "")
        assert min(seconds for _, seconds in results) < 0.1
        result = ready(agent.metrics_port, "--quiet")
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
        assert len(server.controls) == 1


def test_ready_dials_nothing_outside(workdir):
    with OddServer(odd_server.garbage) as target, OddServer(odd_server.garbage) as proxy:
        env = clean_env(HTTP_PROXY=f"http://{proxy.address}", http_proxy=f"http://{proxy.address}",
                        ALL_PROXY=f"http://{proxy.address}")
        with Agent(workdir, f"127.0.0.1:{free_port()}") as agent:
            result = run([paths.kbgp(), "check", "--ready", "--target", target.address, "--metrics-port",
                          str(agent.metrics_port)], env=env)
            assert result.returncode == 1 and re.match("not ready: (initializing|failing)\n", result.stdout)
        assert target.accepted == proxy.accepted == 0


def test_not_ready(workdir):
    """Nobody there; an agent without its target; a target that is gone."""
    port = free_port()
    result = ready(port)
    assert result.returncode == 1 and len(result.stdout.splitlines()) == 1 and str(port) in result.stdout
    result = ready(port, "--quiet")
    assert (result.returncode, result.stdout, result.stderr) == (1, "", "")
    with Agent(workdir, f"127.0.0.1:{free_port()}") as agent:
        result = ready(agent.metrics_port)
        assert result.returncode == 1 and result.stdout.startswith("not ready: "), result.stdout
        assert agent.health()[1] in ("initializing", "failing")


def answer(body, status=200):
    head = f"HTTP/1.1 {status} Something\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()

    def behave(sock):
        sock.recv(65536)
        sock.sendall(head + body)

    behave.__name__ = f"{status}-{len(body)}"
    return behave


def endless(sock):
    sock.recv(65536)
    sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        sock.sendall(b" " * 65536)


@pytest.mark.parametrize("behaviour", [
    odd_server.garbage, odd_server.close_at_once, odd_server.http1_html, odd_server.silence, endless, answer(b""),
    answer(b'{"status":"ok"}', 503), answer(b'{"status":"failing"}'), answer(b'{"status":7}'), answer(b'["ok"]'),
    answer(b'{"status":"ok"'), answer(b"[" * 100000), answer(b'{"status":"\x1b]0;pwned\x07"}', 503),
], ids=lambda b: b.__name__)
def test_ready_before_a_stranger(workdir, behaviour):
    """Whoever listens there: one printable line, exit code 1, in time, in bounded memory."""
    def run(out, *args):
        process = subprocess.Popen([paths.kbgp(), *args], stdout=out, stderr=subprocess.STDOUT, env=clean_env())
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        return process, usage.ru_maxrss  # KiB; a child begins with what its parent had

    with OddServer(behaviour) as server, open(workdir / "out", "w+", encoding="utf-8") as out:
        _, least = run(subprocess.DEVNULL, "--version")
        begin = time.monotonic()
        process, peak = run(out, "check", "--ready", "--metrics-port", str(server.port))
        out.seek(0)
        text = out.read()
        assert process.returncode == 1 and text.count("\n") == 1, text
        assert text.startswith("not ready: ") and text.rstrip().isprintable(), text
        assert time.monotonic() - begin < 10 and peak < least + (150 << 10), "KiB"
