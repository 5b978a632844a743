# SPDX-License-Identifier: Apache-2.0
"""BGP messages by hand (RFC 4271, 4760, 6793, 8203): enough for a scripted router, and to say exactly what went over the wire."""

import ipaddress
import socket
import struct

from .wait import wait_for

OPEN, UPDATE, NOTIFICATION, KEEPALIVE, REFRESH = 1, 2, 3, 4, 5
CEASE, ADMIN_SHUTDOWN = 6, 2


def message(kind, body=b""):
    return b"\xff" * 16 + struct.pack("!HB", 19 + len(body), kind) + body


def capability(code, value=b""):
    return struct.pack("!BB", code, len(value)) + value


def open_message(asn, router_id, hold_time=90, families=((1, 1), (2, 1)), extra=()):
    capabilities = b"".join(capability(1, struct.pack("!HBB", afi, 0, safi)) for afi, safi in families)
    capabilities += capability(2) + capability(65, struct.pack("!I", asn)) + b"".join(extra)
    parameters = struct.pack("!BB", 2, len(capabilities)) + capabilities
    two_octets = asn if asn < 65536 else 23456
    return message(OPEN, struct.pack("!BHH4sB", 4, two_octets, hold_time, socket.inet_aton(router_id),
                                     len(parameters)) + parameters)


def keepalive():
    return message(KEEPALIVE)


def notification(code, subcode, data=b""):
    return message(NOTIFICATION, bytes([code, subcode]) + data)


def shutdown_notification(text):
    encoded = text.encode()
    return notification(CEASE, ADMIN_SHUTDOWN, bytes([len(encoded)]) + encoded)


def nlri(prefixes):
    out = bytearray()
    for prefix in prefixes:
        network = ipaddress.ip_network(prefix)
        out.append(network.prefixlen)
        out += network.network_address.packed[:(network.prefixlen + 7) // 8]
    return bytes(out)


def attribute(code, value, flags=0x40):
    if len(value) > 255:
        return struct.pack("!BBH", flags | 0x10, code, len(value)) + value
    return struct.pack("!BBB", flags, code, len(value)) + value


def as_path(asns):
    return struct.pack("!BB", 2, len(asns)) + b"".join(struct.pack("!I", a) for a in asns) if asns else b""


def update(prefixes=(), withdrawn=(), next_hop="192.0.2.1", path=(), local_pref=100):
    """An UPDATE with IPv4 routes; `path` as 4-octet AS numbers."""
    gone = nlri(withdrawn)
    attributes = b""
    if prefixes:
        attributes = attribute(1, b"\0") + attribute(2, as_path(path)) + attribute(3, socket.inet_aton(next_hop))
        if local_pref is not None:
            attributes += attribute(5, struct.pack("!I", local_pref))
    return message(UPDATE, struct.pack("!H", len(gone)) + gone + struct.pack("!H", len(attributes)) + attributes
                   + nlri(prefixes))


def update6(prefixes=(), withdrawn=(), next_hop="2001:db8::1", path=(), local_pref=100):
    """An UPDATE with IPv6 routes in MP_REACH_NLRI, MP_UNREACH_NLRI."""
    attributes = b""
    if withdrawn:
        attributes += attribute(15, struct.pack("!HB", 2, 1) + nlri(withdrawn), 0x80)
    if prefixes:
        hop = socket.inet_pton(socket.AF_INET6, next_hop)
        attributes += attribute(1, b"\0") + attribute(2, as_path(path))
        if local_pref is not None:
            attributes += attribute(5, struct.pack("!I", local_pref))
        attributes += attribute(14, struct.pack("!HBB", 2, 1, len(hop)) + hop + b"\0" + nlri(prefixes), 0x80)
    return message(UPDATE, struct.pack("!HH", 0, len(attributes)) + attributes)


def parse(data):
    """([(type, body)…], rest): the whole messages at the beginning of `data`."""
    messages, at = [], 0
    while len(data) - at >= 19:
        assert data[at:at + 16] == b"\xff" * 16, f"no BGP marker at byte {at}"
        length, kind = struct.unpack_from("!HB", data, at + 16)
        if len(data) - at < length:
            break
        messages.append((kind, bytes(data[at + 19:at + length])))
        at += length
    return messages, bytes(data[at:])


class Speaker:
    """A BGP session over a tcp_peer.Endpoint, step by step, as the test says."""

    def __init__(self, endpoint, asn=65001, router_id="10.0.0.1"):
        self.endpoint, self.asn, self.router_id = endpoint, asn, router_id

    def messages(self):
        return parse(bytes(self.endpoint.received))[0]

    def of_type(self, kind):
        return [body for k, body in self.messages() if k == kind]

    def wait_message(self, kind):
        """The body of the first message of this type."""
        found = wait_for(lambda: self.of_type(kind) or self.endpoint.ended, f"BGP message of type {kind}")
        assert self.of_type(kind), f"connection ended ({found}) before a message of type {kind}"
        return self.of_type(kind)[0]

    def establish(self, **options):
        """OPEN and KEEPALIVE both ways; returns the body of the peer's OPEN."""
        self.endpoint.send(open_message(self.asn, self.router_id, **options))
        theirs = self.wait_message(OPEN)
        self.endpoint.send(keepalive())
        self.wait_message(KEEPALIVE)
        return theirs
