# SPDX-License-Identifier: Apache-2.0
"""A service manager's end of sd_notify."""

import socket
import threading

from .wait import DEADLINE, wait_for


class NotifySocket:
    """Collects the datagrams in `messages`; `path` goes into NOTIFY_SOCKET."""

    def __init__(self, workdir):
        self.path = str(workdir / "notify")
        self.messages = []

    def __enter__(self):
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(self.path)
        self._sock.settimeout(0.2)
        self._open = True
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, exc_type, exc, tb):
        self._open = False
        self._thread.join(5)
        self._sock.close()

    def _read(self):
        while self._open:
            try:
                self.messages.append(self._sock.recv(4096).decode())
            except TimeoutError:
                continue

    def wait(self, text, number=1, timeout=DEADLINE):
        """Waits until this many messages begin with `text`; returns the last of them."""

        def found():
            messages = [m for m in self.messages if m.startswith(text)]
            return messages[number - 1:number]

        return wait_for(found, f"{number} times {text!r} for the service manager: {self.messages}", timeout)[0]
