# SPDX-License-Identifier: Apache-2.0
"""Docker's commands for a test: Podman with storage, settings and a network of the test's own, all of it removed at the end."""

import json
import os
import shutil
import subprocess
from pathlib import Path

STORAGE = """
[storage]
driver = "vfs"
graphroot = "{0}/storage"
runroot = "{0}/run"
"""

# No systemd and no network of containers is needed; the limits are such that any machine grants them.
SETTINGS = """
[containers]
{1}
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
tmp_dir = "{0}/tmp"
[network]
network_config_dir = "{0}/networks"
"""


class Containers:
    """`run` runs a shell command in which `docker` is Podman, in a network namespace that has addresses on lo only. Containers
    ask 127.0.0.1 for names."""

    def __init__(self, workdir, addresses=()):
        self.workdir, self.addresses = Path(workdir), addresses
        self.netns = f"kbgp-ct-{os.getpid()}"
        self.home = self.workdir / "home"

    def __enter__(self):
        (self.workdir / "bin").mkdir(parents=True)
        self.home.mkdir()
        (self.workdir / "storage.conf").write_text(STORAGE.format(self.workdir))
        # a build asks the machine's name servers
        for name, servers in (("containers", 'dns_servers = ["127.0.0.1"]'), ("build", "")):
            (self.workdir / f"{name}.conf").write_text(SETTINGS.format(self.workdir, servers))
        docker = self.workdir / "bin/docker"
        docker.write_text('#!/bin/sh\nexec podman "$@"\n')
        docker.chmod(0o755)
        self.environment = {
            "PATH": f"{self.workdir}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8",
            "HOME": str(self.home), "XDG_RUNTIME_DIR": str(self.workdir), "TMPDIR": str(self.workdir),
            "CONTAINERS_STORAGE_CONF": str(self.workdir / "storage.conf"),
            "CONTAINERS_CONF": str(self.workdir / "containers.conf"),
            # a build needs no runtime of its own, and no copy of every step; there is no systemd for health checks
            "BUILDAH_ISOLATION": "chroot", "BUILDAH_LAYERS": "false", "DISABLE_HC_SYSTEMD": "true"}
        subprocess.run(["ip", "netns", "add", self.netns], check=True)
        try:
            subprocess.run(["ip", "-n", self.netns, "link", "set", "lo", "up"], check=True)
            for address in self.addresses:
                subprocess.run(["ip", "-n", self.netns, "address", "add", f"{address}/32", "dev", "lo"], check=True)
        except BaseException:
            self._delete_network()
            raise
        return self

    def __exit__(self, *_):
        try:
            self.run("docker rm --all --force --time 0", check=False)
            self.run("docker rmi --all --force", check=False)
            self.run("docker volume prune --force", check=False)
        finally:
            # what a killed container has left mounted
            for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
                at = line.split()[4]
                if at.startswith(f"{self.workdir}/"):
                    subprocess.run(["umount", "--lazy", at], check=False)
            self._delete_network()
            shutil.rmtree(self.workdir, ignore_errors=True)

    def _delete_network(self):
        subprocess.run(["ip", "netns", "delete", self.netns], check=False)

    def inside(self, *words):
        """The words of a command in the namespace, for subprocess."""
        return ["nsenter", f"--net=/run/netns/{self.netns}", *map(str, words)]

    def run(self, command, check=True, network=True, timeout=120):
        """A shell command; both outputs as one text. `network` False: with the machine's network, to build."""
        words = ["/bin/bash", "-ec", command]
        environment = self.environment if network else {**self.environment, "CONTAINERS_CONF": f"{self.workdir}/build.conf"}
        done = subprocess.run(self.inside(*words) if network else words, env=environment, cwd=self.home, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=timeout)
        assert not check or done.returncode == 0, f"{command}: exit code {done.returncode}\n{done.stdout}"
        return done.stdout

    def code(self, command):
        """Its exit code alone."""
        return subprocess.run(self.inside("/bin/bash", "-ec", command), env=self.environment, cwd=self.home, timeout=120,
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode

    def inspect(self, name):
        return json.loads(self.run(f"docker inspect {name}"))[0]

    def pid(self, name):
        """Of the container's program, on this machine."""
        return self.inspect(name)["State"]["Pid"]

    def log(self, name):
        return self.run(f"docker logs {name}", check=False)
