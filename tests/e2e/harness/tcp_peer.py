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


class _Reader:
    """One thread that reads for all endpoints: a thread each would make a test of a thousand sessions slow."""

    def __init__(self):
        self._epoll = select.epoll()
        self._endpoints = {}
        self.lock = threading.RLock()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            for fd, _events in self._epoll.poll():
                with self.lock:
                    if fd in self._endpoints:
                        self._endpoints[fd].read_once()

    def add(self, endpoint):
        with self.lock:
            fd = endpoint.sock.fileno()
            if fd >= 0 and fd not in self._endpoints and endpoint.ended is None:
                self._endpoints[fd] = endpoint
                self._epoll.register(fd, select.EPOLLIN)

    def remove(self, endpoint):
        with self.lock:
            fd = endpoint.sock.fileno()
            if self._endpoints.get(fd) is endpoint:
                del self._endpoints[fd]
                self._epoll.unregister(fd)


_reader = _Reader()


class Endpoint:
    """
    One end of a TCP connection. What comes is read all the time (unless paused) into `received`; `ended` becomes "fin" or
    "rst" when the other side has closed.
    """

    def __init__(self, sock, name):
        self.sock = sock
        self.name = name
        self.received = bytearray()
        self.ended = None
        self.local = sock.getsockname()[:2]
        self.peer = sock.getpeername()[:2]
        sock.setblocking(False)
        _reader.add(self)

    def __enter__(self):
        return self

    def __exit__(self, exc_type, exc, tb):
        self.close()

    def read_once(self):
        """Called by the reader's thread with its lock."""
        try:
            data = self.sock.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            self.ended = "rst"
        else:
            self.received += data
            if not data:
                self.ended = "fin"
        if self.ended:
            _reader.remove(self)

    def _writable(self, timeout):
        poll = select.poll()
        poll.register(self.sock, select.POLLOUT)
        return bool(poll.poll(timeout * 1000))

    # sending

    def send(self, data, timeout=DEADLINE):
        """Sends everything; fails when the other side does not take it in time."""
        view = memoryview(data)
        while view:
            if not self._writable(timeout):
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
        while sent < len(view) and self._writable(quiet):
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
        _reader.remove(self)
        self.sock.close()

    # receiving

    def pause(self):
        """Stops reading: the receive buffer fills and TCP tells the other side."""
        _reader.remove(self)

    def resume(self):
        _reader.add(self)

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

    def want_ttl(self, ttl):
        """GTSM (RFC 5082): whatever comes with a smaller TTL is dropped, from the SYN on. IPv4 only."""
        ip_minttl = 21
        self._sock.setsockopt(socket.IPPROTO_IP, ip_minttl, ttl)

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
