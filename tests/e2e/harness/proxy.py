# SPDX-License-Identifier: Apache-2.0
"""Web proxies: tinyproxy, HAProxy as the TLS front of one, microsocks and dante, and one that says what the test wants."""

import contextlib
import os
import re
import socket
import threading
from pathlib import Path

import pytest

from . import paths
from .ports import free_port
from .proc import Program
from .wait import DEADLINE, wait_for

# Letters, digits, dots and dashes are all that tinyproxy's configuration takes.
USER, PASSWORD = "op.corp", "p-w.S3cret"
# The same as they may be written into a URL.
USERINFO = "op%2Ecorp:p%2dw%2ES3cret"

# The default of NO_PROXY excludes loopback addresses; a list of one's own replaces it.
LOOPBACK_TOO = {"NO_PROXY": "nothing.invalid"}


def need(program):
    path = paths.find(program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path


class Proxy(Program):
    """What the proxies have in common: an address, and a URL with user and password if it wants them."""

    scheme = "http"

    def __init__(self, name, argv, workdir, host, port, user=None, netns=None):
        self.host, self.port, self.user = host, port, user
        super().__init__(name, argv, workdir, netns=netns)

    @property
    def address(self):
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def label(self):
        """As our log lines call it."""
        return f"{self.scheme}://{self.address}"

    @property
    def url(self):
        return f"{self.scheme}://{USERINFO + '@' if self.user else ''}{self.address}"

    def wait_ready(self):
        self.wait_listening(self.port)


class Tinyproxy(Proxy):
    """`deny`: what the destination's name matches is answered with 403 (tinyproxy's filter)."""

    exit_codes = None  # ended by the signal while connections are open

    def __init__(self, workdir, host="127.0.0.1", user=None, deny=None, port=None, netns=None):
        port = port or free_port()
        config = Path(workdir) / f"tinyproxy-{port}.conf"
        config.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"Port {port}", f"Listen {host}", "Timeout 600", "MaxClients 50", "LogLevel Connect"]
        if user:
            lines.append(f"BasicAuth {USER} {PASSWORD}")
        if deny:
            rules = config.with_suffix(".filter")
            rules.write_text(deny + "\n")
            lines += [f'Filter "{rules}"', "FilterDefaultDeny No"]
        config.write_text("\n".join(lines) + "\n")
        super().__init__("tinyproxy", [need("tinyproxy"), "-d", "-c", config], workdir, host, port, user, netns)


class TlsFront(Proxy):
    """HAProxy, which takes the TLS off and hands on to `behind`."""

    scheme = "https"
    exit_codes = None

    def __init__(self, workdir, behind, certificate, host="127.0.0.1", netns=None):
        port = free_port()
        both = Path(workdir) / f"haproxy-{port}.pem"
        both.write_text(Path(certificate[0]).read_text() + Path(certificate[1]).read_text())
        config = Path(workdir) / f"haproxy-{port}.cfg"
        config.write_text(f"global\n maxconn 100\n default-path config\ndefaults\n mode tcp\n timeout connect 5s\n"
                          f" timeout client 600s\n timeout server 600s\n"
                          f"frontend f\n bind {host}:{port} ssl crt {both} alpn h2,http/1.1\n default_backend b\n"
                          f"backend b\n server s {behind.address}\n")
        super().__init__("haproxy", [need("haproxy"), "-db", "-f", config], workdir, host, port, behind.user, netns)


class Microsocks(Proxy):
    scheme = "socks5h"
    exit_codes = None

    def __init__(self, workdir, host="127.0.0.1", user=None, port=None, netns=None):
        port = port or free_port()
        argv = [need("microsocks"), "-i", host, "-p", port] + (["-u", USER, "-P", PASSWORD] if user else [])
        super().__init__("microsocks", argv, workdir, host, port, user, netns)


class Dante(Proxy):
    """A SOCKS server with rules: everything may be asked for except port `denied_port`."""

    scheme = "socks5h"
    exit_codes = None

    def __init__(self, workdir, denied_port, host="127.0.0.1"):
        port = free_port()
        config = Path(workdir) / f"danted-{port}.conf"
        config.write_text(f"logoutput: stderr\ninternal: {host} port = {port}\nexternal: {host}\n"
                          f"clientmethod: none\nsocksmethod: none\nuser.privileged: root\nuser.unprivileged: nobody\n"
                          f"client pass {{ from: 0/0 to: 0/0 }}\n"
                          f"socks block {{ from: 0/0 to: 0/0 port = {denied_port} }}\n"
                          f"socks pass {{ from: 0/0 to: 0/0 }}\n")
        super().__init__("danted", [need("danted"), "-f", config, "-p", Path(workdir) / f"danted-{port}.pid"], workdir,
                         host, port)


class ScriptedProxy:
    """
    An HTTP proxy that answers each CONNECT with `answer` (bytes), and when that begins with a 2xx status line goes on as
    a tunnel. `requests` holds what it was asked, head by head.
    """

    def __init__(self, answer, user=None):
        self.answer, self.user, self.port = answer, user, free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.label = f"http://{self.address}"
        self.url = f"http://{USERINFO + '@' if user else ''}{self.address}"
        self.requests = []

    def __enter__(self):
        self._sock = socket.create_server(("127.0.0.1", self.port))
        self._sock.settimeout(0.2)
        self._open, self._connections = True, []
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, exc_type, exc, tb):
        self._open = False
        self._sock.close()
        for c in self._connections:
            with contextlib.suppress(OSError):
                c.shutdown(socket.SHUT_RDWR)
            c.close()

    def _accept(self):
        while self._open:
            try:
                sock, _ = self._sock.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            self._connections.append(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        with contextlib.suppress(OSError, ValueError):
            head = b""
            while b"\r\n\r\n" not in head:
                piece = sock.recv(1)
                if not piece:
                    return
                head += piece
            self.requests.append(head.decode("latin-1"))
            if not self.answer.split()[1].startswith(b"2"):
                sock.sendall(self.answer)
                sock.shutdown(socket.SHUT_WR)
                return
            host, port = head.split()[1].decode().rsplit(":", 1)
            far = socket.create_connection((host.strip("[]"), int(port)), timeout=DEADLINE)
            far.settimeout(None)
            self._connections.append(far)
            # The target's first bytes in one piece with the answer, where it speaks first.
            far.settimeout(0.3)
            first = b""
            with contextlib.suppress(TimeoutError):
                first = far.recv(65536)
            far.settimeout(None)
            sock.sendall(self.answer + first)
            threading.Thread(target=self._pump, args=(sock, far), daemon=True).start()
            self._pump(far, sock)

    @staticmethod
    def _pump(source, sink):
        with contextlib.suppress(OSError):
            while True:
                data = source.recv(65536)
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                sink.sendall(data)


def peer_ports(program):
    """The ports at the other end of the program's own established TCP connections."""
    inodes = set()
    for fd in Path(f"/proc/{program.pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            link = os.readlink(fd)
            if link.startswith("socket:["):
                inodes.add(link[8:-1])
    found = set()
    for family in ("tcp", "tcp6"):
        for line in Path(f"/proc/{program.pid}/net/{family}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "01" and fields[9] in inodes:
                found.add(int(fields[2].rsplit(":", 1)[1], 16))
    return found


def wait_failure(agent, *patterns, timeout=DEADLINE, stage="proxy"):
    """The warning about the connection that failed, which must match all patterns; no password stands anywhere."""
    line = agent.wait_for_log("no connection to the target", level="warn", timeout=timeout, stage=stage)
    for pattern in patterns:
        assert re.search(pattern, line["error"]), (pattern, line["error"])
    assert "S3cret" not in agent.output() and USERINFO not in agent.output() and PASSWORD not in agent.output()
    wait_for(lambda: agent.health()[0] == 503, "503 of /hc")
    return line["error"]
