# SPDX-License-Identifier: Apache-2.0
"""Free TCP ports below the kernel's ephemeral range, so that no outgoing connection takes one in between."""

import itertools
import os
import random
import socket

# Tests that run side by side have ports of their own each: between here and a program's bind() another one could hand out the same.
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_ports = range(10000 + _worker, 32000, _workers)
_candidates = itertools.cycle(random.Random(os.getpid()).sample(_ports, len(_ports)))


def free_port():
    """A port that nobody has bound on any address, IPv4 or IPv6, and that was not handed out before in this run."""
    for port in _candidates:
        try:
            for family, any_address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
                with socket.socket(family, socket.SOCK_STREAM) as s:
                    if family == socket.AF_INET6:
                        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    s.bind((any_address, port))
        except OSError:
            continue
        return port
    raise AssertionError("no free port")
