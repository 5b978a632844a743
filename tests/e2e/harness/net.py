# SPDX-License-Identifier: Apache-2.0
"""Network namespaces router, agent and target in a row: the router has no route to the target, as in a private network."""

import contextlib
import ctypes
import itertools
import os
import threading

from .proc import run

_count = itertools.count(1)
_CLONE_NEWNET = 0x40000000


def available():
    """Whether namespaces may be made here (root, and the kernel has them)."""
    if os.geteuid() != 0:
        return False
    name = f"kb{os.getpid()}probe"
    with contextlib.suppress(AssertionError, FileNotFoundError):
        run(["ip", "netns", "add", name], check=True)
        run(["ip", "netns", "del", name])
        return True
    return False


def in_namespace(name, function):
    """
    Calls `function()` in a thread that has entered the namespace and returns its result. A socket made there stays
    there, so it may be handed back.
    """
    if name is None:
        return function()
    result, failure = [], []

    def body():
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            with open(f"/run/netns/{name}") as file:
                if libc.setns(file.fileno(), _CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), f"setns {name}")
            result.append(function())
        except BaseException as e:  # handed to the caller
            failure.append(e)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


class Chain:
    """
    Three namespaces and two links, deleted at the end even when making them failed half-way.

        router .1 -- 10.101.1.0/24, fd00:101:1::/64 -- .2 agent .2 -- 10.101.2.0/24, fd00:101:2::/64 -- .1 target
    """

    router4, agent4 = "10.101.1.1", "10.101.1.2"
    router6, agent6 = "fd00:101:1::1", "fd00:101:1::2"
    target4, uplink4 = "10.101.2.1", "10.101.2.2"
    target6, uplink6 = "fd00:101:2::1", "fd00:101:2::2"

    def __init__(self):
        stem = f"kb{os.getpid()}n{next(_count)}"
        self.router, self.agent, self.target = f"{stem}r", f"{stem}a", f"{stem}t"

    def __enter__(self):
        try:
            for name in (self.router, self.agent, self.target):
                run(["ip", "netns", "add", name], check=True)
                run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
            self._link(self.router, "to-agent", [self.router4, self.router6],
                       self.agent, "to-router", [self.agent4, self.agent6])
            self._link(self.target, "to-agent", [self.target4, self.target6],
                       self.agent, "to-target", [self.uplink4, self.uplink6])
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, exc_type, exc, tb):
        for name in (self.router, self.agent, self.target):
            run(["ip", "netns", "del", name])

    @staticmethod
    def _link(ns1, if1, addresses1, ns2, if2, addresses2):
        run(["ip", "link", "add", if1, "netns", ns1, "type", "veth", "peer", "name", if2, "netns", ns2], check=True)
        for ns, interface, addresses in ((ns1, if1, addresses1), (ns2, if2, addresses2)):
            for address in addresses:
                length, more = ("64", ["nodad"]) if ":" in address else ("24", [])
                run(["ip", "-n", ns, "addr", "add", f"{address}/{length}", "dev", interface, *more], check=True)
            run(["ip", "-n", ns, "link", "set", interface, "up"], check=True)

    def cut(self):
        """Takes the link between agent and target down; `mend()` brings it back."""
        run(["ip", "-n", self.agent, "link", "set", "to-target", "down"], check=True)

    def mend(self):
        run(["ip", "-n", self.agent, "link", "set", "to-target", "up"], check=True)
        run(["ip", "-n", self.agent, "addr", "replace", f"{self.uplink6}/64", "dev", "to-target", "nodad"])
