"""Programs that a benchmark runs: each with its log, all of them gone at the end, whatever the end is."""

import contextlib
import ctypes
import functools
import os
import signal
import subprocess
import time
from pathlib import Path

from .build import BenchError

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def adopt_orphans():
    """What our children leave behind becomes our child, so that `end_all` finds it (sshd's session leaves its group)."""
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def raise_on_signals():
    """Ctrl-C, SIGTERM and SIGHUP end us through every `finally`. A second one does not disturb that: it takes seconds."""
    numbers = signal.SIGINT, signal.SIGTERM, signal.SIGHUP

    def stop(number, _frame):
        for n in numbers:
            signal.signal(n, signal.SIG_IGN)
        raise KeyboardInterrupt(signal.Signals(number).name)

    for number in numbers:
        signal.signal(number, stop)


def _begin(core):
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if core is not None:
        os.sched_setaffinity(0, {core})


def _stat(pid):
    """(state, parent's pid), None when there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return None
    return fields[0], int(fields[1])


def descendants(root):
    """The pids of all that `root` has started and they have started, without the dead."""
    below = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            stat = _stat(name)
            if stat and stat[0] != "Z":
                below.setdefault(stat[1], []).append(int(name))
    found, look = [], [root]
    while look:
        children = below.get(look.pop(), [])
        found += children
        look += children
    return found


class Child:
    """A program in a session of its own, its output in `log`. `core`: the only one that it and what it starts may run on."""

    def __init__(self, command, log, env=None, core=None):
        self.command, self.log = [str(c) for c in command], Path(log)
        with open(self.log, "wb") as out:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                            env={**os.environ, **(env or {})}, start_new_session=True,
                                            preexec_fn=functools.partial(_begin, core))
        self.pid = self.process.pid

    def tail(self):
        return self.log.read_text(errors="replace")[-2000:].strip()

    def check(self):
        if self.process.poll() is not None:
            raise BenchError(f"{self.command[0]} has ended with code {self.process.returncode}: {self.tail()}")

    def tree(self):
        return [self.pid, *descendants(self.pid)]

    def wait(self, seconds):
        """Its exit code; one that takes longer is ended."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.end()
            raise BenchError(f"{' '.join(self.command)}: not done after {seconds:g} s") from None

    def end(self, patience=5.0):
        """SIGTERM, then SIGKILL to what is left of it."""
        tree = self.tree()
        for pid in tree if self.process.poll() is None else tree[1:]:
            _kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and (self.process.poll() is None or _alive(tree[1:])):
            time.sleep(0.02)
        for pid in _alive(tree[1:]):
            _kill(pid, signal.SIGKILL)
        if self.process.poll() is None:
            _kill(self.pid, signal.SIGKILL)
            self.process.wait()


def _kill(pid, number):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _alive(pids):
    """Those that we have started or adopted; a number that somebody else has by now is not ours."""
    ours = set(descendants(os.getpid()))
    return [p for p in pids if p in ours]


def end_all():
    """At the very end: whatever is still below us."""
    for _ in range(50):
        left = descendants(os.getpid())
        if not left:
            return
        for pid in left:
            _kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        time.sleep(0.02)


def cpu_seconds(pids):
    total = 0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def wait_quiet(pids, seconds=20.0):
    """Until the processes have stopped working: what the last load left is cleared away."""
    deadline, before = time.monotonic() + seconds, cpu_seconds(pids)
    while time.monotonic() < deadline:
        time.sleep(0.25)
        now = cpu_seconds(pids)
        if now - before <= 0.01:
            return
        before = now


def listening(pid, port):
    """Whether something listens on the port in the process's network namespace; found by looking, a probe would be a session."""
    try:
        lines = Path(f"/proc/{pid}/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return any(f[3] == "0A" and int(f[1].rsplit(":", 1)[1], 16) == port for f in (line.split() for line in lines))
