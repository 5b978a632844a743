# SPDX-License-Identifier: Apache-2.0
"""`kbgp-target ready`: what a health check asks the running server."""

import time

import pytest

from harness import odd_server, paths
from harness.odd_server import OddServer
from harness.ports import free_port
from harness.proc import clean_env, run
from harness.scene import inventory_with
from harness.target import Target
from test_check import answer, endless


def ready(port=None, *words, **env):
    port = ["--metrics-port", str(port)] if port else []
    return run([paths.kbgp_target(), "ready", *port, *words], env=clean_env(**env), timeout=30)


def assert_not_ready(result, words):
    assert (result.returncode, result.stderr) == (1, "")
    assert result.stdout.startswith("not ready: ") and result.stdout.count("\n") == 1 and words in result.stdout


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "0.0.0.0", "::"])
def test_ready(workdir, address):
    """The address is the server's own, also when that means all; flags and variables are the same."""
    inventory, _ = inventory_with(workdir, {"router_one": "127.0.0.2"})
    with Target(workdir, inventory, extra=["--metrics-addr", address]) as target:
        target.wait_listening(target.metrics_port)
        for result in (ready(target.metrics_port, "--metrics-addr", address),
                       ready(KBGP_TARGET_METRICS_PORT=str(target.metrics_port), KBGP_TARGET_METRICS_ADDR=address)):
            assert (result.returncode, result.stdout, result.stderr) == (0, "ok\n", "")


def test_nobody_is_there():
    assert_not_ready(ready(free_port()), "nobody listens")


@pytest.mark.parametrize("behaviour,words", [
    (answer(b'{"status":"failing"}', 503), "not ready: failing"),
    (answer(b'{"status":"o\\u0007k\\n"}', 503), "not ready: o?k?"),
    (answer(b'{"status":"ok"}', 503), "no status"),
    (answer(b'{"status":"failing"}'), "no status"),
    (answer(b'{"status":["ok"]}'), "no status"),
    (answer(b"[]"), "no status"),
    (answer(b'{"status":"ok"'), "no status"),
    (odd_server.garbage, "is not kbgp-target"),
    (odd_server.http1_html, "no status"),
    (odd_server.close_at_once, "127.0.0.1:"),
    (endless, "too long"),
], ids=lambda v: v if isinstance(v, str) else "")
def test_something_else_answers(behaviour, words):
    with OddServer(behaviour) as server:
        assert_not_ready(ready(server.port), words)


def drip(sock):
    """A byte now and then: no pause is long, but the whole."""
    sock.recv(65536)
    for _ in range(60):
        sock.sendall(b"x")
        time.sleep(0.5)


def test_an_answer_that_does_not_end():
    with OddServer(drip) as server:
        start = time.monotonic()
        assert_not_ready(ready(server.port), "no answer within 5 s")
        assert 4.5 < time.monotonic() - start < 20


def test_usage():
    result = ready(0, "--metrics-port", "0")
    assert result.returncode == 2 and "--metrics-port" in result.stderr
    assert ready(0, "now").returncode == 2
    help_text = ready(0, "--help")
    assert help_text.returncode == 0 and "KBGP_TARGET_METRICS_PORT" in help_text.stdout
