"""kbgp and kbgp-target as a chain, and the load in front of it and behind it."""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from .build import BenchError, run

DEADLINE = 60


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(what, happened, seconds=DEADLINE):
    end = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > end:
            raise BenchError(f"gave up waiting: {what}")
        time.sleep(0.05)


def certificate(folder, *addresses):
    """A self-signed certificate for IP addresses. Returns (certificate file, key file)."""
    cert, key = Path(folder) / "cert.pem", Path(folder) / "key.pem"
    if not cert.exists():
        run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key,
             "-out", cert, "-days", "2", "-subj", "/CN=target", "-addext",
             "subjectAltName=" + ",".join(f"IP:{a}" for a in addresses)])
    return cert, key


def router_address(index):
    """Where load.c's session `index` comes from."""
    n = 0x7F010001 + index
    return socket.inet_ntoa(n.to_bytes(4, "big"))


class Chain:
    """
    Agent and target, running. `agent_ns` and `target_ns`: the namespaces that they are in; then `target_ip` is where the target
    listens. Everything else is on loopback. Leaving stops both and raises when one of them did not end well.
    """

    def __init__(self, build, folder, sessions, multi=10, agent_ns=None, target_ns=None, target_ip="127.0.0.1"):
        self.build, self.folder, self.sessions, self.multi = Path(build), Path(folder), sessions, multi
        self.agent_ns, self.target_ns, self.target_ip = agent_ns, target_ns, target_ip
        self.router_port, self.target_port, self.backend_port = free_port(), free_port(), free_port()
        self.agent_pages, self.target_pages = free_port(), free_port()
        self.processes = []

    def _start(self, name, namespace, command, env=None):
        log = open(self.folder / f"{name}.log", "w", encoding="utf-8")
        command = [str(c) for c in command]
        process = subprocess.Popen(namespace.inside(*command) if namespace else command, stdout=log, stderr=log,
                                   env={**os.environ, **(env or {})})
        log.close()
        self.processes.append((name, process))
        return process

    def _page(self, namespace, port, path):
        url = f"http://127.0.0.1:{port}{path}"
        if namespace:
            done = subprocess.run(namespace.inside("curl", "-sf", url), stdout=subprocess.PIPE, text=True, check=False)
            return done.stdout if done.returncode == 0 else None
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.read().decode()
        except (urllib.error.URLError, OSError):
            return None

    def __enter__(self):
        try:
            self._enter()
        except BaseException:
            self._stop()
            raise
        return self

    def _enter(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        program, db = self.build / "kbgp-target", self.folder / "db"
        cert, key = certificate(self.folder, self.target_ip)
        token = subprocess.run([program, "account", "add", "bench@example.com", "--db", db], stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True, check=True).stdout.strip()
        for first in range(0, self.sessions, 16):  # so many addresses a device may have
            args = []
            for i in range(first, min(first + 16, self.sessions)):
                args += ["--address", router_address(i)]
            run([program, "device", "add", f"r{first}", *args, "--db", db])
        target = self._start("target", self.target_ns, [
            program, "serve", "--db", db, "--listen", f"{self.target_ip}:{self.target_port}", "--tls-cert", cert, "--tls-key",
            key, "--metrics-port", self.target_pages, "--backend", f"tcp://127.0.0.1:{self.backend_port}", "--log-level",
            "warn"])
        wait_for("the target's start", lambda: self._page(self.target_ns, self.target_pages, "/hc") is not None)
        agent = self._start("agent", self.agent_ns, [
            self.build / "kbgp", "--email", "bench@example.com", "--target", f"{self.target_ip}:{self.target_port}", "--ca-file",
            cert, "--listen", f"127.0.0.1:{self.router_port}", "--multi", self.multi, "--metrics-port", self.agent_pages,
            "--log-level", "warn", "--disable-log-export"], env={"KENTIK_API_TOKEN": token})
        wait_for("the agent's connection to the target", self._connected)
        # `ip netns exec` becomes the program: the pid is the program's own.
        self.agent_pid, self.target_pid = agent.pid, target.pid

    def _connected(self):
        page = self._page(self.agent_ns, self.agent_pages, "/admin/status")
        return page is not None and '"Connected":true' in page

    def metric(self, name):
        """The agent's metric, by its name and labels as they are written; None where there is none."""
        for line in (self._page(self.agent_ns, self.agent_pages, "/metrics") or "").splitlines():
            if line.startswith(name + " "):
                return float(line.rsplit(" ", 1)[1])
        return None

    def wait_sessions(self, n):
        wait_for(f"{n} sessions", lambda: self.metric('kbgp_sessions{state="active"}') == n)

    def _stop(self):
        codes = {}
        for name, process in reversed(self.processes):  # the agent first
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                codes[name] = process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                process.kill()
                codes[name] = process.wait()
        self.processes = []
        return codes

    def __exit__(self, kind, *_):
        codes = self._stop()
        if kind is None and any(codes.values()):
            raise BenchError(f"the chain did not end well: {codes}; logs in {self.folder}")

    def load(self, program, mode, sessions, **options):
        """Runs load.c through the chain; its line of JSON. With "cpu": [agent's seconds, target's seconds]."""
        return run_load(program, mode, sessions, f"127.0.0.1:{self.router_port}", f"127.0.0.1:{self.backend_port}",
                        namespace=self.agent_ns, listen_ns=self.target_ns, pids=f"{self.agent_pid},{self.target_pid}", **options)


def load_command(program, mode, sessions, connect, listen, namespace=None, listen_ns=None, any_source=False, **options):
    command = [program, mode, "--connect", connect, "--listen", listen, "--sessions", sessions]
    for name, value in options.items():
        command += [f"--{name}", value]
    if listen_ns:
        command += ["--listen-netns", listen_ns.name]
    if any_source:
        command += ["--any-source"]
    return namespace.inside(*command) if namespace else [str(c) for c in command]


def run_load(*args, **more):
    command = load_command(*args, **more)
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"{' '.join(command)} failed: {done.stderr.strip()}")
    return json.loads(done.stdout)


def cpu_per_gb(result):
    """CPU seconds a gigabyte (10^9 bytes) of agent and of target."""
    return [s / (result["bytes"] / 1e9) for s in result["cpu_seconds"]]


def memory_kib(pid):
    """(RSS, the private part of it) of a process, in KiB."""
    fields = {}
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        fields[name] = value.split()
    return int(fields["VmRSS"][0]), int(fields["RssAnon"][0])
