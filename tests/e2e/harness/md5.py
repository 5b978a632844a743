# SPDX-License-Identifier: Apache-2.0
"""TCP-MD5 (RFC 2385): keys on Python's sockets, what the kernel counts, and SYNs made by hand."""

import ipaddress
import os
import socket
import struct
from pathlib import Path

from .net import in_namespace
from .tcp_peer import Backend, Endpoint
from .wait import DEADLINE

TCP_MD5SIG = 14


def sign(sock, peer, key):
    """From now on segments to and from `peer` carry the key's digest; None: they carry none any more."""
    key = (key or "").encode()
    if ":" in peer:
        address = struct.pack("=HHI16sI", socket.AF_INET6, 0, 0, socket.inet_pton(socket.AF_INET6, peer), 0)
    else:
        address = struct.pack("=HH4s", socket.AF_INET, 0, socket.inet_aton(peer))
    sock.setsockopt(socket.IPPROTO_TCP, TCP_MD5SIG, struct.pack("=128sBBHi80s", address, 0, 0, len(key), 0, key))


def connect(host, port, key=None, *, source=None, netns=None, timeout=DEADLINE):
    """A router's connection as an Endpoint, signed if there is a key. TimeoutError when nobody answers its SYNs."""

    def go():
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.settimeout(timeout)
            if source:
                sock.bind((source, 0))
            if key is not None:
                sign(sock, host, key)
            sock.connect((host, port))
        except BaseException:
            sock.close()
            raise
        return Endpoint(sock, "router")

    return in_namespace(netns, go)


class SignedBackend(Backend):
    """A BGP daemon's place that answers only those of `peer` who sign with the key."""

    def __init__(self, peer, key, host="127.0.0.1"):
        super().__init__(host)
        self._peer, self._key = peer, key

    def __enter__(self):
        super().__enter__()
        self.set_key(self._key)
        return self

    def set_key(self, key):
        sign(self._sock, self._peer, key)


def counters(netns=None):
    """The kernel's TCP counters of a namespace: TCPMD5NotFound, TCPMD5Unexpected, TCPMD5Failure, TCPSynRetrans, …"""

    def read():
        found = {}
        # of the thread, not of the process: only the thread has entered the namespace
        lines = Path("/proc/thread-self/net/netstat").read_text().splitlines()
        for names, values in zip(lines[::2], lines[1::2]):
            found.update(zip(names.split()[1:], map(int, values.split()[1:])))
        return found

    return in_namespace(netns, read)


def _checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def signed_syn(source, destination, port, source_port=40000):
    """An IPv4 packet: a SYN with the MD5 option, whose digest is noise."""
    options = b"\x02\x04\x05\xb4" + b"\x13\x12" + os.urandom(16) + b"\x01\x00"
    src, dst = ipaddress.IPv4Address(source).packed, ipaddress.IPv4Address(destination).packed

    def tcp(checksum):
        offset = (20 + len(options)) // 4
        return struct.pack("!HHIIBBHHH", source_port, port, 1, 0, offset << 4, 2, 64240, checksum, 0) + options

    pseudo = src + dst + struct.pack("!BBH", 0, 6, len(tcp(0)))
    segment = tcp(_checksum(pseudo + tcp(0)))
    return struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(segment), 0, 0, 64, 6, 0, src, dst) + segment


def send_raw(packets, destination, netns):
    """Sends IPv4 packets, whose source addresses may be anybody's, out of a namespace."""

    def go():
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
            for packet in packets:
                sock.sendto(packet, (destination, 0))

    in_namespace(netns, go)
