# SPDX-License-Identifier: Apache-2.0
"""The program kbgp."""

import functools
import http.client
import json
import socket

from . import paths
from .net import in_namespace
from .ports import free_port
from .proc import Program, clean_env, run
from .tcp_peer import connect
from .wait import DEADLINE, wait_for

EMAIL, TOKEN = "agent@example.com", "0123456789abcdef-secret-token"


@functools.cache
def help_text():
    return run([paths.kbgp(), "--help"]).stdout


class Agent(Program):
    """
    kbgp with one listener on a free port of 127.0.0.1 unless `listen` says otherwise. The token goes through the
    environment. Context: until its listeners are up; whether the target can be reached is another question
    (`wait_control`).
    """

    def __init__(self, workdir, target, *, listen=None, ca_file=None, insecure=None, email=EMAIL, token=TOKEN, site=None,
                 multi=None, extra=(), env=None, netns=None, log_level=None):
        self.listen = listen or [f"127.0.0.1:{free_port()}"]
        self.ports = [int(item.rsplit(":", 1)[1]) for item in self.listen]
        self.port = self.ports[0]
        self.metrics_port = free_port()
        argv = [paths.kbgp(), "--target", target, "--listen", ",".join(self.listen),
                "--metrics-port", str(self.metrics_port)]
        if email is not None:
            argv += ["--email", email]
        if ca_file is not None:
            argv += ["--ca-file", str(ca_file)]
        if insecure if insecure is not None else ca_file is None:
            argv += ["--insecure"]
        if site is not None:
            argv += ["--site-id", str(site)]
        if multi is not None:
            argv += ["--multi", str(multi)]
        if log_level is not None:
            argv += ["--log-level", log_level]
        if "--disable-log-export" in help_text():
            argv += ["--disable-log-export"]
        if "--metrics-export-url" in help_text():  # nothing may leave the machine; nobody listens on the discard port
            argv += ["--metrics-export-url", "http://127.0.0.1:9/"]
        super().__init__("kbgp", argv + list(extra), workdir, netns=netns,
                         env=clean_env(KENTIK_API_TOKEN=token, **(env or {})))

    def wait_ready(self):
        self.wait_listening(*self.ports)

    # the router's side

    def connect(self, source="127.0.0.2", host="127.0.0.1", port=None, source_port=0):
        """A device's connection from `source`."""
        return connect(port or self.port, host, source, source_port, name=f"device {source}")

    # the operator's side

    def get(self, path):
        """(HTTP status, body text) of the status server."""

        def socket_there():
            return socket.create_connection(("127.0.0.1", self.metrics_port), timeout=DEADLINE)

        connection = http.client.HTTPConnection("127.0.0.1", self.metrics_port, timeout=DEADLINE)
        try:
            connection.sock = in_namespace(self.netns, socket_there)
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def get_json(self, path):
        status, text = self.get(path)
        try:
            return status, json.loads(text)
        except ValueError:
            raise AssertionError(f"GET {path}: {status}, not JSON: {text!r}") from None

    def health(self):
        """(HTTP status, the word) of /hc."""
        status, body = self.get_json("/hc")
        return status, body["status"]

    def status(self):
        code, body = self.get_json("/admin/status")
        assert code == 200, body
        return body

    def sessions(self):
        """The list of /admin/sessions, after checking that NumSessions says the same."""
        code, body = self.get_json("/admin/sessions")
        assert code == 200, body
        assert body["NumSessions"] == len(body["Sessions"] or []), body
        return body["Sessions"] or []

    def connected_sessions(self):
        return [s for s in self.sessions() if s["Connected"]]

    def wait_sessions(self, number, timeout=DEADLINE):
        """Waits until this many sessions have their Data stream up, and no other session is there."""
        wait_for(lambda: len(self.connected_sessions()) == number == len(self.sessions()),
                 f"{number} connected sessions in /admin/sessions", timeout)

    def wait_control(self, timeout=DEADLINE):
        """Waits until the Control stream is up and its first heartbeat was answered."""

        def up():
            self.assert_running()
            status = self.status()
            return status["ControlStream"]["Connected"] and status["Heartbeats"]["LastRx"]

        wait_for(up, "Control stream of the agent", timeout)

    def secrets_shown(self):
        """Whether the token stands anywhere in what the agent has written."""
        return self.env.get("KENTIK_API_TOKEN", TOKEN) in self.output()
