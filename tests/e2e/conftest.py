# SPDX-License-Identifier: Apache-2.0
"""Fixtures for all tests, the versions of everything in the header, and the programs' logs in a failure report."""

import dataclasses
import os
import signal
import subprocess
from pathlib import Path

import pytest

from harness import net, paths, proc
from harness.certs import Authority


def pytest_configure(config):
    # SIGTERM (a deadline around the suite) unwinds like ^C, so that namespaces and programs are cleaned up
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_report_header(config):
    lines = [f"programs: {paths.BUILD}" + ("" if paths.built() else " (not built yet)")]
    commands = [[p, "--version"] for p in (paths.kbgp(), paths.kbgp_target()) if os.access(p, os.X_OK)]
    commands += [["bird", "--version"], ["gobgpd", "--version"], ["/usr/lib/frr/bgpd", "--version"], ["openssl", "version"],
                 ["protoc", "--version"]]
    for command in commands:
        program = paths.find(command[0])
        if program is None:
            lines.append(f"{command[0]}: not installed")
            continue
        done = subprocess.run([program, *command[1:]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              env=proc.clean_env(), stdin=subprocess.DEVNULL, timeout=60)
        lines.append(f"{Path(command[0]).name}: {(done.stdout.splitlines() or ['?'])[0]}")
    return lines


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.when == "call" and report.failed:
        for program in proc.started:
            code = program.process.poll() if program.process else None
            report.sections.append((f"{program.name}, exit code {code}", program.tail(60)))


@pytest.fixture(autouse=True)
def _programs():
    """Nothing that a test started outlives it, also where a test starts something without its context manager."""
    proc.started.clear()
    yield
    left = [p for p in proc.started if p.running()]
    for program in left:
        program.kill()
    assert not left, f"left running: {[p.name for p in left]}"


@pytest.fixture
def workdir(tmp_path):
    """A folder for everything that the test's programs write."""
    return tmp_path


@dataclasses.dataclass
class Certificates:
    """`ca` is to be trusted; the others are (certificate, key), the `stranger` signed by a CA that nobody knows."""

    ca: Path
    good: tuple
    wrong_name: tuple
    expired: tuple
    stranger: tuple


@pytest.fixture(scope="session")
def certs(tmp_path_factory):
    authority = Authority(tmp_path_factory.mktemp("ca"))
    stranger = Authority(tmp_path_factory.mktemp("stranger"), "somebody else's CA")
    chain = f",IP:{net.Chain.target4},IP:{net.Chain.target6}"
    return Certificates(
        ca=authority.ca,
        good=authority.issue("good", "DNS:localhost,IP:127.0.0.1,IP:0:0:0:0:0:0:0:1" + chain),
        wrong_name=authority.issue("wrong", "DNS:elsewhere.example.net,IP:192.0.2.99"),
        expired=authority.issue("expired", expired=True),
        stranger=stranger.issue("stranger"))


@pytest.fixture(scope="session")
def namespaces():
    if not net.available():
        pytest.skip("network namespaces may not be made here")
