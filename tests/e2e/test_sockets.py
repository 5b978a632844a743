# SPDX-License-Identifier: Apache-2.0
"""What BGP packets of the agent look like on the wire: TTL 255 (GTSM, RFC 5082), DSCP CS6, TCP keepalive."""

import socket
import struct
import threading

import pytest

from harness.agent import Agent
from harness.grpc_target import GrpcTarget
from harness.net import Chain, in_namespace
from harness.tcp_peer import connect
from harness.wait import wait_for
from test_flags import _started

PORT = 1790
ETH_P_ALL = 3


class Sniffer:
    """All TCP packets from the agent's port that reach the router: (IP version, TTL, traffic class, flags, length)."""

    def __init__(self, netns, interface):
        self.packets = []
        self._sock = in_namespace(netns, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL)))
        in_namespace(netns, lambda: self._sock.bind((interface, ETH_P_ALL)))
        self._sock.settimeout(0.2)
        self._open = True
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def close(self):
        self._open = False
        self._thread.join(5)
        self._sock.close()

    def _read(self):
        while self._open:
            try:
                packet = self._sock.recv(65536)
            except TimeoutError:
                continue
            if packet[0] >> 4 == 4 and packet[9] == 6:
                header, ttl, tclass = (packet[0] & 15) * 4, packet[8], packet[1]
                total = struct.unpack("!H", packet[2:4])[0]
            elif packet[0] >> 4 == 6 and packet[6] == 6:
                header, ttl, tclass = 40, packet[7], struct.unpack("!H", packet[:2])[0] >> 4 & 255
                total = 40 + struct.unpack("!H", packet[4:6])[0]
            else:
                continue
            tcp = packet[header:]
            if struct.unpack("!H", tcp[:2])[0] == PORT:
                self.packets.append((packet[0] >> 4, ttl, tclass, tcp[13], total - header - (tcp[12] >> 4) * 4))


@pytest.mark.parametrize("version", [4, 6])
def test_ttl_and_dscp(workdir, namespaces, version):
    """Of the SYN-ACK, of data, of the FIN: all that a router with GTSM looks at."""
    with Chain() as chain:
        address = chain.agent4 if version == 4 else chain.agent6
        listen = f"{address}:{PORT}" if version == 4 else f"[{address}]:{PORT}"
        sniffer = Sniffer(chain.router, "to-agent")
        with in_namespace(chain.agent, lambda: _started(GrpcTarget(host=chain.uplink4))) as server, \
                Agent(workdir, server.address, listen=[listen], netns=chain.agent):
            device = in_namespace(chain.router, lambda: connect(PORT, address))
            call = server.wait_data()
            device.send(b"up")
            call.wait_data(2)
            call.send(b"down" * 1000)
            device.wait_received(4000)
            device.half_close()
            device.wait_ended()
            device.close()
        sniffer.close()
        seen = [p for p in sniffer.packets if p[0] == version]
        assert any(flags & 0x12 == 0x12 for _, _, _, flags, _ in seen), "no SYN-ACK"
        assert sum(length for *_, length in seen) == 4000 and any(flags & 1 for _, _, _, flags, _ in seen), "data and FIN"
        assert {ttl for _, ttl, *_ in seen} == {255}
        assert {tclass & 0xfc for _, _, tclass, *_ in seen} == {0xc0}, "CS6"


def test_a_router_with_gtsm(workdir, namespaces):
    """A router that drops whatever has a smaller TTL (IP_MINTTL), from its SYN on."""
    ip_minttl = 21
    with Chain() as chain:
        with in_namespace(chain.agent, lambda: _started(GrpcTarget(host=chain.uplink4))) as server, \
                Agent(workdir, server.address, listen=[f"{chain.agent4}:{PORT}"], netns=chain.agent):
            def dial():
                sock = socket.socket()
                sock.setsockopt(socket.IPPROTO_IP, ip_minttl, 255)
                sock.settimeout(20)
                sock.connect((chain.agent4, PORT))
                return sock

            with in_namespace(chain.router, dial) as sock:
                server.wait_data().send(b"heard")
                assert sock.recv(5) == b"heard"


def test_keepalive(workdir):
    """A router that vanished without a word is found: the kernel's keepalive timer runs on its connection."""
    with GrpcTarget() as server, Agent(workdir, server.address) as agent, agent.connect() as device:
        server.wait_data()

        def timers():
            with open(f"/proc/{agent.pid}/net/tcp") as file:
                for line in file.read().splitlines()[1:]:
                    fields = line.split()
                    if (int(fields[1].split(":")[1], 16), int(fields[2].split(":")[1], 16)) == (agent.port, device.local[1]):
                        return fields[5].split(":")
            return None

        kind, ticks = wait_for(lambda: (t := timers()) and t[0] == "02" and t, "a keepalive timer")
        assert int(ticks, 16) <= 6000, "within a minute"
