# SPDX-License-Identifier: Apache-2.0
"""
A machine of its own for commands of the documentation, as they stand there: default ports, /etc, /var/lib. Namespaces of
its own for network, mounts and processes; what is written to /etc and /var/lib is gone afterwards. As another user than
root a user namespace is made first, where that is allowed.
"""

import os
import shlex
import subprocess
from pathlib import Path

from . import paths
from .proc import SANITIZER, clean_env
from .wait import DEADLINE, wait_for

# $1: a folder. The router is a second network namespace with 10.0.0.1, the machine is 10.0.0.10.
SETUP = """
mkdir "$1/home" "$1/etc"
mount -t tmpfs tmpfs "$1/etc"
cp -rd /etc/. "$1/etc" 2>/dev/null || true # but for what is not ours to read
mount --bind "$1/etc" /etc
mount -t tmpfs tmpfs /var/lib
echo 198.51.100.10 target.example.com >> /etc/hosts
ip link set lo up
ip address add 198.51.100.10/32 dev lo
unshare --net sleep infinity &
router=$!
until [ "$(readlink "/proc/$router/ns/net")" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.02; done
ip link add to-router type veth peer name to-agent netns "$router"
ip address add 10.0.0.10/24 dev to-router
ip link set to-router up
nsenter "--net=/proc/$router/ns/net" sh -ec '
    ip link set lo up
    ip address add 10.0.0.1/24 dev to-agent
    ip link set to-agent up'
echo "$router" > "$1/router.pid"
"""


def _unshare():
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *user, "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]


def available(workdir):
    """"" when it can be made, or the reason why not."""
    try:
        with Sandbox(workdir):
            return ""
    except (AssertionError, FileNotFoundError) as e:
        return str(e)


class Background:
    """A command that runs on; its output is in `out` and `err`."""

    def __init__(self, sandbox, name, process):
        self.sandbox, self.name, self.process = sandbox, name, process
        self.out, self.err = sandbox.path / f"{name}.out", sandbox.path / f"{name}.err"

    def output(self):
        return self.out.read_text() + self.err.read_text()

    def assert_running(self):
        assert self.process.poll() is None, f"{self.name} ended with {self.process.returncode}\n{self.output()}"

    def wait_for_text(self, text, timeout=DEADLINE):
        def look():
            found = text in self.output()
            if not found:
                self.assert_running()
            return found

        wait_for(look, f'"{text}" in the output of {self.name}:\n{self.output()[-3000:]}', timeout)

    def stop(self):
        """Asks it to end; its exit code."""
        self.sandbox.run(f"kill $(cat {shlex.quote(str(self.sandbox.path))}/{self.name}.pid)")
        code = self.process.wait(timeout=30)
        assert not SANITIZER.search(self.output()), self.output()
        return code


class Sandbox:
    def __init__(self, workdir):
        self.path = Path(workdir)
        self.home = self.path / "home"
        self.process = self.leader = None
        self.env = clean_env(LC_ALL="C.UTF-8")
        self.env["PATH"] = f"{paths.BUILD}:{self.env['PATH']}"

    def __enter__(self):
        script = f"{SETUP}\necho ready\nexec sleep infinity"
        self.process = subprocess.Popen([*_unshare(), "bash", "-ec", script, "setup", str(self.path)], text=True, env=self.env,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            if self.process.stdout.readline() != "ready\n":
                self.process.kill()
                raise AssertionError(f"no namespaces here: {self.process.communicate()[1].strip()}")
            pid = self.process.pid
            self.leader = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, exc_type, exc, tb):
        self.process.kill()  # and with it all that runs inside
        self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            stream.close()

    def _argv(self, command, router, name=None):
        user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        enter = f"nsenter --net=/proc/$(cat {shlex.quote(str(self.path))}/router.pid)/ns/net -- " if router else ""
        pid = f"echo $$ > {shlex.quote(str(self.path))}/{name}.pid; " if name else ""
        script = f"{pid}cd {shlex.quote(str(self.home))}; {'exec ' if name else ''}{enter}{command if name else ''}"
        if not name:
            script = f"cd {shlex.quote(str(self.home))}; {enter}bash -ec {shlex.quote(command)}"
        return ["nsenter", f"--target={self.leader}", *user, "--net", "--mount", "--pid", "bash", "-ec", script]

    def run(self, command, *, check=True, router=False, timeout=DEADLINE):
        """Runs a shell's command; the CompletedProcess."""
        done = subprocess.run(self._argv(command, router), env=self.env, stdin=subprocess.DEVNULL, text=True, timeout=timeout,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        assert not SANITIZER.search(done.stderr), done.stderr
        assert not check or done.returncode == 0, f"{command}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def start(self, command, name, *, router=False):
        """Runs one program's command in the background, which ends with the sandbox or by stop()."""
        with open(self.path / f"{name}.out", "wb") as out, open(self.path / f"{name}.err", "wb") as err:
            process = subprocess.Popen(self._argv(command, router, name), env=self.env, stdin=subprocess.DEVNULL,
                                       stdout=out, stderr=err)
        return Background(self, name, process)
