# SPDX-License-Identifier: Apache-2.0
"""Servers that are not what an agent hopes for: HTML over HTTP/2 and HTTP/1.1, garbage, silence, a door slammed shut."""

import contextlib
import socket
import ssl
import struct
import threading

from .ports import free_port

HTML = b"<html><body><h1>503 Service Unavailable</h1></body></html>"


def frame(kind, flags, stream, payload=b""):
    return struct.pack("!I", len(payload))[1:] + bytes([kind, flags]) + struct.pack("!I", stream) + payload


def literal(index, value):
    """An HPACK header field with an indexed name, not to be indexed itself (RFC 7541 section 6.2.2)."""
    prefix = bytes([index]) if index < 15 else bytes([15, index - 15])
    return prefix + bytes([len(value)]) + value


def close_at_once(sock):
    pass


def garbage(sock):
    sock.sendall(bytes(range(256)) * 40)
    _drain(sock)


def http1_html(sock):
    sock.recv(65536)
    sock.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/html\r\nContent-Length: %d\r\n"
                 b"Connection: close\r\n\r\n%s" % (len(HTML), HTML))


def http2_html(sock):
    """A load balancer without a server behind it: each stream gets 503 and a page."""
    _http2_page(sock, literal(8, b"503"))


def http2_ok_html(sock):
    """HTTP status 200, but a page: what a captive portal says."""
    _http2_page(sock, b"\x88")


def _http2_page(sock, status):
    sock.sendall(frame(4, 0, 0))
    data = b""
    while piece := sock.recv(65536):
        data += piece
        if data.startswith(b"PRI "):
            if len(data) < 24:
                continue
            data = data[24:]
        while len(data) >= 9 and len(data) >= 9 + int.from_bytes(data[:3], "big"):
            length, kind, flags = int.from_bytes(data[:3], "big"), data[3], data[4]
            stream = int.from_bytes(data[5:9], "big")
            body, data = data[9:9 + length], data[9 + length:]
            if kind == 4 and not flags & 1:
                sock.sendall(frame(4, 1, 0))
            elif kind == 6 and not flags & 1:
                sock.sendall(frame(6, 1, 0, body))
            elif kind == 1:
                sock.sendall(frame(1, 4, stream, status + literal(31, b"text/html")) + frame(0, 1, stream, HTML))


def silence(sock):
    _drain(sock)


def _drain(sock):
    while sock.recv(65536):
        pass


class OddServer:
    """A TCP or TLS server whose `behaviour(socket)` is called for each connection; `accepted` counts them."""

    def __init__(self, behaviour, tls=None, alpn=("h2",), port=None):
        self.behaviour, self.port = behaviour, port or free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.accepted = 0
        self._context = None
        if tls:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(*tls)
            if alpn:
                self._context.set_alpn_protocols(list(alpn))

    def __enter__(self):
        self._sock = socket.create_server(("127.0.0.1", self.port))
        self._sock.settimeout(0.2)
        self._open, self._connections = True, []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, exc_type, exc, tb):
        self._open = False
        self._thread.join(5)  # a socket that somebody waits on is not closed, and the port not free
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
            self.accepted += 1
            self._connections.append(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        try:
            if self._context:
                sock = self._context.wrap_socket(sock, server_side=True)
                self._connections.append(sock)
            self.behaviour(sock)
        except (OSError, ssl.SSLError, ValueError):
            pass
        with contextlib.suppress(OSError):
            sock.close()
