# SPDX-License-Identifier: Apache-2.0
"""From the target's name to a connection: every address has its chance, and DNS may fail, hang or change."""

import contextlib
import time

import pytest

from harness.agent import Agent
from harness.dns import Dns, PrivateEtc
from harness.net import Chain
from harness.ports import free_port
from harness.proc import run
from harness.scene import inventory_with
from harness.target import Target
from harness.wait import wait_for

NAME = "target.test"
PORT = 4443
# Routed to the target's host, which forwards nothing and says nothing: a SYN is never answered. All are addresses that the
# resolver prefers to those that work (RFC 6724: global IPv6 before IPv4, then whatever is nearer to the source address).
DEAD4, DEAD6 = [f"10.101.2.{i}" for i in range(4, 9)], ["2001:db8:99::d1", "2001:db8:99::d2"]
LIVE4, OTHER4, LIVE6, OTHER6 = "10.101.2.130", "10.101.2.67", Chain.target6, "2001:db8:99::1"


@pytest.fixture
def net(namespaces):
    with Chain() as chain:
        for key in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            run(["sysctl", "-qw", f"{key}=0"], netns=chain.target, check=True)
        for address, namespace in ((f"{LIVE4}/24", chain.target), (f"{OTHER4}/24", chain.target),
                                   (f"{OTHER6}/64", chain.target), ("2001:db8:99::2/64", chain.agent)):
            interface = "to-agent" if namespace == chain.target else "to-target"
            run(["ip", "-n", namespace, "addr", "add", address, "dev", interface] + ["nodad"] * (":" in address), check=True)
        for address in DEAD4:
            run(["ip", "-n", chain.agent, "route", "add", address, "via", chain.target4], check=True)
        for address in DEAD6:
            run(["ip", "-n", chain.agent, "-6", "route", "add", address, "via", OTHER6], check=True)
            run(["ip", "-n", chain.target, "-6", "route", "add", "blackhole", address], check=True)
        yield chain


@contextlib.contextmanager
def agent_of(workdir, net, token, **options):
    with Agent(workdir, f"{NAME}:{PORT}", token=token, netns=net.agent, **options) as agent:
        yield agent


def target_on(workdir, inventory, net, *addresses):
    return Target(workdir, inventory, netns=net.target,
                  listen=[f"[{a}]:{PORT}" if ":" in a else f"{a}:{PORT}" for a in addresses])


def hosts(*addresses):
    return "127.0.0.1 localhost\n" + "".join(f"{a} {NAME}\n" for a in addresses)


@pytest.mark.parametrize("addresses, live", [
    ([LIVE4, DEAD6[0]], LIVE4),
    ([LIVE6, DEAD4[0]], LIVE6),
    ([LIVE4, *DEAD4], LIVE4),
    ([LIVE4, *DEAD4, *DEAD6], LIVE4),
    ([LIVE4, OTHER4], LIVE4),
    ([LIVE4, OTHER6], LIVE4),
], ids=["dead IPv6", "dead IPv4", "five dead of one family", "seven dead", "one refuses", "IPv6 refuses"])
def test_a_name_with_bad_addresses(workdir, net, addresses, live):
    """The first attempt succeeds, and soon: the addresses that the resolver prefers are dead, and nobody waits for them."""
    inventory, token = inventory_with(workdir, {})
    with target_on(workdir, inventory, net, live), \
            PrivateEtc(net.agent, hosts(*addresses), prefer_ipv4=":" in live):
        order = [line.split()[0] for line in run(["getent", "ahosts", NAME], netns=net.agent, check=True).stdout.splitlines()]
        assert order[0] != live, "the test would prove nothing"
        with agent_of(workdir, net, token) as agent:
            begin = time.monotonic()
            agent.wait_control()
            assert not agent.find_log("no connection to the target"), "it took more than one attempt"
            assert time.monotonic() - begin < 6


def test_no_address_answers(workdir, net):
    """One line that says what became of each address."""
    inventory, token = inventory_with(workdir, {})
    with PrivateEtc(net.agent, hosts(LIVE4, LIVE6)), agent_of(workdir, net, token) as agent:
        line = agent.wait_for_log("no connection to the target", stage="tcp")
        assert f"{LIVE4}:{PORT}: Connection refused" in line["error"]
        assert f"[{LIVE6}]:{PORT}: Connection refused" in line["error"]
    with PrivateEtc(net.agent, hosts(DEAD4[0], DEAD6[0], OTHER4)), agent_of(workdir, net, token) as agent:
        line = agent.wait_for_log("no connection to the target", stage="tcp")
        for words in ("within 15 s", f"{DEAD4[0]}:{PORT}: no answer", f"[{DEAD6[0]}]:{PORT}: no answer",
                      f"{OTHER4}:{PORT}: Connection refused"):
            assert words in line["error"], line


def test_a_name_that_moves(workdir, net):
    """The target comes back at another address: the next attempt asks DNS again and finds it."""
    inventory, token = inventory_with(workdir, {"router_one": net.router4})
    with Dns(net.agent, {NAME: [net.target4]}) as dns, PrivateEtc(net.agent), agent_of(
            workdir, net, token, listen=[f"{net.agent4}:{free_port()}"]) as agent:
        with target_on(workdir, inventory, net, net.target4):
            agent.wait_control()
        agent.wait_for_log("no connection to the target", pattern="Connection refused", timeout=90)
        dns.zone[NAME] = [OTHER4]
        with target_on(workdir, inventory, net, OTHER4):
            wait_for(lambda: agent.status()["ControlStream"]["Connected"], "Control at the new address", 120)


def test_dns_that_fails_and_recovers(workdir, net):
    """A name that does not exist, and no server at all: a line each, and when DNS is back all is well."""
    inventory, token = inventory_with(workdir, {})
    with target_on(workdir, inventory, net, net.target4), PrivateEtc(net.agent), \
            agent_of(workdir, net, token) as agent:
        line = agent.wait_for_log("no connection to the target", stage="dns")
        assert f"the name {NAME} is not resolved" in line["error"]
        with Dns(net.agent) as dns:
            wait_for(lambda: dns.asked, "a question", 90)
            agent.wait_for_log("no connection to the target", stage="dns", pattern="not known", timeout=90)
            dns.zone[NAME] = [net.target4]
            agent.wait_control(timeout=120)


def test_dns_that_says_nothing(workdir, net):
    """The event loop goes on while the resolver waits, SIGTERM is obeyed at once, and an answer at last is used."""
    inventory, token = inventory_with(workdir, {})
    with target_on(workdir, inventory, net, net.target4), Dns(net.agent, {NAME: [net.target4]}) as dns, \
            PrivateEtc(net.agent, nameservers=["127.0.0.1"] * 3):  # the resolver's patience is longer than an attempt
        dns.silent = True
        with agent_of(workdir, net, token) as agent:
            wait_for(lambda: dns.asked, "a question")
            begin = time.monotonic()
            assert agent.stop(timeout=10) == 0
            assert time.monotonic() - begin < 4, "the end waited for the resolver"
        asked = dns.asked
        with agent_of(workdir, net, token) as agent:
            wait_for(lambda: dns.asked > asked, "a question")
            slowest, end = 0.0, time.monotonic() + 60
            while not agent.find_log("no connection to the target", stage="dns") and time.monotonic() < end:
                begin = time.monotonic()
                assert agent.health()[0] == 503
                slowest = max(slowest, time.monotonic() - begin)
            line = agent.wait_for_log("no connection to the target", stage="dns")
            assert "no answer within 15 s" in line["error"]
            assert slowest < 3, f"the event loop stood still for {slowest:.1f} s"
            dns.silent = False
            agent.wait_control(timeout=120)
