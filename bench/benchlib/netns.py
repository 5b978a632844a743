"""Network namespaces, and the long line between two of them. Needs root."""

import ctypes
import json
import os
import subprocess

from .build import BenchError, run

# What Linux sets when nobody has touched it. A host's own sysctls would be measured with everything else: BBR, for example,
# costs whoever sends over loopback a quarter more CPU.
USUAL_TCP = {"tcp_congestion_control": "cubic", "tcp_rmem": "4096 131072 6291456", "tcp_wmem": "4096 16384 4194304"}

CLONE_NEWNET = 0x40000000


class Namespace:
    """A network namespace with its loopback up. Leaving ends what runs in it and removes it."""

    def __init__(self, name):
        self.name = f"kbgp-{name}-{os.getpid()}"

    def __enter__(self):
        run(["ip", "netns", "add", self.name])
        run(["ip", "-n", self.name, "link", "set", "lo", "up"])
        return self

    def __exit__(self, *_):
        for pid in subprocess.run(["ip", "netns", "pids", self.name], stdout=subprocess.PIPE, text=True,
                                  check=False).stdout.split():
            try:
                os.kill(int(pid), 9)
            except ProcessLookupError:
                pass
        subprocess.run(["ip", "netns", "del", self.name], check=False)

    def inside(self, *command):
        """The command line that runs `command` in the namespace."""
        return ["ip", "netns", "exec", self.name, *[str(c) for c in command]]

    def sysctl(self, name, value):
        run(self.inside("sysctl", "-qw", f"{name}={value}"))


class Line:
    """
    bench/line.c between two namespaces: 10.99.0.1 in the first one, 10.99.0.2 in the second. Leaving tells what it dropped.
    """

    A, B = "10.99.0.1", "10.99.0.2"

    def __init__(self, program, a, b, rtt_ms, mbit=0, queue=64 << 20):
        self.program, self.a, self.b = program, a, b
        self.arguments = ["--delay-us", str(int(rtt_ms * 500)), "--mbit", str(mbit), "--queue", str(queue)]
        self.carried = None

    def __enter__(self):
        self.process = subprocess.Popen([str(self.program), self.a.name, self.b.name, *self.arguments],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "ready\n":
            self.process.wait()
            raise BenchError("the line between the namespaces could not be made")
        for namespace, here, there in ((self.a, self.A, self.B), (self.b, self.B, self.A)):
            run(["ip", "-n", namespace.name, "addr", "add", here, "peer", there, "dev", "line0"])
            # A burst that the line's thread has not fetched yet must not be lost: a hundred connections send many small packets.
            run(["ip", "-n", namespace.name, "link", "set", "line0", "up", "mtu", "1500", "txqueuelen", "100000"])
        return self

    def __exit__(self, *_):
        # What the device lost in front of the line's thread, which was too slow for it.
        late = [self._device_dropped(namespace) for namespace in (self.a, self.b)]
        self.process.terminate()
        out, _ = self.process.communicate()
        self.carried = json.loads(out) if out.strip() else None
        for way, dropped in zip(self.carried or [], late):
            way["device_dropped"] = dropped

    @staticmethod
    def _device_dropped(namespace):
        done = subprocess.run(["ip", "-n", namespace.name, "-s", "-j", "link", "show", "line0"], stdout=subprocess.PIPE, text=True,
                              check=False)
        return json.loads(done.stdout)[0]["stats64"]["tx"]["dropped"] if done.returncode == 0 else 0


def _write(name, value):
    """A sysctl of the network namespace that this process is in."""
    try:
        with open(f"/proc/sys/net/ipv4/{name}", "w", encoding="ascii") as f:
            f.write(value)
    except OSError as e:
        raise BenchError(f"net.ipv4.{name} = {value}: {e.strerror}") from None


def set_usual_tcp():
    """In the network namespace that this process is in."""
    for name, value in USUAL_TCP.items():
        _write(name, value)


def enter_own():
    """
    This process and what it starts from now on: alone in a network namespace, on its loopback, with TCP as Linux sets it. The
    namespace goes away with the last of them. Needs root; False without.
    """
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        return False
    run(["ip", "link", "set", "lo", "up"])
    set_usual_tcp()
    return True


def tcp_for_long_lines(namespace, megabytes=64):
    """
    What an operator sets on a host for long and fast lines: TCP's buffers may grow to hold what is on the way. These limits are
    each namespace's own. The kernel's default for what may be sent and not yet acknowledged, 4 MiB, is a third of 100 ms at
    1 Gbit/s.
    """
    most = megabytes << 20
    namespace.sysctl("net.ipv4.tcp_rmem", f"4096 131072 {most}")
    namespace.sysctl("net.ipv4.tcp_wmem", f"4096 16384 {most}")
    # BBR measures the line by emptying it every 10 s: a dip in one of two runs.
    namespace.sysctl("net.ipv4.tcp_congestion_control", USUAL_TCP["tcp_congestion_control"])


def congestion_control(namespace=None):
    """Which congestion control TCP uses in the namespace; without one: where this process is."""
    command = ["cat", "/proc/sys/net/ipv4/tcp_congestion_control"]
    return run(namespace.inside(*command) if namespace else command).strip()


if __name__ == "__main__":  # for scripts: python3 -m benchlib.netns
    set_usual_tcp()
