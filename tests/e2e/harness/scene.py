# SPDX-License-Identifier: Apache-2.0
"""The usual casts: our agent before a scripted target, our target behind a scripted agent, and both in a row."""

import contextlib

from .agent import EMAIL, Agent
from .grpc_agent import GrpcAgent
from .grpc_target import GrpcTarget
from .target import Inventory, Target
from .tcp_peer import Backend


@contextlib.contextmanager
def agent_alone(workdir, server=None, **options):
    """(agent, server): kbgp with its Control stream up to a grpcio target."""
    with server or GrpcTarget() as server, Agent(workdir, server.address, **options) as agent:
        server.wait_control()
        yield agent, server


def inventory_with(workdir, devices):
    """(inventory, token): an account, and devices as {name: address or [addresses]}."""
    inventory = Inventory(workdir / "kbgp.db")
    token = inventory.add_account()
    for name, addresses in devices.items():
        inventory.add_device(name, *([addresses] if isinstance(addresses, str) else addresses))
    return inventory, token


@contextlib.contextmanager
def target_alone(workdir, devices=None, tls=None, ca_file=None, **options):
    """(client, backend, target): kbgp-target before a scripted TCP backend, and a grpcio agent that knows the token."""
    inventory, token = inventory_with(workdir, devices or {"router_one": "127.0.0.2"})
    with Backend() as backend, Target(workdir, inventory, tls=tls, backend=backend.url, **options) as target, \
            GrpcAgent(target.address, EMAIL, token, ca_file) as client:
        yield client, backend, target


@contextlib.contextmanager
def chain(workdir, certs, devices, backend=None, agent=None, target=None):
    """(agent, target): both our programs on loopback with TLS between them; `agent` and `target` are more options."""
    inventory, token = inventory_with(workdir, devices)
    with Target(workdir, inventory, tls=certs.good, backend=backend, **(target or {})) as t, \
            Agent(workdir, t.address, ca_file=certs.ca, token=token, **(agent or {})) as a:
        a.wait_control()
        yield a, t
