# SPDX-License-Identifier: Apache-2.0
"""A small Debian of its own for a test: a tree to install packages in, or a machine that boots from it."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8",
               "DEBIAN_FRONTEND": "noninteractive"}
SUITE = "bookworm"
# What a machine needs beside what the packages depend on: an init, a router, what docs/install.md calls.
INCLUDE = ["systemd", "systemd-sysv", "dbus", "bird2", "ca-certificates", "iproute2", "openssl", "procps"]
# What makes it look like Fedora from where a package stands: rpm and dnf, with the database, folder and plugins they have there,
# and services that are enabled by nobody but the operator.
INCLUDE_RPM = ["curl", "dnf", "dnf-plugins-core", "gpg", "rpm"]
HOOKS_RPM = [f'cd "$1" && {command}' for command in (
    "mkdir -p etc/yum.repos.d etc/rpm etc/systemd/system-preset usr/share/licenses",
    "echo '%_dbpath /var/lib/rpm' > etc/rpm/macros",
    "printf '[main]\\nenabled = false\\n' > etc/dnf/plugins/local.conf",
    "echo 'disable *' > etc/systemd/system-preset/99-default-disable.preset",
)]
DEADLINE = 30


def wait_for(condition, what, timeout=DEADLINE, interval=0.2):
    """The first result that is true, or an AssertionError with `what`."""
    end = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < end, f"waited {timeout:g} s in vain: {what}"
        time.sleep(interval)


def make_tree(path, debs, more=(), hooks=()):
    """A Debian with all that `debs` depend on, so that they install without a network; `more` packages, and commands on it."""
    depends = set()
    for deb in debs:
        fields = subprocess.run(["dpkg-deb", "-f", deb, "Depends"], check=True, capture_output=True, text=True).stdout
        depends |= {re.split(r"[ (|]", d.strip())[0] for d in fields.split(",")}
    subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(INCLUDE + sorted(depends) + list(more))}",
                    '--customize-hook=chroot "$1" systemctl --quiet mask bird.service',
                    *(f"--customize-hook={hook}" for hook in hooks), SUITE, path],
                   check=True, capture_output=True, text=True, timeout=900)


class Tree:
    """A writable view of a tree that others use as well. `packages` is a folder, seen inside as /root/build-deb (or `seen_as`)."""

    def __init__(self, lower, workdir, packages, seen_as="build-deb"):
        self.root = workdir / "root"
        self.bind = f"{packages}:/root/{seen_as}"
        for name in ("upper", "work", "root"):
            (workdir / name).mkdir()
        self.options = f"lowerdir={lower},upperdir={workdir / 'upper'},workdir={workdir / 'work'}"

    def __enter__(self):
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", self.options, self.root], check=True)
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", self.root], check=True)

    def _nspawn(self, *words):
        return ["systemd-nspawn", "--quiet", f"--directory={self.root}", f"--machine=kbgp-{os.getpid()}", "--register=no",
                "--keep-unit", "--private-network", f"--bind-ro={self.bind}", *words]

    def _inside(self, words):
        return self._nspawn("--pipe", "--chdir=/root", *(f"--setenv={k}={v}" for k, v in ENVIRONMENT.items()), *words)

    def run(self, *words, check=True, timeout=120):
        """Runs a command inside; a single word is a shell's. Both outputs as one text."""
        if len(words) == 1:
            words = ("/bin/bash", "-ec", words[0])
        # both outputs in one, apart from what systemd-nspawn has to say
        inside = self._inside(["/bin/sh", "-c", 'exec "$@" 2>&1', "sh", *words])
        done = subprocess.run(inside, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=timeout,
                              start_new_session=True)
        assert not check or done.returncode == 0, \
            f"{' '.join(words)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def code(self, *words):
        return subprocess.run(self._inside(words), capture_output=True, stdin=subprocess.DEVNULL, timeout=120).returncode

    def path(self, inside):
        return self.root / inside.lstrip("/")

    def files(self):
        """All paths, but for those in which every installation leaves its traces."""
        ours = set()
        skip = ("var/lib/dpkg", "var/lib/apt", "var/lib/rpm", "var/cache", "var/log", "tmp", "run", "dev", "root/build-deb",
                "root/build-rpm", "proc", "sys")
        for folder, names, files in os.walk(self.root):
            relative = Path(folder).relative_to(self.root)
            names[:] = [n for n in names if str(relative / n) not in skip]
            ours |= {str(relative / n) for n in names + files}
        return ours


class Machine(Tree):
    """The tree, booted: processes, network and systemd of its own."""

    process = leader = None

    def __enter__(self):
        super().__enter__()
        self.boot()
        return self

    def __exit__(self, *rest):
        try:
            self.power_off()
        finally:
            super().__exit__(*rest)

    def boot(self):
        self.process = subprocess.Popen(self._nspawn("--boot", "--console=read-only"), stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.leader = wait_for(self._first_child, "the machine has a first process")
        wait_for(lambda: self.run("systemctl is-system-running", check=False).strip() in ("running", "degraded"),
                 "the machine has booted")

    def _first_child(self):
        assert self.process.poll() is None, "systemd-nspawn ended"
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        # before it is systemd it is still nspawn's own
        ready = [c for c in children if Path(f"/proc/{c}/comm").read_text().strip() == "systemd"]
        return int(ready[0]) if ready else None

    def power_off(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def _inside(self, words):
        return ["nsenter", f"--target={self.leader}", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root",
                "--wd=/proc/%d/root/root" % self.leader, "env", "-i", *(f"{k}={v}" for k, v in ENVIRONMENT.items()), *words]

    def show(self, unit, name):
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).strip()

    def active(self, unit):
        return self.show(unit, "ActiveState") == "active"

    def pid(self, unit):
        """Of the main process; 0 when there is none."""
        return int(self.show(unit, "MainPID"))

    def signal(self, unit, name):
        self.run("systemctl", "kill", "--kill-whom=main", f"--signal={name}", unit)

    def journal(self, unit):
        return self.run("journalctl", "--no-pager", "-u", unit)
