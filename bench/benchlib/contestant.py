"""What each chain of a comparison has: an agent that routers connect to, a target that connects on, a load around both."""

import json
import random
import socket
import time
from pathlib import Path

from .build import BenchError
from .children import Child, listening, wait_quiet

# All speak TLS 1.3 with what kbgp negotiates; `sniff` watches that they do. Go's cannot be chosen.
CIPHER = "TLS_AES_256_GCM_SHA384"
SSH_CIPHER = "aes256-gcm@openssh.com"

START_SECONDS = 30


class Place:
    """
    Where chains run: programs, certificate, and for a long line the namespaces of agent and target. `target_ip` is where targets
    listen. `agent_core`, `target_core`: where each of them runs; None: where the kernel puts it.
    """

    agent_core = target_core = None

    def __init__(self, folder, build, tools, certificate, agent_ns=None, target_ns=None, target_ip="127.0.0.1"):
        self.folder, self.build, self.tools = Path(folder), Path(build), tools
        self.cert, self.key = certificate
        self.agent_ns, self.target_ns, self.target_ip = agent_ns, target_ns, target_ip


_given = set()


def free_port():
    """
    Nobody's port, below those that the kernel gives to connections: thousands of sessions could otherwise take it before the
    load listens there.
    """
    while True:
        port = random.randrange(10000, 32000)
        if port in _given:
            continue
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port


class Contestant:
    """
    One kind of chain. A subclass says how agent and target are started; the processes that they become are found by themselves.
    `with` runs it.
    """

    name = ""   # on the command line and in the JSON
    title = ""  # in the table

    def __init__(self, place):
        self.place = place
        self.router_port, self.target_port, self.backend_port = free_port(), free_port(), free_port()
        self.folder = None
        self.children = []
        self.agent = self.target = None

    # for subclasses

    def start_target(self):
        """Starts what listens on target_ip:target_port and connects to 127.0.0.1:backend_port."""
        raise NotImplementedError

    def start_agent(self):
        """Starts what listens on 127.0.0.1:router_port and connects to the target."""
        raise NotImplementedError

    @classmethod
    def programs(cls, place):
        """The files that an agent's host needs on its disk, libraries of the system aside."""
        return []

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def run(self, name, namespace, command, env=None, core=None):
        child = Child(namespace.inside(*command) if namespace else command, self.folder / f"{name}.log", env, core)
        self.children.append(child)
        return child

    def run_target(self, *command):
        return self.run("target", self.place.target_ns, command, core=self.place.target_core)

    def run_agent(self, *command, env=None):
        return self.run("agent", self.place.agent_ns, command, env, self.place.agent_core)

    @staticmethod
    def wait_until(child, happened):
        deadline = time.monotonic() + START_SECONDS
        while not happened():
            child.check()
            if time.monotonic() > deadline:
                raise BenchError(f"{child.command[0]} does not start: {child.tail()}")
            time.sleep(0.02)

    def wait_listening(self, child, port):
        self.wait_until(child, lambda: listening(child.pid, port))

    # for the measures

    def start(self):
        """Both sides are up when this returns; then `end` it, also after a failure elsewhere. After a failure here nothing is left."""
        self.folder = self.place.folder / f"{self.name}-{self.router_port}"
        self.folder.mkdir()
        try:
            self.target = self.start_target()
            self.agent = self.start_agent()
        except BaseException:
            self.end()
            raise

    def check(self):
        """Raises when one of its programs has ended by itself."""
        for child in self.children:
            child.check()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                self.check()
        finally:
            self.end()

    def end(self):
        for child in reversed(self.children):
            child.end()
        self.children = []

    def pids(self):
        """([agent's processes], [target's processes])"""
        return self.agent.tree() if self.agent else [], self.target.tree() if self.target else []

    def connect_address(self):
        return f"127.0.0.1:{self.router_port}"

    def listen_address(self):
        return f"127.0.0.1:{self.backend_port}"

    def load(self, mode, *, seconds_at_most=180, any_source=False, **options):
        """
        Runs the load through the chain. Returns its line of JSON; with sums over the processes of each side instead of lists:
        agent_cpu, target_cpu (seconds), agent_memory, target_memory (KiB, (before, at the end)).
        """
        agent, target = self.pids()
        command = [self.place.tools / "load", mode, "--connect", self.connect_address(), "--listen", self.listen_address()]
        for name, value in options.items():
            command += ["--" + name.replace("_", "-"), value]
        if agent or target:
            command += ["--pids", ",".join(str(p) for p in agent + target)]
        if self.place.target_ns:
            command += ["--listen-netns", self.place.target_ns.name]
        if any_source:
            command += ["--any-source"]
        log = self.folder / "load.log"
        child = self.run("load", self.place.agent_ns, command)
        code = child.wait(seconds_at_most)
        self.children.remove(child)
        self.check()
        if code != 0:
            raise BenchError(f"{child.tail()} ({' '.join(child.command[1:])})")
        wait_quiet(agent + target)
        result = json.loads(log.read_text(encoding="ascii"))
        return sums(result, len(agent))


def sums(result, agents):
    cpu, before, after = (result.pop(k) for k in ("cpu_seconds", "private_kib_before", "private_kib"))
    result.pop("rss_kib")
    result["agent_cpu"], result["target_cpu"] = sum(cpu[:agents]), sum(cpu[agents:])
    result["agent_memory"] = sum(before[:agents]), sum(after[:agents])
    result["target_memory"] = sum(before[agents:]), sum(after[agents:])
    return result
