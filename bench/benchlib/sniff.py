"""Which cipher a chain negotiates: read from the ServerHello on the loopback device, which is not encrypted. Needs root."""

import ctypes
import select
import socket
import struct
import threading

NAMES = {0x1301: "TLS_AES_128_GCM_SHA256", 0x1302: "TLS_AES_256_GCM_SHA384", 0x1303: "TLS_CHACHA20_POLY1305_SHA256"}


SO_ATTACH_FILTER = 26
ETH_P_ALL = 3


def _from_port(port):
    """A classic BPF program: IPv4, TCP, this source port. Other traffic on the device must not crowd ours out."""
    load_half, load_byte, load_half_at_x, header_length, equal, give = 0x28, 0x30, 0x48, 0xB1, 0x15, 0x06
    steps = ((load_half, 0, 0, 12), (equal, 0, 6, 0x800), (load_byte, 0, 0, 23), (equal, 0, 4, socket.IPPROTO_TCP),
             (header_length, 0, 0, 14), (load_half_at_x, 0, 0, 14), (equal, 0, 1, port), (give, 0, 0, 2048), (give, 0, 0, 0))
    return b"".join(struct.pack("HBBI", *step) for step in steps), len(steps)


def server_hello(frame, port):
    """The cipher suite's name when this Ethernet frame is a TLS server's first one from `port`; else None."""
    if len(frame) < 54 or frame[12:14] != b"\x08\x00" or frame[23] != socket.IPPROTO_TCP:
        return None
    tcp = 14 + (frame[14] & 15) * 4
    if len(frame) < tcp + 20 or struct.unpack_from("!H", frame, tcp)[0] != port:
        return None
    p = frame[tcp + (frame[tcp + 12] >> 4) * 4:]
    # Record header, handshake header, version, random, session id, suite.
    if len(p) < 44 or p[0] != 22 or p[5] != 2 or len(p) < 46 + p[43]:
        return None
    suite = struct.unpack_from("!H", p, 44 + p[43])[0]
    return NAMES.get(suite, f"{suite:#06x}")


class Sniffer:
    """While it is open, takes the suites that servers on `port` choose. `suites` is None where we may not look."""

    def __init__(self, port):
        self.port, self.suites = port, None
        self.stop, self.thread, self.socket = threading.Event(), None, None

    def __enter__(self):
        try:
            # No protocol yet: nothing is taken before the filter is there.
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            code, steps = _from_port(self.port)
            program = ctypes.create_string_buffer(code, len(code))
            self.socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", steps, ctypes.addressof(program)))
            self.socket.bind(("lo", ETH_P_ALL))
        except PermissionError:
            return self
        self.suites = set()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        return self

    def _run(self):
        # What has come before the end is still looked at.
        while (ready := select.select([self.socket], [], [], 0.1)[0]) or not self.stop.is_set():
            if ready:
                suite = server_hello(self.socket.recv(2048), self.port)
                if suite:
                    self.suites.add(suite)

    def __exit__(self, *_):
        self.stop.set()
        if self.thread:
            self.thread.join()
        if self.socket:
            self.socket.close()
