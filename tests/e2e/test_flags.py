# SPDX-License-Identifier: Apache-2.0
"""Every flag and variable of the agent does what the documentation says, and a bad value is refused with its name."""

import contextlib
import json
import os
import re
import socket
from pathlib import Path

import pytest

from harness import paths
from harness.agent import EMAIL, TOKEN, Agent
from harness.grpc_target import GrpcTarget
from harness.net import Chain, in_namespace
from harness.ports import free_port
from harness.proc import clean_env, run
from harness.tcp_peer import connect
from harness.wait import wait_for

# (flag, variable, value, where it shows in /admin/status)
SHOWN = [
    ("--email", "KENTIK_API_EMAIL", "someone+bgp@example.net", lambda c: c["APIEmail"]),
    ("--site-id", "KENTIK_SITE", 4711, lambda c: c["SiteID"]),
    ("--target", "KBGP_TARGET", "127.0.0.1:9", lambda c: c["ProxyTarget"]),
    ("--listen", "KBGP_LISTEN", f"127.0.0.1:{free_port()}", lambda c: c["Listeners"][0]),
    ("--md5-listen-interface", "KBGP_MD5_LISTEN_INTERFACE", "lo", lambda c: c["MD5Interface"]),
]

# (flag, variable or None, bad values)
REFUSED = [
    ("--email", "KENTIK_API_EMAIL", ["two words", "caf\u00e9@example.com"]),
    ("--region", "KENTIK_REGION", ["eu.example.com", "-x", "a/b"]),
    ("--target", "KBGP_TARGET", ["https://grpc.example.com", "host:0", "host:65536", "[::1", ":443", "a b"]),
    ("--site-id", "KENTIK_SITE", ["north", "-1", "4294967296", "1.5"]),
    ("--listen", "KBGP_LISTEN", ["localhost:179", "127.0.0.1:0", "127.0.0.1:99999", "10.0.0.256", "[fe80::1%nosuch]:179"]),
    ("--enable-md5-support", "KENTIK_ENABLE_MD5", ["yes", "0.5"]),
    ("--md5-listen-interface", "KBGP_MD5_LISTEN_INTERFACE", ["a-name-that-is-too-long", "eth/0"]),
    ("--multi", "KBGP_MULTI", ["0", "-1", "1001", "many"]),
    ("--insecure", "KBGP_INSECURE", ["maybe"]),
    ("--tls-server-name", "KBGP_TLS_SERVER_NAME", ["a name", "-x"]),
    ("--log-level", "KBGP_LOG_LEVEL", ["loud", "info,debug"]),
    ("--human-logs", "KBGP_HUMAN_LOGS", ["2"]),
    ("--disable-log-export", "KBGP_DISABLE_LOG_EXPORT", ["no"]),
    ("--log-export-url", "KBGP_LOG_EXPORT_URL", ["ftp://x/", "https://", "logs.example.com"]),
    ("--metrics-export-url", "KBGP_METRICS_EXPORT_URL", ["http://", "x"]),
    ("--metrics-addr", "KBGP_METRICS_ADDR", ["example.com", "127.0.0.1:80", "256.0.0.1"]),
    ("--metrics-port", "KBGP_METRICS_PORT", ["0", "65536", "http"]),
]


class Bare(Agent):
    """The agent with exactly these arguments and variables; `metrics_port` and `listen` only say where to look."""

    def __init__(self, workdir, argv, *, env=None, port=None, metrics_port=None, metrics_addr="127.0.0.1", netns=None):
        super().__init__(workdir, "127.0.0.1:1", listen=[f"127.0.0.1:{port}"] if port else None, netns=netns)
        self.env = clean_env(**(env or {}))
        self.argv = [paths.kbgp(), *map(str, argv)]
        self.metrics_port = metrics_port or self.metrics_port
        self.metrics_addr = metrics_addr
        if not any(a.startswith("--listen") for a in self.argv) and "KBGP_LISTEN" not in self.env:
            self.argv += ["--listen", self.listen[0]]
        if not any(a.startswith("--metrics-port") for a in self.argv) and "KBGP_METRICS_PORT" not in self.env:
            self.argv += ["--metrics-port", str(self.metrics_port)]
        if not any(a.startswith("--email") for a in self.argv) and "KENTIK_API_EMAIL" not in self.env:
            self.argv += ["--email", EMAIL]
        self.argv += ["--log-export-url=http://127.0.0.1:9/", "--metrics-export-url=http://127.0.0.1:9/"]

    def wait_ready(self):
        self.wait_listening(self.metrics_port)

    def config(self):
        return self.status()["Config"]


def refusal(argv, env=None, netns=None):
    """What the agent says when it does not start for bad usage."""
    result = run([paths.kbgp(), *map(str, argv)], env=clean_env(**(env or {})), timeout=30, netns=netns)
    assert (result.returncode, result.stdout) == (2, ""), result.stderr
    assert len(result.stderr.splitlines()) == 1 and result.stderr.startswith("kbgp: ")
    return result.stderr


@contextlib.contextmanager
def alone():
    """A network namespace with nothing but loopback: no name is resolved, nothing leaves it."""
    name = f"kb{os.getpid()}flags"
    try:
        run(["ip", "netns", "add", name], check=True)
        run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield name
    finally:
        run(["ip", "netns", "del", name])


TOKEN_ENV = {"KENTIK_API_TOKEN": TOKEN}


# Values that show

@pytest.mark.parametrize("form", ["word", "equals", "variable"])
@pytest.mark.parametrize("flag, variable, value, shown", SHOWN, ids=[row[0] for row in SHOWN])
def test_value_is_taken(workdir, flag, variable, value, shown, form):
    argv, env = [], dict(TOKEN_ENV)
    if form == "word":
        argv = [flag, value]
    elif form == "equals":
        argv = [f"{flag}={value}"]
    else:
        env[variable] = f" {value} "  # as "NAME= value" in an environment file
    if flag != "--target":
        argv += ["--target", "127.0.0.1:9"]
    with Bare(workdir, [*argv, "--insecure"], env=env) as agent:
        assert shown(agent.config()) == value


@pytest.mark.parametrize("flag, variable, value, shown", SHOWN, ids=[row[0] for row in SHOWN])
def test_flag_beats_variable(workdir, flag, variable, value, shown):
    other = {"--site-id": "1", "--listen": "127.0.0.1:1", "--target": "192.0.2.1:1"}.get(flag, "other")
    argv = [flag, value, "--insecure"] + ([] if flag == "--target" else ["--target", "127.0.0.1:9"])
    with Bare(workdir, argv, env={**TOKEN_ENV, variable: other}) as agent:
        assert shown(agent.config()) == value


def test_defaults(workdir, namespaces):
    """With an account and nothing else: the documented target, listeners, status pages."""
    with alone() as netns:
        agent = Bare(workdir, [], env=TOKEN_ENV, metrics_port=20920, netns=netns)
        agent.argv = [paths.kbgp(), "--email", EMAIL]
        with agent:
            assert agent.config() == {
                "Listeners": ["0.0.0.0:179", "[::]:179"], "MD5Enabled": False, "MD5Interface": "any",
                "ProxyTarget": "grpc.api.kentik.com:443", "APIEmail": EMAIL, "SiteID": 0}


@pytest.mark.parametrize("region, target", [
    ("us", "grpc.api.kentik.com:443"), ("iad1", "grpc.api.kentik.com:443"), ("eu", "grpc.api.kentik.eu:443"),
    ("FRA1", "grpc.api.kentik.eu:443"), ("our1", "grpc.api.our1.kentik.com:443")])
def test_regions(workdir, namespaces, region, target):
    with alone() as netns:
        with Bare(workdir, ["--region", region], env=TOKEN_ENV, netns=netns) as agent:
            assert agent.config()["ProxyTarget"] == target
        with Bare(workdir, ["--target=192.0.2.1"], env={**TOKEN_ENV, "KENTIK_REGION": region}, netns=netns) as agent:
            assert agent.config()["ProxyTarget"] == "192.0.2.1:443", "--target overrides the region"


@pytest.mark.parametrize("words, on", [
    (["--enable-md5-support"], True), (["--enable-md5-support=true"], True), (["--enable-md5-support=false"], False),
    (["--enable-md5-support=T"], True), ([], True), (["--enable-md5-support=0"], False)],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_booleans(workdir, namespaces, words, on):
    """A flag beats the variable, which says true here."""
    with alone() as netns, Bare(workdir, [*words, "--target=127.0.0.1:9"], netns=netns,
                                env={**TOKEN_ENV, "KENTIK_ENABLE_MD5": "true"}) as agent:
        assert agent.config()["MD5Enabled"] is on


def test_metrics_address_and_port(workdir):
    """By flag and variable, IPv4 and IPv6: only there."""
    for argv, env in ((["--metrics-addr=127.0.0.7"], {}), ([], {"KBGP_METRICS_ADDR": "127.0.0.7"})):
        port = free_port()
        with Bare(workdir, [*argv, "--target=127.0.0.1:9"], metrics_port=port,
                  env={**TOKEN_ENV, **env, "KBGP_METRICS_PORT": str(port)}):
            with socket.create_connection(("127.0.0.7", port), 10) as s:
                s.sendall(b"GET /hc HTTP/1.0\r\n\r\n")
                assert b'"status"' in b"".join(iter(lambda: s.recv(4096), b""))
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), 10)


def test_multi(workdir):
    """--multi 1: a connection for each session."""
    for argv, env in ((["--multi", "1"], {}), ([], {"KBGP_MULTI": "1"})):
        with GrpcTarget() as server, Bare(workdir, [*argv, "--insecure", "--target", server.address],
                                          env={**TOKEN_ENV, **env}) as agent:
            with agent.connect("127.0.0.2"), agent.connect("127.0.0.3"):
                server.wait_data(2)
                assert server.datas[0].peer != server.datas[1].peer
                agent.wait_sessions(2)


# TLS

def test_tls_flags(workdir, certs):
    """--insecure, --ca-file and --tls-server-name by flag and variable."""
    with GrpcTarget() as server:
        for argv, env in ((["--insecure"], {}), ([], {"KBGP_INSECURE": "true"}), (["--insecure=true"], {"KBGP_INSECURE": "f"})):
            with Bare(workdir, [*argv, "--target", server.address], env={**TOKEN_ENV, **env}) as agent:
                agent.wait_control()
    with GrpcTarget(tls=certs.good) as server:
        for argv, env in ((["--ca-file", certs.ca], {}), ([], {"KBGP_CA_FILE": str(certs.ca)})):
            with Bare(workdir, [*argv, "--target", server.address], env={**TOKEN_ENV, **env}) as agent:
                agent.wait_control()
    with GrpcTarget(tls=certs.wrong_name) as server:
        name = "elsewhere.example.net"
        for argv, env in ((["--tls-server-name", name], {}), ([], {"KBGP_TLS_SERVER_NAME": name})):
            with Bare(workdir, [*argv, "--ca-file", certs.ca, "--target", server.address], env={**TOKEN_ENV, **env}) as agent:
                agent.wait_control()


def test_certificate_and_key_belong_together(certs):
    for argv, missing in ((["--tls-cert", certs.good[0]], "--tls-key"), (["--tls-key", certs.good[1]], "--tls-cert")):
        assert f"{missing} is missing" in refusal(["--email", EMAIL, *argv], TOKEN_ENV)


# The token

def token_seen(workdir, argv, env=None):
    """The token that the target gets."""
    with GrpcTarget() as server, Bare(workdir, [*argv, "--insecure", "--target", server.address], env=env) as agent:
        control = server.wait_control()
        assert control.value("x-ch-auth-email") == EMAIL
        token = control.value("x-ch-auth-api-token")
        shown = agent.output() + json.dumps(agent.status())
        assert token not in shown and token not in Path(f"/proc/{agent.pid}/cmdline").read_text()
        assert all(token not in agent.get(page)[1] for page in ("/metrics", "/admin/sessions", "/hc"))
        return token


def test_token_by_flag_is_not_seen_by_ps(workdir):
    assert token_seen(workdir, ["--token", "flag-token"]) == "flag-token"
    assert token_seen(workdir, ["--token=equals-token"]) == "equals-token"


def test_token_by_variable_file_and_credential(workdir):
    """The flag beats the variable; a file's white space at the end is dropped; systemd's credential comes last."""
    assert token_seen(workdir, [], {"KENTIK_API_TOKEN": "variable-token"}) == "variable-token"
    assert token_seen(workdir, ["--token", "flag-token"], {"KENTIK_API_TOKEN": "variable-token"}) == "flag-token"
    (workdir / "token").write_text("file-token \r\n")
    assert token_seen(workdir, ["--token-file", workdir / "token"]) == "file-token"
    assert token_seen(workdir, [], {"KENTIK_API_TOKEN_FILE": str(workdir / "token")}) == "file-token"
    directory = {"CREDENTIALS_DIRECTORY": str(workdir)}
    assert token_seen(workdir, [], directory) == "file-token"
    assert token_seen(workdir, [], {**directory, **TOKEN_ENV}) == TOKEN
    (workdir / "other").write_text("other-token")
    assert token_seen(workdir, ["--token-file", workdir / "other"], directory) == "other-token"


def test_bad_tokens(workdir):
    """Refused without being shown."""
    assert "--token" in refusal(["--email", EMAIL, "--token", "hush hush"])
    for text in (refusal(["--email", EMAIL, "--token", "hush hush"]), refusal(["--email", EMAIL], {"KENTIK_API_TOKEN": "hush hush"})):
        assert "hush" not in text and "printable" in text
    (workdir / "token").write_text("hush hush")
    for argv, env, name in ((["--token-file", workdir / "token"], {}, "--token-file"),
                            ([], {"CREDENTIALS_DIRECTORY": str(workdir)}, "credential")):
        text = refusal(["--email", EMAIL, *argv], env)
        assert name in text and str(workdir / "token") in text and "hush" not in text
    text = refusal(["--email", EMAIL, "--token", TOKEN, "--token-file", "/x"])
    assert "--token" in text and "--token-file" in text and TOKEN not in text


# Bad values

@pytest.mark.parametrize("flag, variable, values", REFUSED, ids=[row[0] for row in REFUSED])
def test_bad_values(flag, variable, values):
    """Exit code 2, one line with the flag or variable, the value, and what is accepted."""
    account = [] if flag == "--email" else ["--email", EMAIL]
    for value in values:
        for argv, env, name in (([*account, f"{flag}={value}"], {}, flag), (account, {variable: value}, variable)):
            match = re.fullmatch(rf'kbgp: {name}: "(.*)" (is .+)\n', refusal(argv, {**TOKEN_ENV, **env}))
            assert match and match[1] == value, (name, value)


def test_every_flag_is_covered_here():
    """A flag that --help lists has a row above or a test of its own."""
    named = {row[0] for row in REFUSED} | {row[0] for row in SHOWN}
    named |= {"--help", "--version", "--token", "--token-file", "--ca-file", "--tls-cert", "--tls-key", "--ready", "--quiet",
              "--json"}
    text = run([paths.kbgp(), "--help"]).stdout
    assert named <= set(re.findall(r"--[a-z0-9-]+", text))
    elsewhere = {"--metrics-per-device", "--env-file"}  # test_status_pages, test_signals
    assert set(re.findall(r"^ +(?:-h, )?(--[a-z0-9-]+)", text, re.MULTILINE)) - elsewhere == named
    for variable in [row[1] for row in REFUSED + SHOWN] + ["KENTIK_API_TOKEN", "KENTIK_API_TOKEN_FILE", "KBGP_CA_FILE",
                                                           "KBGP_TLS_CERT", "KBGP_TLS_KEY"]:
        assert f"${variable})" in text, variable


# Listeners

def test_several_listeners(workdir):
    """IPv4 and IPv6, by comma, by repetition and by variable; the status names them, devices reach each."""
    ports = [free_port() for _ in range(3)]
    items = [f"127.0.0.1:{ports[0]}", f"[::1]:{ports[1]}", f"127.0.0.5:{ports[2]}"]
    forms = [(["--listen", ",".join(items)], {}), ([f"--listen={i}" for i in items], {}),
             ([], {"KBGP_LISTEN": ", ".join(items)})]
    for argv, env in forms:
        with GrpcTarget() as server, Bare(workdir, [*argv, "--insecure", "--target", server.address],
                                          env={**TOKEN_ENV, **env}) as agent:
            agent.wait_listening(*ports)
            assert agent.config()["Listeners"] == items
            for host, port in (("127.0.0.1", ports[0]), ("::1", ports[1]), ("127.0.0.5", ports[2])):
                with connect(port, host):
                    wait_for(lambda: any(c.value("proxy-port") == str(port) and c.value("proxy-ip") == host
                                         for c in server.datas), f"a session by {host}")


def test_ipv6_sockets_take_ipv6_only(workdir):
    """[::] alone leaves IPv4 alone; beside 0.0.0.0 each takes its own."""
    port = free_port()
    with GrpcTarget() as server:
        with Bare(workdir, ["--listen", f"[::]:{port}", "--insecure", "--target", server.address], env=TOKEN_ENV, port=port):
            with connect(port, "::1"):
                assert server.wait_data(1).value("device-ip") == "::1"
            with pytest.raises(ConnectionRefusedError):
                connect(port, "127.0.0.1")
        with Bare(workdir, ["--listen", f":{port}", "--insecure", "--target", server.address], env=TOKEN_ENV) as agent:
            agent.wait_listening(port)
            assert agent.config()["Listeners"] == [f"0.0.0.0:{port}", f"[::]:{port}"]
            with connect(port, "::1"), connect(port, "127.0.0.1"):
                server.wait_data(3)
                assert {c.value("device-ip") for c in server.datas[1:]} == {"::1", "127.0.0.1"}


def test_listener_in_use(workdir):
    """Exit code 1; the log names the address and why."""
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for words in (["--listen", f"127.0.0.1:{free_port()},{address}"], ["--metrics-port", address.split(":")[1]]):
            agent = Bare(workdir, [*words, "--target=127.0.0.1:9"], env=TOKEN_ENV).start()
            assert agent.wait_exit() == 1
            line = agent.find_log(level="error")[0]
            assert address in line["error"] and "in use" in line["error"]


def test_the_same_listener_twice():
    text = refusal(["--email", EMAIL, "--listen", "127.0.0.1:1790,127.0.0.1:1790"], TOKEN_ENV)
    assert "--listen" in text and "127.0.0.1:1790" in text and "twice" in text


def test_missing_right_to_bind(workdir, namespaces):
    """Port 179 without CAP_NET_BIND_SERVICE: exit code 1, and the line says which right."""
    with alone() as netns:
        agent = Bare(workdir, ["--listen", "127.0.0.1", "--target=127.0.0.1:9"], env=TOKEN_ENV, netns=netns)
        agent.argv = ["setpriv", "--bounding-set", "-net_bind_service", *agent.argv]
        agent.start()
        assert agent.wait_exit() == 1
        error = agent.find_log(level="error")[0]["error"]
        assert "127.0.0.1:179" in error and "CAP_NET_BIND_SERVICE" in error


def test_address_that_the_host_does_not_have_yet(workdir, namespaces):
    """A VIP that keepalived moves here later."""
    for vip, length in (("192.0.2.10", 32), ("2001:db8::10", 128)):
        with alone() as netns:
            with Bare(workdir, ["--listen", f"[{vip}]:1790" if ":" in vip else f"{vip}:1790", "--target=127.0.0.1:9"],
                      env=TOKEN_ENV, netns=netns, port=1790) as agent:
                agent.wait_listening(1790)
                with pytest.raises(OSError):
                    in_namespace(netns, lambda: socket.create_connection((vip, 1790), 5))
                run(["ip", "-n", netns, "addr", "add", f"{vip}/{length}", "dev", "lo"], check=True)
                wait_for(lambda: in_namespace(netns, lambda: socket.socket(
                    socket.AF_INET6 if ":" in vip else socket.AF_INET).connect_ex((vip, 1790)) == 0), "a connection to the VIP")


def link_local(netns, interface):
    """The address that the kernel has given the interface."""
    def look():
        text = run(["ip", "-n", netns, "-6", "-o", "addr", "show", "dev", interface, "scope", "link"]).stdout
        found = re.search(r"inet6 (fe80:[0-9a-f:]+)/", text)
        return found and "tentative" not in text and found[1]
    return wait_for(look, "a link-local address")


def test_link_local_address_with_zone(workdir, namespaces):
    """--listen [fe80::…%interface]: a router's link-local session; the zone stands in the status."""
    with Chain() as chain:
        ours, theirs = link_local(chain.agent, "to-router"), link_local(chain.router, "to-agent")
        with in_namespace(chain.agent, lambda: _started(GrpcTarget(host=chain.uplink4))) as server, \
                Bare(workdir, ["--listen", f"[{ours}%to-router]:1790", "--insecure", "--target", server.address],
                     env=TOKEN_ENV, netns=chain.agent, port=1790) as agent:
            agent.wait_listening(1790)
            assert agent.config()["Listeners"] == [f"[{ours}%to-router]:1790"]

            def dial():
                sock = socket.socket(socket.AF_INET6)
                sock.connect((ours, 1790, 0, socket.if_nametoindex("to-agent")))
                return sock

            device = in_namespace(chain.router, dial)
            call = server.wait_data()
            assert call.value("device-ip").split("%")[0] == theirs
            agent.wait_sessions(1)
            device.close()
        text = refusal(["--email", EMAIL, "--listen", "[fe80::1%nosuch]:179"], TOKEN_ENV, chain.agent)
        assert "fe80::1%nosuch" in text


class _started(contextlib.AbstractContextManager):
    """A server that is started here (in a namespace's thread) and ended by the test."""

    def __init__(self, server):
        self.server = server
        server.__enter__()

    def __enter__(self):
        return self.server

    def __exit__(self, *exc):
        self.server.__exit__(*exc)


def test_help_and_version_need_nothing():
    for words in (["--help"], ["-h"], ["--email", EMAIL, "--help"]):
        result = run([paths.kbgp(), *words])
        assert result.returncode == 0 and result.stdout.startswith("Usage: kbgp") and result.stderr == ""
    result = run([paths.kbgp(), "--version"])
    assert re.fullmatch(r"kbgp \d+\.\d+\.\d+\S*\n", result.stdout) and result.returncode == 0
