# SPDX-License-Identifier: Apache-2.0
"""Running a program: output into files, log lines as dicts, an orderly end, and no sanitizer report left unseen."""

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

from .wait import DEADLINE, wait_for

SANITIZER = re.compile(r"ERROR: AddressSanitizer|runtime error:|LeakSanitizer|ERROR: ThreadSanitizer|==\d+==ABORTING")

# Becomes the program, which gets SIGKILL when the tests are killed, so that nothing is left running. Not by a preexec_fn: Python
# would fork() for it, ahead of which grpcio waits for its threads, now and then for ever.
_DIE_WITH_PARENT = ["/usr/bin/setpriv", "--pdeathsig", "KILL", "--"]

# Programs that the running test has started, for the log tails in a failure report (conftest.py).
started = []


def clean_env(**more):
    """
    The environment for a program under test: nothing of the machine's (web proxies, tokens) leaks in, but sanitizer
    options do pass. A value of None leaves the variable out.
    """
    env = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": os.environ.get("HOME", "/"),
        "LANG": "C.UTF-8",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    for key, value in os.environ.items():
        if key.endswith("SAN_OPTIONS") or key == "LLVM_PROFILE_FILE":
            env[key] = value
    env.update(more)
    return {k: v for k, v in env.items() if v is not None}


def run(argv, *, env=None, timeout=DEADLINE, check=False, netns=None, **kw):
    """Runs a command to its end and returns the CompletedProcess with text output."""
    if netns is not None:
        argv = ["ip", "netns", "exec", netns, *argv]
    result = subprocess.run(
        [str(a) for a in argv], env=env or clean_env(), timeout=timeout, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False, **kw)
    if SANITIZER.search(result.stderr):
        raise AssertionError(f"{argv[0]}: sanitizer report:\n{result.stderr}")
    if check and result.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, argv))}: exit code {result.returncode}\n{result.stdout}{result.stderr}")
    return result


class Program:
    """
    A running program. Leaving the context stops it (SIGTERM, then SIGKILL after `stop_timeout`) and asserts its exit code
    (`exit_codes`; None: any) and that it wrote no sanitizer report; when the test has failed already, its failure stands.
    """

    exit_codes = (0,)
    stop_timeout = 30.0

    def __init__(self, name, argv, workdir, *, env=None, netns=None, cwd=None):
        self.name = name
        self.argv = [str(a) for a in argv]
        self.netns = netns
        self.env = env if env is not None else clean_env()
        self.cwd = cwd
        self.workdir = Path(workdir)
        self.workdir.mkdir(parents=True, exist_ok=True)
        stem, n = name, 1
        while (self.workdir / f"{stem}.err").exists():
            n += 1
            stem = f"{name}-{n}"
        self.out_path = self.workdir / f"{stem}.out"
        self.err_path = self.workdir / f"{stem}.err"
        self.process = None

    # life

    def start(self):
        argv = self.argv if self.netns is None else ["ip", "netns", "exec", self.netns, *self.argv]
        with open(self.out_path, "wb") as out, open(self.err_path, "wb") as err:
            self.process = subprocess.Popen([*_DIE_WITH_PARENT, *argv], stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                            env=self.env, cwd=self.cwd, start_new_session=True)
        started.append(self)
        return self

    def __enter__(self):
        self.start()
        try:
            self.wait_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, exc_type, exc, tb):
        if self.process is None:
            return
        if exc_type is not None:
            with contextlib.suppress(Exception):
                self.signal(signal.SIGTERM)
                self.process.wait(5)
            self.kill()
            return
        code = self.stop()
        self.assert_no_sanitizer_report()
        if self.exit_codes is not None:
            assert code in self.exit_codes, f"{self.name}: exit code {code}\n{self.tail()}"

    def wait_ready(self):
        """Overridden: returns when the program does its work."""

    @property
    def pid(self):
        return self.process.pid

    def running(self):
        return self.process is not None and self.process.poll() is None

    def assert_running(self):
        assert self.running(), f"{self.name} has ended, exit code {self.process.returncode}\n{self.tail()}"

    def signal(self, number):
        if self.running():
            self.process.send_signal(number)

    def stop(self, timeout=None):
        """SIGTERM, the exit code. A program that does not end in time is killed, and that is a failure."""
        self.signal(signal.SIGTERM)
        return self.wait_exit(timeout)

    def wait_exit(self, timeout=None):
        timeout = self.stop_timeout if timeout is None else timeout
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not end within {timeout:g} s\n{self.tail()}") from None

    def kill(self):
        """SIGKILL to the program and whatever it has started (its process group)."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    # what it wrote

    def stderr(self):
        return self.err_path.read_text(errors="replace")

    def stdout(self):
        return self.out_path.read_text(errors="replace")

    def output(self):
        return self.stdout() + self.stderr()

    def tail(self, lines=40):
        text = self.output().splitlines()
        return f"--- last lines of {self.name}\n" + "\n".join(text[-lines:])

    def log(self):
        """The log records (lines of JSON on stderr) so far. A line that is still being written is left for the next call."""
        records = []
        for line in self.stderr().split("\n")[:-1]:
            if line.startswith("{"):
                with contextlib.suppress(ValueError):
                    records.append(json.loads(line))
        return records

    def find_log(self, message=None, level=None, pattern=None, **fields):
        """
        Log records with this message, one of these levels ("warn error"), whose JSON text matches `pattern` (ignoring
        case), and with these fields (underscores in the name stand for dashes, too).
        """
        found = []
        for record in self.log():
            if message is not None and record.get("message") != message:
                continue
            if level is not None and record.get("level") not in level.split():
                continue
            if pattern is not None and not re.search(pattern, json.dumps(record), re.IGNORECASE):
                continue
            if all(_field(record, k) == v for k, v in fields.items()):
                found.append(record)
        return found

    def wait_for_log(self, message=None, level=None, pattern=None, timeout=DEADLINE, **fields):
        wanted = dict(message=message, level=level, pattern=pattern, **fields)
        what = f"log line of {self.name} with " + ", ".join(f"{k}={v!r}" for k, v in wanted.items() if v is not None)

        def look():
            found = self.find_log(**wanted)
            if not found:
                self.assert_running()
            return found

        return wait_for(look, what, timeout)[0]

    def wait_for_text(self, pattern, timeout=DEADLINE):
        """Waits until the output matches; for programs whose log is plain text."""
        return wait_for(lambda: re.search(pattern, self.output()), f"/{pattern}/ in the output of {self.name}", timeout)

    def assert_no_sanitizer_report(self):
        text = self.output()
        found = SANITIZER.search(text)
        assert not found, f"{self.name}: sanitizer report\n{text[max(0, found.start() - 500):found.start() + 6000]}"

    # what the kernel knows about it

    def rss(self):
        """Resident memory in bytes, 0 when it has ended."""
        try:
            for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024
        except (FileNotFoundError, ProcessLookupError):
            pass
        return 0

    def cpu_seconds(self):
        """Processor time used so far: a tight loop shows here."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def listeners(self):
        """{(port): length of the accept queue} of the listening sockets in the program's network namespace."""
        return listeners(self.pid)

    def wait_listening(self, *ports, timeout=DEADLINE):
        """Waits for listening sockets by looking, not by connecting: a probe would be a device's connection."""

        def look():
            self.assert_running()
            return set(ports) <= set(self.listeners())

        wait_for(look, f"{self.name} listening on {ports}", timeout)

    def wait_accepted(self, port, timeout=DEADLINE):
        """Waits until the program has accepted every connection that is made so far."""
        wait_for(lambda: self.listeners().get(port) == 0, f"{self.name} accepting all of port {port}", timeout)


def listeners(pid="self"):
    found = {}
    for family in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/{pid}/net/{family}").read_text().splitlines()[1:]
        except (FileNotFoundError, ProcessLookupError, OSError):
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == "0A":
                port = int(fields[1].rsplit(":", 1)[1], 16)
                found[port] = found.get(port, 0) + int(fields[4].split(":")[1], 16)
    return found


def _field(record, key):
    return record.get(key, record.get(key.replace("_", "-")))


def timed(function):
    """(result, seconds)."""
    begin = time.monotonic()
    result = function()
    return result, time.monotonic() - begin
