# SPDX-License-Identifier: Apache-2.0
"""The way to the target leads through a web proxy: of every kind, with every refusal, and around it where NO_PROXY says so."""

import base64
import re
import threading

import pytest

from harness import odd_server, paths
from harness.agent import EMAIL, TOKEN, Agent
from harness.grpc_target import GrpcTarget
from harness.net import Chain
from harness.odd_server import OddServer
from harness.pattern import assert_stream
from harness.ports import free_port
from harness.proc import clean_env, run
from harness.proxy import (LOOPBACK_TOO, PASSWORD, USER, USERINFO, Dante, Microsocks, ScriptedProxy, Tinyproxy, TlsFront,
                           peer_ports, wait_failure)
from harness.scene import chain, inventory_with
from harness.target import Target
from harness.tcp_peer import Backend
from harness.wait import wait_for

DEVICE = {"router_one": "127.0.0.2"}
MIB = 1 << 20


def through(url, **more):
    """The environment of an agent that reaches an https target through `url`, also one on loopback."""
    return {"HTTPS_PROXY": url, **LOOPBACK_TOO, **more}


class Kinds:
    """Proxies by name: plain, with a password, and with TLS to the proxy."""

    names = ["http", "http-password", "https", "https-password", "socks5h", "socks5h-password"]

    def __init__(self, workdir, certs, kind):
        user = kind.endswith("password") or None
        self.parts = []
        if kind.startswith("socks5h"):
            self.parts = [Microsocks(workdir, user=user)]
        else:
            self.parts = [Tinyproxy(workdir, user=user)]
            if kind.startswith("https"):
                self.parts.append(TlsFront(workdir, self.parts[0], certs.good))

    def __enter__(self):
        for part in self.parts:
            part.__enter__()
        return self.parts[-1]

    def __exit__(self, *exc):
        for part in reversed(self.parts):
            part.__exit__(*exc)


def only_through(agent, proxy, target):
    ports = peer_ports(agent)
    assert proxy.port in ports and target.port not in ports, ports


# Every kind of proxy

@pytest.mark.parametrize("kind", Kinds.names)
def test_session_through_a_proxy(workdir, certs, kind):
    """TLS to the target inside the proxy's tunnel: 4 MiB each way at the same time, to the byte."""
    with Kinds(workdir, certs, kind) as proxy, Backend() as backend, \
            chain(workdir, certs, DEVICE, backend=backend.url, agent={"env": through(proxy.url)}) as (agent, target), \
            agent.connect() as device:
        end = backend.accept()
        only_through(agent, proxy, target)
        sender = threading.Thread(target=end.send_pattern, args=(2, 4 * MIB), daemon=True)
        sender.start()
        device.send_pattern(1, 4 * MIB)
        assert_stream(1, end.wait_received(4 * MIB), 4 * MIB, "backend")
        assert_stream(2, device.wait_received(4 * MIB), 4 * MIB, "device")
        sender.join()
        device.close()
        end.wait_ended()
        assert "S3cret" not in agent.output()


@pytest.mark.parametrize("kind", ["http", "https", "socks5h"])
def test_plain_http2_through_a_proxy(workdir, certs, kind):
    """--insecure: HTTP_PROXY counts, and the server's first bytes may come right behind the proxy's answer."""
    with Kinds(workdir, certs, kind) as proxy, GrpcTarget() as server:
        env = {"HTTP_PROXY": proxy.url, "HTTPS_PROXY": "http://127.0.0.1:9", "SSL_CERT_FILE": str(certs.ca), **LOOPBACK_TOO}
        with Agent(workdir, server.address, env=env) as agent, agent.connect() as device:
            device.send(b"x" * 100_000)
            server.wait_data().wait_data(100_000)
            only_through(agent, proxy, server)


@pytest.mark.parametrize("tls", [True, False], ids=["tls", "plain"])
def test_backpressure_through_an_https_proxy(workdir, certs, tls):
    """A backend that does not read stops the device through both layers; when it goes on nothing is missing."""
    inventory, token = inventory_with(workdir, DEVICE)
    env = {("HTTPS_PROXY" if tls else "HTTP_PROXY"): None, "SSL_CERT_FILE": str(certs.ca), **LOOPBACK_TOO}
    with Kinds(workdir, certs, "https") as proxy, Backend() as backend, \
            Target(workdir, inventory, tls=certs.good if tls else None, backend=backend.url) as target:
        env["HTTPS_PROXY" if tls else "HTTP_PROXY"] = proxy.url
        with Agent(workdir, target.address, ca_file=certs.ca if tls else None, token=token, env=env) as agent, \
                agent.connect() as device:
            end = backend.accept()
            end.pause()
            pattern = (bytes(range(256)) * 4 * 1024) * 64  # 64 MiB
            sent = device.flood(pattern)
            assert sent < len(pattern), "nobody stopped the device"
            assert agent.rss() < 100 * MIB
            end.resume()
            assert end.wait_received(sent)[:sent] == pattern[:sent]


def test_an_ipv6_proxy_and_an_ipv6_target(workdir, certs):
    with Tinyproxy(workdir, host="::1", user=USER) as proxy, \
            GrpcTarget(tls=certs.good, host="::1") as server, \
            Agent(workdir, server.address, ca_file=certs.ca, env=through(proxy.url)) as agent:
        assert "[::1]" in proxy.url
        agent.wait_control()
        only_through(agent, proxy, server)


def test_what_an_http_proxy_is_asked(workdir, certs):
    """The target's name as it is (the proxy resolves it), Basic authentication, and nothing of ours that it could read."""
    with GrpcTarget(tls=certs.good) as server, \
            ScriptedProxy(b"HTTP/1.1 200 Fine\r\nX-Note: well\r\n\r\n", user=USER) as proxy, \
            Agent(workdir, f"localhost:{server.port}", ca_file=certs.ca, env=through(f" {proxy.url} ")) as agent:
        agent.wait_control()
        lines = proxy.requests[0].split("\r\n")
        assert lines[0] == f"CONNECT localhost:{server.port} HTTP/1.1" and f"Host: localhost:{server.port}" in lines
        basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        assert f"Proxy-Authorization: Basic {basic}" in lines
        assert TOKEN not in proxy.requests[0] and EMAIL not in proxy.requests[0]
        assert not agent.secrets_shown() and "S3cret" not in agent.output()


def test_server_that_speaks_in_one_piece_with_the_proxy(workdir):
    """SETTINGS of a plain server in the same segment as the proxy's answer: not one byte of them is lost."""
    with GrpcTarget() as server, ScriptedProxy(b"HTTP/1.1 200 OK\r\n\r\n") as proxy, \
            Agent(workdir, server.address, env={"HTTP_PROXY": proxy.url, **LOOPBACK_TOO}) as agent:
        agent.wait_control()
        assert len(proxy.requests) >= 1


def test_a_proxy_that_goes_away_and_comes_back(workdir, certs):
    """The connections are lost and said to be; a session whose device waits gets a Data stream again."""
    port = free_port()
    with GrpcTarget(tls=certs.good) as server, Tinyproxy(workdir, port=port) as proxy, \
            Agent(workdir, server.address, ca_file=certs.ca, env=through(proxy.url)) as agent:
        agent.wait_control()
        with agent.connect() as device:
            server.wait_data()
            proxy.kill()
            wait_failure(agent, rf"^proxy http://127.0.0.1:{port} \(HTTPS_PROXY\): 127.0.0.1:{port}: Connection refused")
            with Tinyproxy(workdir, port=port):
                device.send(b"still here")
                wait_for(lambda: any(b"still here" in s.data for s in server.sessions.values()), "the device's bytes", 120)
                agent.wait_control(timeout=120)
                assert agent.stop() == 0


# Which one, and when

def test_lower_case_and_all_proxy(workdir, certs):
    with GrpcTarget(tls=certs.good) as server, Tinyproxy(workdir) as proxy:
        for env in ({"https_proxy": proxy.url}, {"ALL_PROXY": proxy.address, "HTTP_PROXY": "http://127.0.0.1:9"},
                    {"all_proxy": f" {proxy.url}/\t", "HTTPS_PROXY": "", "https_proxy": " "}):
            with Agent(workdir, server.address, ca_file=certs.ca, env={**env, **LOOPBACK_TOO}) as agent:
                agent.wait_control()
                only_through(agent, proxy, server)


@pytest.mark.parametrize("no_proxy", [None, "", "*", "127.0.0.0/8", "x.example, 127.0.0.1", "127.0.0.1:PORT"])
def test_around_the_proxy(workdir, certs, no_proxy):
    """Nobody listens at the proxy's address: what comes up came up without it. Loopback needs no NO_PROXY."""
    with GrpcTarget(tls=certs.good) as server:
        env = {"HTTPS_PROXY": f"http://127.0.0.1:{free_port()}",
               "no_proxy": no_proxy and no_proxy.replace("PORT", str(server.port))}
        with Agent(workdir, server.address, ca_file=certs.ca, env=env) as agent:
            agent.wait_control()
            assert server.port in peer_ports(agent)


def test_no_proxy_for_another_port_or_network(workdir, certs):
    with GrpcTarget(tls=certs.good) as server:
        port = free_port()
        for no_proxy in (f"127.0.0.1:{server.port + 1}", "127.0.0.2/32", "localhost"):
            env = {"HTTPS_PROXY": f"http://127.0.0.1:{port}", "NO_PROXY": no_proxy}
            with Agent(workdir, server.address, ca_file=certs.ca, env=env) as agent:
                wait_failure(agent, f"127.0.0.1:{port}")
                assert not server.controls


def test_the_proxy_resolves_the_name(workdir, certs, namespaces):
    """The agent's network knows neither the target's name nor a way to it; the proxy's network does."""
    with Chain() as net:
        inventory, token = inventory_with(workdir, {"router_one": net.router4})
        # The proxy lives where the target is, the agent can reach that host alone: "localhost" is the target there only.
        with Target(workdir, inventory, tls=certs.good, netns=net.target, listen=["127.0.0.1:4443"]) as target:
            for proxy in (Tinyproxy(workdir, host=net.target4, netns=net.target, user=USER),
                          Microsocks(workdir, host=net.target4, netns=net.target)):
                with proxy, Agent(workdir, "localhost:4443", ca_file=certs.ca, token=token, netns=net.agent,
                                  env=through(proxy.url)) as agent:
                    agent.wait_control()
            target.assert_running()


# Refusals: one line that says who, what and why

def test_407_without_and_with_wrong_credentials(workdir, certs):
    with Tinyproxy(workdir, user=USER) as proxy, GrpcTarget(tls=certs.good) as server:
        with Agent(workdir, server.address, ca_file=certs.ca, env=through(f"http://{proxy.address}")) as agent:
            wait_failure(agent, f"^proxy {proxy.label} ", "wants a user and a password, and HTTPS_PROXY has none", "407")
        with Agent(workdir, server.address, ca_file=certs.ca, env=through(f"http://me:wrongS3cret@{proxy.address}")) as agent:
            wait_failure(agent, f"^proxy {proxy.label} ", "does not accept the user and password in HTTPS_PROXY", "407|401")
        assert not server.controls


def test_403_by_a_filter(workdir, certs):
    with GrpcTarget(tls=certs.good) as server, Tinyproxy(workdir, deny="127.0.0.1") as proxy, \
            Agent(workdir, server.address, ca_file=certs.ca, env=through(proxy.url)) as agent:
        wait_failure(agent, f"^proxy {proxy.label} ", f"does not allow CONNECT to {server.address}", "403 Filtered")


@pytest.mark.parametrize("target", ["127.0.0.1:PORT", "no-such-host.invalid:443"])
def test_proxy_cannot_reach_the_target(workdir, certs, target):
    """The real words of tinyproxy, for an address that refuses and for a name that does not exist."""
    target = target.replace("PORT", str(free_port()))
    with Tinyproxy(workdir) as proxy, Agent(workdir, target, ca_file=certs.ca, env=through(proxy.url)) as agent:
        wait_failure(agent, f"^proxy {proxy.label} ", f"cannot reach {target}", "it answered 50")


@pytest.mark.parametrize("answer, words", [
    (b"HTTP/1.1 407 Sign In\r\nProxy-Authenticate: NTLM\r\nProxy-Authenticate: Negotiate\r\n\r\n", "NTLM, Negotiate.*Basic"),
    (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "cannot reach 127.0.0.1:4443.*502 Bad Gateway"),
    (b"HTTP/1.1 503 Service Unavailable\r\nX-Squid-Error: ERR_DNS_FAIL 0\r\n\r\n<html>", "cannot reach.*503.*ERR_DNS_FAIL"),
    (b"HTTP/1.1 504 Gateway Timeout\r\n\r\n", "cannot reach.*504"),
    (b"HTTP/1.1 405 Method Not Allowed\r\n\r\n", "does not do CONNECT"),
    (b"HTTP/1.1 400 Bad \x1b[31mRequest\r\n\r\n", r"400 Bad \?\[31mRequest"),
    (b"SSH-2.0-OpenSSH 9.2\r\n", "does not answer in HTTP"),
    (b"HTTP/1.1 407", "closes the connection in the middle of its answer"),
    (b"HTTP/1.1 400 Bad\r\n" + b"X-Long: %b\r\n" % (b"y" * 1000) * 100, "answer without end"),
], ids=["407-ntlm", "502", "503", "504", "405", "400", "ssh", "torn", "endless"])
def test_answers_of_a_proxy(workdir, certs, answer, words):
    with ScriptedProxy(answer, user=USER) as proxy, \
            Agent(workdir, "127.0.0.1:4443", ca_file=certs.ca, env=through(proxy.url)) as agent:
        wait_failure(agent, rf"^proxy {proxy.label} \(HTTPS_PROXY\)", words)


def test_socks_refusals(workdir, certs):
    """A password that is missing or wrong, a rule against the port, a port that is closed."""
    closed, denied = free_port(), free_port()
    with Microsocks(workdir, user=USER) as proxy:
        for url, words in ((f"socks5h://{proxy.address}", "wants a user and a password, and HTTPS_PROXY has none"),
                           (f"socks5h://u:S3cret@{proxy.address}", "does not accept the user and password in HTTPS_PROXY")):
            with Agent(workdir, f"localhost:{closed}", ca_file=certs.ca, env=through(url)) as agent:
                wait_failure(agent, f"^proxy {proxy.label} ", words)
        with Agent(workdir, f"localhost:{closed}", ca_file=certs.ca, env=through(proxy.url)) as agent:
            wait_failure(agent, f"^proxy {proxy.label} ", f"cannot reach localhost:{closed}: connection refused")
    with Dante(workdir, denied) as proxy, \
            Agent(workdir, f"127.0.0.1:{denied}", ca_file=certs.ca, env=through(proxy.url)) as agent:
        wait_failure(agent, f"^proxy {proxy.label} ", f"does not allow a connection to 127.0.0.1:{denied}")


def test_proxy_that_cannot_be_reached(workdir, certs):
    port = free_port()
    for url, words in ((f"http://{USERINFO}@127.0.0.1:{port}", f"127.0.0.1:{port}: Connection refused"),
                       (f"https://{USERINFO}@no-such-proxy.invalid:{port}", "the name no-such-proxy.invalid is not resolved")):
        with Agent(workdir, "localhost:443", ca_file=certs.ca, env=through(url)) as agent:
            wait_failure(agent, r"^proxy https?://(127.0.0.1|no-such-proxy.invalid):\d+ \(HTTPS_PROXY\): ", words)


@pytest.mark.parametrize("which, words", [
    ("wrong_name", "certificate is for another name, not for 127.0.0.1"), ("expired", "expired"), ("stranger", "not trusted"),
    (None, "does not speak TLS")])
def test_bad_tls_to_an_https_proxy(workdir, certs, which, words):
    """Before the proxy has proved who it is it gets no password."""
    certificate = getattr(certs, which) if which else None
    with OddServer(odd_server.silence if which else odd_server.http1_html, tls=certificate, alpn=()) as server, \
            Agent(workdir, "localhost:443", ca_file=certs.ca, env=through(f"https://{USERINFO}@{server.address}")) as agent:
        wait_failure(agent, f"^proxy https://{server.address} ", words)


def test_trust_for_an_https_proxy_is_the_system_or_ssl_cert_file(workdir, certs):
    with Kinds(workdir, certs, "https") as proxy, GrpcTarget(tls=certs.good) as server:
        with Agent(workdir, server.address, insecure=False, env=through(proxy.url)) as agent:
            wait_failure(agent, "not trusted")
        with Agent(workdir, server.address, insecure=False,
                   env=through(proxy.url, SSL_CERT_FILE=str(certs.ca))) as agent:
            agent.wait_control()


def test_bad_certificate_of_the_target_behind_a_proxy(workdir, certs):
    """The proxy is fine, so it is no matter of the proxy; a middlebox's issuer would stand here."""
    for kind in ("http", "https"):
        with Kinds(workdir, certs, kind) as proxy, GrpcTarget(tls=certs.stranger) as server, \
                Agent(workdir, server.address, ca_file=certs.ca, env=through(proxy.url)) as agent:
            wait_failure(agent, f"^through proxy {proxy.label}: TLS: the certificate", "issuer: .*somebody else", stage="tls")
            assert not server.controls


def test_a_silent_proxy(workdir, certs):
    """The deadline's words; before it SIGTERM is obeyed at once."""
    with OddServer(odd_server.silence) as server:
        with Agent(workdir, "localhost:443", ca_file=certs.ca, env=through(f"http://{server.address}")) as agent:
            wait_for(lambda: server.accepted >= 1, "a connection of the agent")
            assert agent.stop(timeout=10) == 0
        with Agent(workdir, "localhost:443", ca_file=certs.ca, env=through(f"http://{server.address}")) as agent:
            wait_failure(agent, "has not opened the way to localhost:443 within 15 s")


@pytest.mark.parametrize("variable, value", [
    ("HTTPS_PROXY", "ftp://u:S3cret@h"), ("https_proxy", "http://u:S3cret@h:99999"), ("ALL_PROXY", "http://u:S3cret%zz@h"),
    ("HTTPS_PROXY", "http://u:S3cret@2001:db8::1"), ("NO_PROXY", "10.0.0.0/33")])
def test_values_that_cannot_be_used(workdir, certs, variable, value):
    """The variable is named, what stands in it is not shown, and nothing goes out around the proxy."""
    with GrpcTarget(tls=certs.good) as server:
        env = {"HTTPS_PROXY": "http://u:S3cret@127.0.0.1:9", variable: value}
        if variable in ("https_proxy", "ALL_PROXY"):
            env["HTTPS_PROXY"] = None
        agent = Agent(workdir, server.address, ca_file=certs.ca, env=env)
        agent.start()
        try:
            wait_for(lambda: re.search(rf"\b{variable}: ", agent.output()), f"{variable} in the output")
            assert "S3cret" not in agent.output()
            assert not server.controls
        finally:
            agent.kill()


def test_kbgp_target_is_not_concerned(workdir):
    """The variables are for the agent's way to the target, not for the target's to its backend."""
    inventory, _ = inventory_with(workdir, DEVICE)
    with Backend() as backend, Target(workdir, inventory, backend=backend.url,
                                      env={"ALL_PROXY": "ftp://nonsense", "HTTP_PROXY": "http://127.0.0.1:9"}) as target:
        target.assert_running()
    assert run([paths.kbgp(), "--version"], env=clean_env(ALL_PROXY="ftp://nonsense")).returncode == 0
