# SPDX-License-Identifier: Apache-2.0
"""
High availability with packaging/keepalived/keepalived.conf: two agents, one virtual address, the active one dies, and the
router's sessions come up through the other. Needs the packages keepalived and bird2, and root.
"""

import itertools
import os
import re

import pytest

from harness import paths
from harness.agent import Agent
from harness.bird import Bird
from harness.proc import Program, clean_env, run, timed
from harness.router import Peer
from harness.scene import inventory_with
from harness.target import Target
from harness.wait import wait_for

CONFIG = paths.ROOT / "packaging" / "keepalived" / "keepalived.conf"
VIP4, VIP6 = "10.0.0.10", "fd00::10"
ROUTER4, ROUTER6 = "10.0.0.1", "fd00::1"
TARGET = "10.0.0.20"
ROUTES = {"some": ["203.0.113.0/24"]}
STATUS_PORT = 20920  # kbgp's own; each agent is in a namespace of its own
HOLD_TIME = 9
_numbers = itertools.count(1)


class Lan:
    """Namespaces `router`, `one`, `two`, `target` on one bridge, which is in a namespace of its own; eth0 in each."""

    hosts = {"router": [ROUTER4, ROUTER6], "target": [TARGET], "one": ["10.0.0.11", "fd00::11"], "two": ["10.0.0.12", "fd00::12"]}

    def __init__(self, stem):
        self.switch = f"{stem}s"
        for host in self.hosts:
            setattr(self, host, f"{stem}{host}")

    def _all(self):
        return [self.switch, *(getattr(self, host) for host in self.hosts)]

    def __enter__(self):
        try:
            for name in self._all():
                run(["ip", "netns", "add", name], check=True)
                run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
            run(["ip", "-n", self.switch, "link", "add", "br0", "type", "bridge"], check=True)
            run(["ip", "-n", self.switch, "link", "set", "br0", "up"], check=True)
            for host, addresses in self.hosts.items():
                name = getattr(self, host)
                run(["ip", "link", "add", "eth0", "netns", name, "type", "veth", "peer", "name", host, "netns", self.switch],
                    check=True)
                run(["ip", "-n", self.switch, "link", "set", host, "master", "br0", "up"], check=True)
                for address in addresses:
                    length, more = ("64", ["nodad"]) if ":" in address else ("24", [])
                    run(["ip", "-n", name, "addr", "add", f"{address}/{length}", "dev", "eth0", *more], check=True)
                run(["ip", "-n", name, "link", "set", "eth0", "up"], check=True)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, exc_type, exc, tb):
        for name in self._all():
            run(["ip", "netns", "del", name])

    def unplug(self, name):
        """The machine's cable out of the switch."""
        host = next(h for h in self.hosts if getattr(self, h) == name)
        run(["ip", "-n", self.switch, "link", "set", host, "down"], check=True)

    @staticmethod
    def has_vip(name):
        shown = run(["ip", "-n", name, "-o", "addr", "show", "dev", "eth0"]).stdout
        return f" {VIP4}/" in shown and f" {VIP6}/" in shown


class Keepalived(Program):
    """keepalived in a namespace with the shipped configuration."""

    exit_codes = None

    def __init__(self, workdir, netns):
        text, changed = re.subn(r"/usr/bin/kbgp ", f"{paths.kbgp()} ", CONFIG.read_text())
        assert changed == 1
        # the tests' programs may lie in a folder that nobody but root may enter
        text, changed = re.subn(r"enable_script_security\n *script_user nobody nogroup", "script_user root", text)
        assert changed == 1
        config = workdir / f"{netns}.conf"
        config.write_text(text)
        super().__init__(f"keepalived-{netns}", [
            paths.find("keepalived"), "--dont-fork", "--log-console", "--vrrp", "-f", config, "-p", workdir / f"{netns}.pid",
            "-r", workdir / f"{netns}-vrrp.pid"], workdir, netns=netns, env=clean_env())


def agent_in(netns, workdir, token):
    """An agent with the ports that it has by itself."""
    agent = Agent(workdir, f"{TARGET}:4443", token=token, netns=netns, listen=["0.0.0.0:179", "[::]:179"])
    agent.argv[agent.argv.index("--metrics-port") + 1] = str(STATUS_PORT)
    agent.metrics_port = STATUS_PORT
    return agent


@pytest.fixture
def lan(namespaces):
    if paths.find("keepalived") is None or paths.find("bird") is None:
        pytest.skip("keepalived or bird is not installed")
    with Lan(f"kh{os.getpid()}n{next(_numbers)}") as lan:
        yield lan


@pytest.mark.parametrize("failure", ["agent killed", "machine gone"])
def test_the_other_agent_takes_over(workdir, lan, record_property, failure):
    inventory, token = inventory_with(workdir, {"edge1": [ROUTER4, ROUTER6]})
    peers = [Peer("peer4", ROUTER4, VIP4, 179, hold_time=HOLD_TIME), Peer("peer6", ROUTER6, VIP6, 179, hold_time=HOLD_TIME)]
    with Target(workdir, inventory, netns=lan.target, listen=[f"{TARGET}:4443"]) as target, \
            agent_in(lan.one, workdir, token) as one, agent_in(lan.two, workdir, token) as two, \
            Keepalived(workdir, lan.one) as keepalived_one, Keepalived(workdir, lan.two) as keepalived_two:
        wait_for(lambda: lan.has_vip(lan.one) != lan.has_vip(lan.two), "one machine has the virtual addresses")
        first, second, keepalived = (one, two, keepalived_one) if lan.has_vip(lan.one) else (two, one, keepalived_two)
        with Bird(workdir, peers, ROUTES, netns=lan.router) as bird:
            bird.wait_established("peer4", "peer6")
            first.wait_sessions(2)
            assert not second.sessions()

            if failure == "agent killed":
                first.kill()
                first.exit_codes = None
            else:
                lan.unplug(first.netns)
            _, moved = timed(lambda: wait_for(lambda: lan.has_vip(second.netns), "the virtual addresses on the other machine"))
            _, more = timed(lambda: (second.wait_sessions(2), bird.wait_established("peer4", "peer6")))
            target.wait_prefixes(1, set(ROUTES["some"]))
            record_property("seconds", f"{moved:.1f} {moved + more:.1f}")
            print(f"{failure}: virtual addresses moved after {moved:.1f} s, both sessions up again after {moved + more:.1f} s")
            if failure == "machine gone":
                return
            assert not lan.has_vip(first.netns)

            # an agent that comes back does not take the addresses away again
            with agent_in(first.netns, workdir, token):
                keepalived.wait_for_text(r"VRRP_Script\(kbgp\) failed[\s\S]*VRRP_Script\(kbgp\) succeeded[\s\S]*BACKUP STATE")
                assert lan.has_vip(second.netns) and not lan.has_vip(first.netns)
                assert bird.established("peer4") and bird.established("peer6")
                second.wait_sessions(2)
