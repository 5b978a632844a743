"""OpenSSH: all sessions are channels of one ssh connection (`ssh -L`)."""

import contextlib
import getpass
import os
from pathlib import Path

from .build import run
from .contestant import SSH_CIPHER, Contestant


class Ssh(Contestant):
    name, title = "ssh", "ssh -L"

    def __init__(self, place):
        super().__init__(place)
        self.made = None

    def start_target(self):
        for key in ("host", "user"):
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / key])
        # sshd insists on a folder that a boot makes. Where nothing booted it is ours for the while.
        if os.geteuid() == 0 and not Path("/run/sshd").exists():
            os.mkdir("/run/sshd", 0o755)
            self.made = Path("/run/sshd")
        child = self.run_target("/usr/sbin/sshd", "-D", "-e", "-f", self.write("sshd.conf", f"""
ListenAddress {self.place.target_ip}:{self.target_port}
HostKey {self.folder}/host
AuthorizedKeysFile {self.folder}/user.pub
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
PidFile none
LogLevel ERROR
AllowTcpForwarding local
Ciphers {SSH_CIPHER}
"""))
        self.wait_listening(child, self.target_port)
        return child

    def start_agent(self):
        child = self.run_agent(
            "ssh", "-F", "none", "-N", "-T", "-c", SSH_CIPHER, "-i", self.folder / "user", "-p", self.target_port,
            "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
            "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes", "-o", "LogLevel=ERROR",
            "-L", f"127.0.0.1:{self.router_port}:127.0.0.1:{self.backend_port}",
            f"{getpass.getuser()}@{self.place.target_ip}")
        self.wait_listening(child, self.router_port)
        return child

    def end(self):
        super().end()
        if self.made:
            with contextlib.suppress(OSError):
                self.made.rmdir()
            self.made = None

    @classmethod
    def programs(cls, place):
        return ["/usr/bin/ssh"]
