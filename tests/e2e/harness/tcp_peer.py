# SPDX-License-Identifier: Apache-2.0
"""Scripted TCP ends: a device that connects to the agent, and a backend that the target connects to."""

import queue
import select
import socket
import struct
import threading

from .pattern import Pattern
from .ports import free_port
from .wait import DEADLINE, wait_for


class Endpoint:
    """
    One end of a TCP connection. A thread reads all the time (unless paused) into `received`; `ended` becomes "fin" or
    "rst" when the other side has closed.
    """

    def __init__(self, sock, name):
        self.sock = sock
        self.name = name
        self.received = bytearray()
        self.ended = None
        self._reading = threading.Event()
        self._reading.set()
        self._closed = False
        self.local = sock.getsockname()[:2]
        self.peer = sock.getpeername()[:2]
        sock.setblocking(False)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, exc_type, exc, tb):
        self.close()

    def _read(self):
        while not self._closed and self.ended is None:
            if not self._reading.wait(0.2):
                continue
            try:
                if not select.select([self.sock], [], [], 0.2)[0] or not self._reading.is_set():
                    continue
                data = self.sock.recv(1 << 18)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                self.ended = "rst"
                return
            except (OSError, ValueError):  # closed by us
                return
            if data:
                self.received += data
            else:
                self.ended = "fin"

    # sending

    def send(self, data, timeout=DEADLINE):
        """Sends everything; fails when the other side does not take it in time."""
        view = memoryview(data)
        while view:
            if not select.select([], [self.sock], [], timeout)[1]:
                raise AssertionError(f"{self.name}: {len(view)} bytes not taken within {timeout:g} s")
            try:
                view = view[self.sock.send(view):]
            except BlockingIOError:
                pass

    def send_pattern(self, seed, length, piece=1 << 16):
        pattern = Pattern(seed)
        while pattern.offset < length:
            self.send(pattern.take(min(piece, length - pattern.offset)))

    def flood(self, data, quiet=2.0):
        """Sends `data` until nothing has been taken for `quiet` seconds, or all is; returns how much was taken."""
        view, sent = memoryview(data), 0
        while sent < len(view) and select.select([], [self.sock], [], quiet)[1]:
            try:
                sent += self.sock.send(view[sent:sent + (1 << 18)])
            except BlockingIOError:
                pass
        return sent

    def half_close(self):
        """Our FIN; reading goes on."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self):
        """Closes with RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self):
        self._closed = True
        self._reading.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(5)
        self.sock.close()

    # receiving

    def pause(self):
        """Stops reading: the receive buffer fills and TCP tells the other side."""
        self._reading.clear()

    def resume(self):
        self._reading.set()

    def wait_received(self, length, timeout=DEADLINE):
        wait_for(lambda: len(self.received) >= length or self.ended, f"{self.name}: {length} bytes, has "
                 f"{len(self.received)} now", timeout)
        assert len(self.received) >= length, f"{self.name}: {self.ended} after {len(self.received)} of {length} bytes"
        return bytes(self.received)

    def wait_ended(self, timeout=DEADLINE):
        """Waits for the other side's end: "fin" or "rst"."""
        return wait_for(lambda: self.ended, f"{self.name}: end of the connection", timeout)


def connect(port, host="127.0.0.1", source=None, source_port=0, timeout=DEADLINE, name="device"):
    """A device's connection. Any 127.x.y.z may be the source: thousands of devices need no configuration."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        if source is not None or source_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((source or "", source_port))
        sock.connect((host, port))
    except BaseException:
        sock.close()
        raise
    return Endpoint(sock, name)


class Backend:
    """A TCP server: `accept()` hands over the connections as they come."""

    def __init__(self, host="127.0.0.1", port=None):
        self.host, self.port = host, port or free_port()
        self._connections = queue.Queue()
        self._all = []

    def __enter__(self):
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self._sock = socket.socket(family, socket.SOCK_STREAM)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._sock.bind((self.host, self.port))
        self._sock.listen(1024)
        self._sock.settimeout(0.2)
        self._open = True
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, exc_type, exc, tb):
        self._open = False
        self._thread.join(5)
        self._sock.close()
        for endpoint in self._all:
            endpoint.close()

    def _accept(self):
        while self._open:
            try:
                sock, _ = self._sock.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            try:
                endpoint = Endpoint(sock, "backend")
            except OSError:  # gone again already
                sock.close()
                continue
            self._all.append(endpoint)
            self._connections.put(endpoint)

    def accept(self, timeout=DEADLINE):
        try:
            return self._connections.get(timeout=timeout)
        except queue.Empty:
            raise AssertionError(f"no connection to the backend within {timeout:g} s") from None

    def count(self):
        return len(self._all)

    @property
    def connections(self):
        return list(self._all)

    @property
    def url(self):
        return f"tcp://{self.host}:{self.port}" if ":" not in self.host else f"tcp://[{self.host}]:{self.port}"
