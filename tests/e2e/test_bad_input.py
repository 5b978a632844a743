# SPDX-License-Identifier: Apache-2.0
"""What users and networks get wrong: each case has its clear words, its exit code, and no crash."""

import signal
import socket
import time

import pytest

from harness import odd_server, paths
from harness.agent import EMAIL, TOKEN, Agent
from harness.grpc_target import GrpcTarget
from harness.odd_server import OddServer
from harness.ports import free_port
from harness.proc import clean_env, run
from harness.scene import inventory_with
from harness.target import Inventory, Target
from harness.wait import wait_for

WHOLE = ["--email", EMAIL, "--token", TOKEN]


# The command line

@pytest.mark.parametrize("words, about", [
    (["--no-such-flag"], ["--no-such-flag"]),
    (["--multi", "0"], ["--multi", "0"]),
    (["--multi", "many"], ["--multi", "many"]),
    (["--multi"], ["--multi"]),
    (["--log-level", "loud"], ["--log-level", "loud"]),
    (["--metrics-port", "65536"], ["--metrics-port", "65536"]),
    (["--metrics-addr", "localhost:1"], ["--metrics-addr", "localhost:1"]),
    (["--listen", "127.0.0.1:99999"], ["--listen", "99999"]),
    (["--listen", "10.0.0.256:179"], ["--listen", "10.0.0.256"]),
    (["--site-id", "north"], ["--site-id", "north"]),
    (["--target", "host:port"], ["--target", "host:port"]),
    (["--insecure", "true"], ["true"]),
    (["--insecure=perhaps"], ["--insecure", "perhaps"]),
    (["a-word"], ["a-word"]),
], ids=lambda v: " ".join(v))
def test_bad_usage_of_the_agent(words, about):
    """Exit code 2 and a message that names the flag and the value; the token stands nowhere."""
    result = run([paths.kbgp(), *WHOLE, *words], timeout=30)
    assert result.returncode == 2, result.stderr
    for word in about:
        assert word in result.stderr
    assert result.stdout == "" and TOKEN not in result.stderr


@pytest.mark.parametrize("given, missing", [
    (["--email", EMAIL], ("--token", "KENTIK_API_TOKEN")), (["--token", TOKEN], ("--email", "KENTIK_API_EMAIL"))],
    ids=["token", "email"])
def test_missing_credentials(given, missing):
    """Said with the flag and the variable that could give it; an empty variable is none."""
    for env in (clean_env(), clean_env(KENTIK_API_TOKEN="", KENTIK_API_EMAIL="")):
        result = run([paths.kbgp(), *given], env=env, timeout=30)
        assert result.returncode == 2
        for word in missing:
            assert word in result.stderr, result.stderr


def test_bad_value_of_a_variable():
    """The variable is named, not the flag's absence."""
    result = run([paths.kbgp(), *WHOLE], env=clean_env(KENTIK_SITE="north"), timeout=30)
    assert result.returncode == 2 and "KENTIK_SITE" in result.stderr and "north" in result.stderr


def test_help_and_version():
    """--help lists every documented flag with its variable; --version is one line."""
    for flag in ("-h", "--help"):
        result = run([paths.kbgp(), flag])
        assert result.returncode == 0 and result.stderr == ""
        for word in ("--email", "--token", "--target", "--listen", "--multi", "--insecure", "--site-id", "--log-level",
                     "--human-logs", "--metrics-addr", "--metrics-port", "--version", "KENTIK_API_EMAIL",
                     "KENTIK_API_TOKEN", "KENTIK_SITE"):
            assert word in result.stdout, word
    for program in (paths.kbgp(), paths.kbgp_target()):
        result = run([program, "--version"])
        assert result.returncode == 0 and len(result.stdout.splitlines()) == 1


@pytest.mark.parametrize("words, about, codes", [
    ([], ["--tls-cert"], (2,)),
    (["--insecure", "--backend", "udp://127.0.0.1:1"], ["--backend", "udp://127.0.0.1:1"], (2,)),
    (["--insecure", "--backend", "tcp://127.0.0.1"], ["--backend", "tcp://127.0.0.1"], (2,)),
    (["--insecure", "--listen", "nowhere"], ["--listen", "nowhere"], (1, 2)),
    (["--insecure", "--no-such-flag"], ["--no-such-flag"], (2,)),
    (["--tls-cert", "/no/such/cert.pem", "--tls-key", "/no/such/key.pem"], ["/no/such/cert.pem"], (1, 2)),
    (["--insecure", "--collector-json", "/no/such/folder/x.json"], ["/no/such/folder/x.json"], (1, 2)),
], ids=lambda v: " ".join(v) if isinstance(v, list) and v else "")
def test_bad_usage_of_the_target(workdir, words, about, codes):
    inventory = Inventory(workdir / "kbgp.db")
    inventory.add_account()
    listen = [] if "--listen" in words else ["--listen", f"127.0.0.1:{free_port()}"]
    result = run([paths.kbgp_target(), "serve", "--db", inventory.db, *listen, *words], timeout=30)
    assert result.returncode in codes, result.stderr
    for word in about:
        assert word in result.stderr


# Starting

def test_port_in_use(workdir):
    """Exit code 1, the address named: of the agent's listener, of its status server, of the target."""
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        port = address.rsplit(":", 1)[1]
        for words in (["--listen", address, "--metrics-port", str(free_port())],
                      ["--listen", f"127.0.0.1:{free_port()}", "--metrics-port", port]):
            result = run([paths.kbgp(), *WHOLE, "--target", "127.0.0.1:1", "--insecure", *words], timeout=30)
            assert result.returncode == 1 and port in result.stderr and "in use" in result.stderr.lower(), result.stderr
        inventory, _ = inventory_with(workdir, {})
        result = run([paths.kbgp_target(), "serve", "--insecure", "--db", inventory.db, "--listen", address], timeout=30)
        assert result.returncode == 1 and address in result.stderr and "in use" in result.stderr.lower(), result.stderr


def test_unreadable_certificates(workdir):
    """Of the authority that the agent trusts: not there, and no certificate at all."""
    (workdir / "junk.pem").write_text("-----BEGIN NOTHING-----\n")
    for path in ("/no/such/ca.pem", workdir / "junk.pem"):
        result = run([paths.kbgp(), *WHOLE, "--target", "localhost:1", "--listen", f"127.0.0.1:{free_port()}",
                      "--metrics-port", str(free_port()), "--ca-file", path], timeout=30)
        assert result.returncode in (1, 2) and str(path) in result.stderr, result.stderr


def test_certificate_and_key_that_do_not_belong_together(workdir, certs):
    inventory, _ = inventory_with(workdir, {})
    result = run([paths.kbgp_target(), "serve", "--db", inventory.db, "--listen", f"127.0.0.1:{free_port()}",
                  "--tls-cert", certs.good[0], "--tls-key", certs.stranger[1]], timeout=30)
    assert result.returncode in (1, 2) and str(certs.stranger[1]) in result.stderr, result.stderr


# TLS

@pytest.mark.parametrize("which, words", [
    ("wrong_name", r"certificate.*(name|host|mismatch|127\.0\.0\.1)|(name|host|mismatch).*certificate"),
    ("expired", "certificate.*expired|expired.*certificate"),
    ("stranger", "certificate.*(issuer|self.signed|verif|trust)|(issuer|trust|verif).*certificate"),
])
def test_bad_certificates_are_refused(workdir, certs, which, words):
    """Refused, with a line that says what is wrong and with whom; no credentials went out."""
    with GrpcTarget(tls=getattr(certs, which)) as server, Agent(workdir, server.address, ca_file=certs.ca) as agent:
        line = agent.wait_for_log(level="warn error", pattern=words)
        assert server.address in str(line)
        assert not server.controls and agent.health()[0] == 503
        assert not agent.secrets_shown()


def test_the_system_trust_store_is_the_default_and_ssl_cert_file_works(workdir, certs):
    with GrpcTarget(tls=certs.good) as server:
        with Agent(workdir, server.address, insecure=False) as agent:
            agent.wait_for_log(level="warn error", pattern="certificate")
            assert not server.controls
        with Agent(workdir, server.address, insecure=False, env={"SSL_CERT_FILE": str(certs.ca)}) as agent:
            agent.wait_control()


def test_tls_and_plain_text_do_not_match(workdir, certs):
    """An agent with TLS before a plain server, and the reverse: complaints, no crash."""
    with GrpcTarget() as server, Agent(workdir, server.address, ca_file=certs.ca) as agent:
        agent.wait_for_log(level="warn error", pattern=server.address)
        assert not server.controls
    with GrpcTarget(tls=certs.good) as server, Agent(workdir, server.address, insecure=True) as agent:
        agent.wait_for_log(level="warn error", pattern=server.address)
        assert not server.controls


def test_a_server_without_h2(workdir, certs):
    """A web server that has only HTTP/1.1 says so in ALPN."""
    with OddServer(odd_server.http1_html, tls=certs.good, alpn=("http/1.1",)) as server, \
            Agent(workdir, server.address, ca_file=certs.ca) as agent:
        agent.wait_for_log(level="warn error", pattern=server.address)
        agent.assert_running()


# Answers that are not gRPC

@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("behaviour, words", [
    (odd_server.http2_html, "503"), (odd_server.http2_ok_html, "text/html|content-type|not gRPC"), (odd_server.http1_html, None),
    (odd_server.garbage, None), (odd_server.close_at_once, None)],
    ids=lambda v: v.__name__ if callable(v) else "")
def test_answers_that_are_not_grpc(workdir, certs, behaviour, words, tls):
    """One warning or more, patience between the tries; and when the right server comes, all is well."""
    port = free_port()
    with Agent(workdir, f"127.0.0.1:{port}", ca_file=certs.ca if tls else None) as agent:
        with OddServer(behaviour, tls=certs.good if tls else None, port=port) as server:
            begin = time.monotonic()
            wait_for(lambda: server.accepted >= 1, "a connection of the agent")
            said = {"level": "warn error", "pattern": words or f"127.0.0.1:{port}"}
            wait_for(lambda: len(agent.find_log(**said)) >= 2, "two complaints")  # also where it keeps the connection
            assert len(agent.find_log(**said)) <= 8 + 2 * (time.monotonic() - begin), "a tight loop"
            assert server.accepted <= 5 + (time.monotonic() - begin), "a tight loop"
            assert agent.health()[0] == 503
        with GrpcTarget(port=port, tls=certs.good if tls else None):
            agent.wait_control(timeout=90)


def test_a_server_that_says_nothing(workdir):
    """No crash, no readiness; SIGTERM ends the agent in the middle of it."""
    with OddServer(odd_server.silence) as server, Agent(workdir, server.address) as agent:
        wait_for(lambda: server.accepted >= 1, "a connection of the agent")
        assert agent.health()[0] == 503
        assert agent.stop(timeout=10) == 0


# Signals

@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
def test_signals_end_both_programs(workdir, number):
    inventory, token = inventory_with(workdir, {})
    with Target(workdir, inventory) as target, Agent(workdir, target.address, token=token) as agent:
        agent.wait_control()
        for program in (agent, target):
            program.signal(getattr(signal, number))
            assert program.wait_exit(10) == 0
