# SPDX-License-Identifier: Apache-2.0
"""Many sessions through both programs, opened and closed: all work, none is left, no descriptor either. And too many."""

import contextlib
import os
import resource

import pytest

from harness.scene import chain
from harness.tcp_peer import Backend
from harness.wait import wait_for

NUMBER = 1000
BATCH = 100  # open at a time in the harness, which has two threads for each session


def farm(addresses):
    """Devices with ten addresses each: a device has no more than a handful, and adding a thousand takes long."""
    return {f"router_{n // 10:04}": addresses[n:n + 10] for n in range(0, len(addresses), 10)}


def test_a_thousand_sessions_come_and_go(workdir, certs):
    addresses = [f"127.1.{n // 250}.{n % 250 + 1}" for n in range(NUMBER)]
    batches = [addresses[at:at + BATCH] for at in range(0, NUMBER, BATCH)]
    with Backend() as backend, chain(workdir, certs, farm(addresses), backend=backend.url, agent={"multi": 30}) as (agent, target):
        idle = None
        for batch in batches:
            with contextlib.ExitStack() as stack:
                open_now = {a: stack.enter_context(agent.connect(a)) for a in batch}
                for address, device in open_now.items():
                    device.send(address.encode() + b"\n")
                daemons = {}
                for _ in batch:
                    daemon = backend.accept()
                    wait_for(lambda d=daemon: d.received.endswith(b"\n"), "a device's name at the backend")
                    daemons[daemon.received.decode().strip()] = daemon
                assert set(daemons) == set(batch), "a session's bytes at the wrong place"
                agent.wait_sessions(len(batch))
                for n, (address, device) in enumerate(open_now.items()):
                    daemons[address].send(address.encode())
                    assert device.wait_received(len(address)).decode() == address
                    if n % 3 == 0:
                        device.close()
                        daemons[address].wait_ended()
                    elif n % 3 == 1:
                        daemons[address].close()
                        device.wait_ended()
                    else:
                        device.reset()
                        daemons[address].wait_ended()
                    daemons[address].close()
            wait_for(lambda: not agent.sessions(), "/admin/sessions empty")
            # what the first batch has left (HTTP/2 connections that wait for use) may stay, but must not grow
            used = (agent.descriptors(), target.descriptors())
            idle = idle or used
            assert used[0] <= idle[0] + 5 and used[1] <= idle[1] + 5, f"descriptors after a batch: {used}, first {idle}"
        assert backend.count() == NUMBER
        assert agent.status()["ActiveSessions"] == 0
        assert agent.stop(timeout=10) == 0
        assert target.stop(timeout=10) == 0


def test_many_sessions_at_a_time(workdir, certs):
    """300 at once, all alive at the same time, each with its own bytes both ways."""
    addresses = [f"127.2.{n // 250}.{n % 250 + 1}" for n in range(300)]
    with Backend() as backend, chain(workdir, certs, farm(addresses), backend=backend.url, agent={"multi": 50}) \
            as (agent, _target), contextlib.ExitStack() as stack:
        open_now = {a: stack.enter_context(agent.connect(a)) for a in addresses}
        for address, device in open_now.items():
            device.send(address.encode() + b"\n")
        wait_for(lambda: backend.count() == len(addresses), f"{len(addresses)} connections to the backend", interval=0.3)
        agent.wait_sessions(len(addresses))
        seen = set()
        for _ in addresses:
            daemon = backend.accept()
            wait_for(lambda d=daemon: d.received.endswith(b"\n"), "a device's name at the backend")
            name = daemon.received.decode().strip()
            seen.add(name)
            daemon.send(name.encode())
        assert seen == set(addresses)
        for address, device in open_now.items():
            assert device.wait_received(len(address)).decode() == address


def test_a_connection_outlives_its_sessions(workdir, certs):
    """
    More sessions on one connection, all ended from the target's side, than a server of HTTP/2 lets a client reset: none of them
    may cost the connection, and with it the sessions that are on it.
    """
    addresses = [f"127.1.0.{n + 1}" for n in range(20)]
    with Backend() as backend, chain(workdir, certs, farm(addresses), backend=backend.url, agent={"multi": 30}) as (agent, target):
        with agent.connect("127.1.0.1") as stays:
            stays.send(b"first")
            first = backend.accept()
            for _ in range(85):
                with contextlib.ExitStack() as stack:
                    devices = [stack.enter_context(agent.connect(a)) for a in addresses[1:]]
                    for _ in devices:
                        backend.accept().close()
                    for device in devices:
                        assert device.wait_ended() == "fin"
            first.send(b"last")
            assert stays.wait_received(4) == b"last" and first.received == b"first"
        assert not agent.find_log("the target ends a connection, its sessions move to another")
        assert not agent.find_log("Data stream lost, the router's connection stays")


@contextlib.contextmanager
def no_more_descriptors(program):
    """The program can open no further descriptor. What it has stays open."""
    before = resource.prlimit(program.pid, resource.RLIMIT_NOFILE)
    used = {int(fd) for fd in os.listdir(f"/proc/{program.pid}/fd")}
    lowest_free = min(set(range(len(used) + 1)) - used)
    resource.prlimit(program.pid, resource.RLIMIT_NOFILE, (lowest_free, before[1]))
    try:
        yield
    finally:
        resource.prlimit(program.pid, resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("which, message, pattern", [
    (0, "out of file descriptors, refusing connections (raise LimitNOFILE or ulimit -n)", None),
    (1, "cannot connect to the backend, the session ends", "Too many open files"),
], ids=["agent", "target"])
def test_no_descriptors_left(workdir, certs, which, message, pattern):
    """A session that comes then ends at once, and the log says why; those that are there go on; later there is room again."""
    addresses = [f"127.1.0.{n + 1}" for n in range(2)]
    with Backend() as backend, chain(workdir, certs, farm(addresses), backend=backend.url) as programs:
        agent, program = programs[0], programs[which]
        with agent.connect(addresses[0]) as stays:
            stays.send(b"before")
            daemon = backend.accept()
            assert daemon.wait_received(6) == b"before"
            with no_more_descriptors(program):
                with agent.connect(addresses[1]) as refused:
                    refused.wait_ended()
                program.wait_for_log(message, level="error", pattern=pattern)
                stays.send(b" during")
                assert daemon.wait_received(13) == b"before during"
                daemon.send(b"yes")
                assert stays.wait_received(3) == b"yes"
            with agent.connect(addresses[1]) as later:
                later.send(b"later")
                assert backend.accept().wait_received(5) == b"later"
            stays.send(b" after")
            assert daemon.wait_received(19) == b"before during after"
        assert program.stop(timeout=10) == 0
