# SPDX-License-Identifier: Apache-2.0
"""Names that only one network namespace knows: a hosts file or a DNS server of its own."""

import shutil
import socket
import struct
import threading
from pathlib import Path

from .net import in_namespace


class PrivateEtc:
    """Files that programs started in the namespace see in /etc instead of the machine's (`ip netns exec` mounts them)."""

    def __init__(self, netns, hosts="127.0.0.1 localhost\n", nameservers=("127.0.0.1",), prefer_ipv4=False):
        self.folder = Path("/etc/netns") / netns
        self.files = {"hosts": hosts, "nsswitch.conf": "hosts: files dns\n",
                      "resolv.conf": "".join(f"nameserver {n}\n" for n in nameservers)}
        if prefer_ipv4:
            self.files["gai.conf"] = "precedence ::ffff:0:0/96 100\nprecedence ::/0 40\n"

    def __enter__(self):
        self.made_parent = not self.folder.parent.exists()
        self.folder.mkdir(parents=True)
        for name, text in self.files.items():
            (self.folder / name).write_text(text)
        return self

    def __exit__(self, exc_type, exc, tb):
        shutil.rmtree(self.folder)
        if self.made_parent:
            self.folder.parent.rmdir()


class Dns:
    """
    A DNS server on 127.0.0.1:53 of the namespace. `zone`: name to list of addresses; a name that is not there does not
    exist. While `silent` is set, questions are read and not answered. `asked` counts the questions.
    """

    def __init__(self, netns, zone=None):
        self.netns, self.zone, self.silent, self.asked = netns, dict(zone or {}), False, 0

    def __enter__(self):
        def bound():
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind(("127.0.0.1", 53))
            return sock

        self._sock = in_namespace(self.netns, bound)
        self._sock.settimeout(0.2)
        self._open = True
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, exc_type, exc, tb):
        self._open = False
        self._thread.join(5)
        self._sock.close()

    def _serve(self):
        while self._open:
            try:
                question, sender = self._sock.recvfrom(4096)
            except TimeoutError:
                continue
            self.asked += 1
            if not self.silent:
                self._sock.sendto(self._answer(question), sender)

    def _answer(self, question):
        labels, at = [], 12
        while question[at]:
            labels.append(question[at + 1:at + 1 + question[at]].decode().lower())
            at += 1 + question[at]
        kind = struct.unpack_from("!H", question, at + 1)[0]
        addresses = self.zone.get(".".join(labels))
        family = {1: socket.AF_INET, 28: socket.AF_INET6}.get(kind)
        records = b""
        count = 0
        for address in addresses or ():
            if family == (socket.AF_INET6 if ":" in address else socket.AF_INET):
                raw = socket.inet_pton(family, address)
                records += struct.pack("!HHHIH", 0xC00C, kind, 1, 1, len(raw)) + raw
                count += 1
        flags = 0x8580 | (0 if addresses is not None else 3)
        return question[:2] + struct.pack("!HHHHH", flags, 1, count, 0, 0) + question[12:at + 5] + records
