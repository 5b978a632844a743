# SPDX-License-Identifier: Apache-2.0
"""TCP-MD5 end to end: routers with a password, in namespaces; the keys come from the target, pushed or asked for."""

import contextlib
import os
import random
import re
import time
from pathlib import Path

import pytest

from harness import frr, md5
from harness.agent import Agent
from harness.bird import Bird
from harness.frr import Frr
from harness.gobgp import GoBgp
from harness.grpc_target import GrpcTarget, blocked, known
from harness.net import Chain, in_namespace
from harness.proc import run
from harness.router import Peer, prefixes4, prefixes6
from harness.scene import inventory_with
from harness.schema import ControlRequest
from harness.target import Target
from harness.wait import wait_for
from test_target_md5 import assert_small, make_many

PORT = 1790
KEY, OTHER = "first-Secret!", "second-Secret!"
LISTEN = [f"0.0.0.0:{PORT}", f"[::]:{PORT}"]
MD5 = ["--enable-md5-support"]


@pytest.fixture
def net(namespaces):
    with Chain() as chain:
        yield chain


@contextlib.contextmanager
def programs(workdir, certs, net, passwords, extra=(), prepare=None):
    """
    (agent, target): both our programs with the devices `router4` and `router6`; `passwords` has those that have a key.
    `prepare(inventory)` comes before the start.
    """
    inventory, token = inventory_with(workdir, {"router4": net.router4, "router6": net.router6})
    for name, password in passwords.items():
        inventory.set_password(name, password)
    if prepare:
        prepare(inventory)
    with Target(workdir, inventory, tls=certs.good, netns=net.target, listen=[f"{net.target4}:4443"]) as target, \
            new_agent(workdir, certs, net, token, extra) as agent:
        agent.wait_control()
        wait_keys(agent, len(passwords))
        yield agent, target


def new_agent(workdir, certs, net, token, extra=()):
    return Agent(workdir, f"{net.target4}:4443", ca_file=certs.ca, token=token, netns=net.agent, listen=LISTEN,
                 extra=[*MD5, *extra])


class AsksOnly(GrpcTarget):
    """A target in a namespace that pushes nothing: it answers with the key when it is asked."""

    def __init__(self, net, key):
        super().__init__(host=net.target4)
        self._netns = net.target
        self.answer = lambda request: [known(request, ttl_seconds=300, tcp_md5=key.encode())]

    def __enter__(self):
        return in_namespace(self._netns, super().__enter__)


def metric(agent, name):
    """The sum of a metric over all its labels."""
    code, text = agent.get("/metrics")
    assert code == 200
    found = re.findall(rf"^{name}(?:{{[^}}]*}})? ([0-9.e+]+)$", text, re.MULTILINE)
    assert found, f"no metric {name}"
    return sum(map(float, found))


def wait_keys(agent, number):
    wait_for(lambda: metric(agent, "kbgp_md5_keys") == number, f"{number} keys installed")


def addresses(net, family):
    return (net.router4, net.agent4) if family == 4 else (net.router6, net.agent6)


def router(kind, workdir, net, family, password, **options):
    local, neighbor = addresses(net, family)
    networks = prefixes4(20) if family == 4 else prefixes6(20)
    peer = Peer("agent", local, neighbor, PORT, password=password)
    if kind is Bird:
        return Bird(workdir, [peer], {"own": networks}, netns=net.router, **options), networks
    if kind is Frr:
        return Frr(workdir, [peer], networks, netns=net.router), networks
    return GoBgp(workdir, [peer], netns=net.router), networks


FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["IPv4", "IPv6"])


@FAMILIES
@pytest.mark.parametrize("kind", [Bird, Frr, GoBgp], ids=lambda k: k.__name__)
def test_first_syn_succeeds_with_a_pushed_key(workdir, certs, net, kind, family):
    if kind is Frr and not Path(frr.BGPD).exists():
        pytest.skip("FRR is not installed")
    with programs(workdir, certs, net, {f"router{family}": KEY}) as (agent, target):
        device, networks = router(kind, workdir, net, family, KEY)
        with device:
            device.wait_established("agent")
            if kind is GoBgp:
                device.announce(*networks)
            target.wait_prefixes(1 if family == 4 else 2, set(networks))
            agent.wait_sessions(1)
            assert md5.counters(net.router)["TCPSynRetrans"] == 0
            failures = md5.counters(net.agent)
            assert (failures["TCPMD5NotFound"], failures["TCPMD5Unexpected"], failures["TCPMD5Failure"]) == (0, 0, 0)
            config = agent.status()["Config"]
            assert (config["MD5Enabled"], config["MD5Interface"]) == (True, "any")
            silent(agent, target, KEY)


def silent(agent, target, *keys):
    """No key stands in a log, on a page or in a metric."""
    shown = agent.output() + target.output()
    for page in ("/admin/status", "/admin/sessions", "/admin/devices", "/metrics", "/hc"):
        shown += agent.get(page)[1]
    for key in keys:
        assert key not in shown and key.encode().hex() not in shown


@FAMILIES
def test_key_on_demand(workdir, certs, net, family):
    """Nothing is pushed: the first SYN is dropped and makes the agent ask; the router's next one gets in."""
    with AsksOnly(net, KEY) as server, \
            Agent(workdir, server.address, netns=net.agent, listen=LISTEN, extra=MD5) as agent:
        server.wait_control()
        device, _ = router(Bird, workdir, net, family, KEY)
        with device:
            call = server.wait_data(1, 30)
            call.wait_data(19)  # a BGP message
            assert call.metadata["device-ip"] == [addresses(net, family)[0]]
            asked = server.lookups()
            assert 1 <= len(asked) <= 2, asked
            assert md5.counters(net.agent)["TCPMD5Unexpected"] == 1, "more than the first SYN was lost"
            wait_keys(agent, 1)


@FAMILIES
def test_wrong_key(workdir, certs, net, family):
    """Never established, one log line with the device however many SYNs come."""
    with programs(workdir, certs, net, {f"router{family}": OTHER}) as (agent, target):
        device, _ = router(Bird, workdir, net, family, KEY)
        with device:
            wait_for(lambda: md5.counters(net.agent)["TCPMD5Failure"] >= 5, "five SYNs refused", 60)
            assert not device.established("agent")
            assert not agent.sessions() and not target.events("open")
        lines = agent.find_log(level="warn error", pattern="md5.*key|key.*md5|password")
        lines = [line for line in lines if f"router{family}" in str(line)]
        assert len(lines) == 1, lines
        assert metric(agent, "kbgp_md5_syns_total") >= 5
        silent(agent, target, KEY, OTHER)

        # with the right one it comes
        target.inventory.set_password(f"router{family}", KEY)
        device, _ = router(Bird, workdir, net, family, KEY)
        with device:
            device.wait_established("agent")


@FAMILIES
def test_unsigned_connections_of_a_device_with_a_key_are_refused(workdir, certs, net, family):
    host = addresses(net, family)[1]
    with programs(workdir, certs, net, {f"router{family}": KEY}) as (agent, target):
        for _ in range(3):
            with pytest.raises(TimeoutError):
                md5.connect(host, PORT, netns=net.router, timeout=2.5)
        assert md5.counters(net.agent)["TCPMD5NotFound"] >= 6
        assert not agent.sessions() and not target.events("open")
        told = agent.find_log("a connection without TCP-MD5 from a device that has a key, refusing it")
        assert len(told) == 1 and f"router{family}" in told[0]["device"], told
        with md5.connect(host, PORT, KEY, netns=net.router):
            agent.wait_sessions(1)


def test_unsigned_connection_that_was_there_before_the_key(workdir, certs, net):
    """
    No push, so the kernel has no key yet when an unsigned connection comes: the answer to the lookup has one, and the
    connection must not stay.
    """
    with AsksOnly(net, KEY) as server, \
            Agent(workdir, server.address, netns=net.agent, listen=LISTEN, extra=MD5) as agent:
        server.wait_control()
        with md5.connect(net.agent4, PORT, netns=net.router) as end:
            end.wait_ended(15)
        assert not server.datas
        refused = agent.wait_for_log("a connection without TCP-MD5 from a device that has a key, refusing it")
        assert refused["device"] == "1289:a6r_kx1:127353-ipv4" and refused["peer-addr"].startswith(net.router4)
        with md5.connect(net.agent4, PORT, KEY, netns=net.router) as end:
            end.send(b"x" * 19)
            server.wait_data(1).wait_data(19)


def test_with_and_without_a_key_side_by_side(workdir, certs, net):
    with programs(workdir, certs, net, {"router4": KEY}) as (agent, target):
        routes = {"four": prefixes4(20), "six": prefixes6(20)}
        peers = [Peer("with", net.router4, net.agent4, PORT, password=KEY), Peer("without", net.router6, net.agent6, PORT)]
        with Bird(workdir, peers, routes, netns=net.router) as bird:
            bird.wait_established("with", "without")
            target.wait_prefixes(1, set(routes["four"]))
            target.wait_prefixes(2, set(routes["six"]))
            agent.wait_sessions(2)


def test_signed_connections_of_a_device_without_a_key(workdir, certs, net):
    """The other way about: the target has no key for it. Refused by the kernel; the device is named in the log once."""
    with programs(workdir, certs, net, {}) as (agent, target):
        for _ in range(3):
            with pytest.raises(TimeoutError):
                md5.connect(net.agent4, PORT, KEY, netns=net.router, timeout=2.5)
        assert md5.counters(net.agent)["TCPMD5Unexpected"] >= 3
        assert not agent.sessions() and not target.events("open")
        lines = agent.find_log(level="warn error", pattern=re.escape(net.router4))
        assert len(lines) == 1, lines
        with md5.connect(net.agent4, PORT, netns=net.router):
            agent.wait_sessions(1)


@FAMILIES
def test_rotation(workdir, certs, net, family):
    """A session lives through changes of the key where the router changes, too; new ones need the new key."""
    local, host = addresses(net, family)

    def talk(end, call, text):
        end.send(text)
        wait_for(lambda: call.session.data.endswith(text), f"{text} at the target", 20)
        call.send(text[::-1])
        wait_for(lambda: end.received.endswith(text[::-1]), f"{text} back", 20)

    # a scripted target: our collector would want BGP spoken
    keys = {local: KEY}
    with AsksOnly(net, KEY) as server, \
            Agent(workdir, server.address, netns=net.agent, listen=LISTEN, extra=MD5) as agent:
        control = server.wait_control()

        def push(key):
            keys[local] = key
            control.push(known(ControlRequest(proto="BGP", device_ip=local), ttl_seconds=300, tcp_md5=key.encode()))

        server.answer = lambda request: [known(request, ttl_seconds=300, tcp_md5=keys[request.device_ip].encode())]
        push(KEY)
        wait_keys(agent, 1)
        with md5.connect(host, PORT, KEY, netns=net.router) as end:
            call = server.wait_data()
            talk(end, call, b"before")
            for number, new in enumerate(["second", "third-key-that-is-rather-longer", KEY]):
                push(new)
                md5.sign(end.sock, host, new)
                talk(end, call, f"after {number}".encode())
                old = ["second", "third-key-that-is-rather-longer"][number - 1] if number else KEY
                with pytest.raises(TimeoutError):
                    md5.connect(host, PORT, old, netns=net.router, timeout=2.5)
                with md5.connect(host, PORT, new, netns=net.router) as second:
                    second.send(b"new session")
                    assert server.wait_data(number + 2).wait_data(11) == b"new session"
            assert end.ended is None and len(call.session.calls) == 1


@pytest.mark.parametrize("order", ["together", "the agent first"])
def test_rotation_from_the_inventory(workdir, certs, net, order):
    """
    `device set` with a new password reaches the session; BIRD, which is given it as well, comes back with it. What BIRD
    said at the end of the old connection may be signed with the old key and then is dropped ("the agent first": it
    always is): the agent keeps that session beside the new one until its hold time is over. Both are right.
    """
    with programs(workdir, certs, net, {"router4": KEY}) as (agent, target):
        device, networks = router(Bird, workdir, net, 4, KEY)
        with device:
            target.wait_prefixes(1, set(networks))
            old = target.events("established", address=net.router4)[-1]["session"]
            old_peers = {session["Peer"] for session in agent.sessions()}
            target.inventory.set_password("router4", OTHER)
            if order == "the agent first":
                agent.wait_for_log("TCP-MD5 key changed")
            device.set_password("agent", OTHER)
            new = wait_for(lambda: [e["session"] for e in target.events("established", address=net.router4)
                                    if e["session"] != old], "session with the new password")[-1]
            device.wait_established("agent")
            target.wait_prefixes(1, set(networks), session=new)
            wait_for(lambda: {s["Peer"] for s in agent.connected_sessions()} - old_peers, "the new session at the agent")
        with pytest.raises(TimeoutError):
            md5.connect(net.agent4, PORT, KEY, netns=net.router, timeout=2.5)
        silent(agent, target, KEY, OTHER)


@FAMILIES
def test_removal(workdir, certs, net, family):
    """Without its password the device connects unsigned again, and signed no more; and back."""
    host = addresses(net, family)[1]
    name = f"router{family}"
    with programs(workdir, certs, net, {name: KEY}) as (agent, target):
        with md5.connect(host, PORT, KEY, netns=net.router):
            agent.wait_sessions(1)
        wait_for(lambda: not agent.sessions(), "end of the signed session")
        target.inventory.set_password(name, None)
        wait_keys(agent, 0)
        with md5.connect(host, PORT, netns=net.router):
            agent.wait_sessions(1)
        wait_for(lambda: not agent.sessions(), "end of the unsigned session")
        with pytest.raises(TimeoutError):
            md5.connect(host, PORT, KEY, netns=net.router, timeout=2.5)
        target.inventory.set_password(name, OTHER)
        wait_keys(agent, 1)
        with md5.connect(host, PORT, OTHER, netns=net.router):
            agent.wait_sessions(1)
        target.inventory.run("device", "remove", name)
        wait_keys(agent, 0)
        wait_for(lambda: not agent.sessions(), "end of the removed device's session")


def test_agent_restart(workdir, certs, net):
    """Stopped and started, and killed and started: the keys are back before the router is."""
    inventory, token = inventory_with(workdir, {"router4": net.router4})
    inventory.set_password("router4", KEY)
    with Target(workdir, inventory, tls=certs.good, netns=net.target, listen=[f"{net.target4}:4443"]) as target:
        device, networks = router(Bird, workdir, net, 4, KEY)
        with device:
            for round_ in range(3):
                agent = new_agent(workdir, certs, net, token)
                agent.start()
                agent.wait_ready()
                wait_for(lambda: len(target.events("established")) == round_ + 1, "session with the router")
                agent.wait_sessions(1)
                device.wait_established("agent")
                if round_ == 0:
                    assert agent.stop() == 0
                else:
                    agent.kill()
                device.wait_down("agent")


def test_the_interface_goes_and_comes_back(workdir, net):
    """The capture's interface: /hc fails while it is away, a SYN is seen again after it has come back."""
    with AsksOnly(net, KEY) as server, \
            Agent(workdir, server.address, netns=net.agent, listen=LISTEN,
                  extra=[*MD5, "--md5-listen-interface", "to-router"]) as agent:
        server.wait_control()
        wait_for(lambda: agent.health()[0] == 200, "health")
        for round_ in range(2):
            run(["ip", "-n", net.agent, "link", "del", "to-router"], check=True)
            wait_for(lambda: agent.health() == (503, "failing"), "health failing", 30)
            net._link(net.router, "to-agent", [net.router4, net.router6], net.agent, "to-router", [net.agent4, net.agent6])
            wait_for(lambda: agent.health()[0] == 200, "health again", 30)
        lines = agent.find_log(level="warn error", pattern="to-router")
        assert 2 <= len(lines) <= 4, lines
        with md5.connect(net.agent4, PORT, KEY, netns=net.router, timeout=20) as end:
            end.send(b"x" * 19)
            server.wait_data().wait_data(19)


def test_five_thousand_keys(workdir, certs, net):
    """With room in the kernel: all installed; a router beside them is as fast as ever."""
    run(["sysctl", "-qw", "net.core.optmem_max=4194304"], netns=net.agent, check=True)
    inventory, token = inventory_with(workdir, {"router4": net.router4})
    inventory.set_password("router4", KEY)
    make_many(inventory, 5000)
    with Target(workdir, inventory, tls=certs.good, netns=net.target, listen=[f"{net.target4}:4443"]) as target, \
            new_agent(workdir, certs, net, token) as agent:
        begin = time.monotonic()
        wait_keys(agent, 5001)
        took = time.monotonic() - begin
        device, _ = router(Bird, workdir, net, 4, KEY)
        with device:
            device.wait_established("agent")
            assert md5.counters(net.router)["TCPSynRetrans"] == 0
        begin = time.monotonic()
        target.inventory.set_password("router4", OTHER)
        wait_for(lambda: _gets_in(net, OTHER), "the new key", 20)
        print(f"5,001 keys installed {took:.2f} s after the start, rss {agent.rss() >> 10} KiB; "
              f"a changed one works after {time.monotonic() - begin:.2f} s")
        assert took < 20
        assert_small(agent)


def _gets_in(net, key):
    with contextlib.suppress(OSError), md5.connect(net.agent4, PORT, key, netns=net.router, timeout=0.8):
        return True
    return False


def test_no_room_for_the_keys(workdir, certs, net):
    """net.core.optmem_max used up: one clear line that names the sysctl, the others keep their keys, nothing dies."""
    run(["sysctl", "-qw", "net.core.optmem_max=20480"], netns=net.agent, check=True)
    inventory, token = inventory_with(workdir, {"router4": net.router4})
    inventory.set_password("router4", KEY)
    make_many(inventory, 500)
    with Target(workdir, inventory, tls=certs.good, netns=net.target, listen=[f"{net.target4}:4443"]) as target, \
            new_agent(workdir, certs, net, token) as agent:
        agent.wait_control()
        line = agent.wait_for_log(level="error", pattern="net.core.optmem_max")
        target.wait_for_log("MD5 keys pushed to the agent")
        wait_for(lambda: metric(agent, "kbgp_md5_keys") > 20, "the keys that fit")
        assert line["device"].startswith("1:many_")
        missing = {line["device"] for line in agent.find_log(level="error", pattern="optmem_max")}
        assert len(missing) == len(agent.find_log(level="error", pattern="optmem_max")), "a device was told twice"
        assert metric(agent, "kbgp_md5_keys") + len(missing) <= 501
        assert metric(agent, "kbgp_md5_key_failures_total") >= len(missing) > 0
        with md5.connect(net.agent4, PORT, KEY, netns=net.router):  # the first that was pushed
            agent.wait_sessions(1)


def test_flood_of_signed_syns(workdir, net):
    """From addresses that nobody knows: Control is asked at a bounded rate, memory stays, a router still gets in."""
    with AsksOnly(net, KEY) as server, \
            Agent(workdir, server.address, netns=net.agent, listen=LISTEN, extra=MD5) as agent:
        server.answer = lambda r: [known(r, ttl_seconds=300, tcp_md5=KEY.encode()) if r.device_ip == net.router4 else blocked(r)]
        server.wait_control()
        wait_keys(agent, 0)
        before = agent.rss()
        rng = random.Random(1)
        begin = time.monotonic()
        for _ in range(20):
            packets = [md5.signed_syn(f"{rng.randrange(11, 120)}.{rng.randrange(256)}.{rng.randrange(256)}."
                                      f"{rng.randrange(1, 255)}", net.agent4, PORT, rng.randrange(1024, 65000))
                       for _ in range(2500)]
            md5.send_raw(packets, net.agent4, net.router)
        took = time.monotonic() - begin
        assert agent.health()
        asked = len(server.lookups())
        grown = agent.rss() - before
        print(f"50,000 SYNs in {took:.1f} s: {asked} lookups, {grown >> 10} KiB more, {agent.cpu_seconds():.1f} s of CPU, "
              f"{len(agent.log())} log lines")
        assert metric(agent, "kbgp_md5_syns_total") > 1000, "the flood did not arrive"
        assert asked < 20_000 and grown < 30 << 20
        lines = len(agent.log())
        assert lines < len(server.lookups()) + 200, "more lines than questions"
        with md5.connect(net.agent4, PORT, KEY, netns=net.router, timeout=40) as end:
            end.send(b"x" * 19)
            server.wait_data(1, 30).wait_data(19)


def test_no_core_dumps(workdir, certs, net):
    """Both programs have keys in memory; a crash must not write them to a file."""
    with programs(workdir, certs, net, {"router4": KEY}) as (agent, target):
        for program in (agent, target):
            limits = Path(f"/proc/{program.pid}/limits").read_text()
            assert re.search(r"^Max core file size +0 ", limits, re.MULTILINE), limits


def test_without_the_right_to_capture(workdir, net):
    """A clear error at the start."""
    agent = Agent(workdir, f"{net.target4}:4443", netns=net.agent, listen=LISTEN, extra=MD5)
    argv = ["setpriv", "--bounding-set", "-net_raw", "--inh-caps", "-net_raw", *agent.argv]
    done = run(argv, netns=net.agent, env=agent.env, timeout=30)
    assert done.returncode == 1
    assert re.search("CAP_NET_RAW", done.stderr) and "md5" in done.stderr.lower(), done.stderr


def test_only_the_two_rights(workdir, certs, net):
    """As somebody else with exactly CAP_NET_RAW and CAP_NET_BIND_SERVICE, on port 179."""
    inventory, token = inventory_with(workdir, {"router4": net.router4})
    inventory.set_password("router4", KEY)
    with Target(workdir, inventory, tls=certs.good, netns=net.target, listen=[f"{net.target4}:4443"]) as target:
        agent = Agent(workdir, f"{net.target4}:4443", insecure=False, token=token, netns=net.agent,
                      listen=["0.0.0.0:179", "[::]:179"], extra=MD5)
        # the programs' folder may be closed to others, so what they read is opened before: the CA comes inline
        ca = Path("/tmp") / f"kbgp-test-ca-{os.getpid()}.pem"
        program = Path("/tmp") / f"kbgp-test-{os.getpid()}"
        try:
            ca.write_bytes(certs.ca.read_bytes())
            ca.chmod(0o644)
            program.write_bytes(Path(agent.argv[0]).read_bytes())
            program.chmod(0o755)
            caps = "+net_raw,+net_bind_service"
            agent.argv = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps", f"-all,{caps}",
                          "--ambient-caps", f"-all,{caps}", "--bounding-set", f"-all,{caps}", str(program), *agent.argv[1:],
                          "--ca-file", str(ca)]
            with agent:
                agent.wait_control()
                wait_keys(agent, 1)
                with md5.connect(net.agent4, 179, KEY, netns=net.router):
                    agent.wait_sessions(1)
                    target.wait_for_log("session opened")
        finally:
            ca.unlink()
            program.unlink(missing_ok=True)


def test_switched_off(workdir, certs, net):
    """Without --enable-md5-support a device with a key is let in unsigned, with one warning."""
    inventory, token = inventory_with(workdir, {"router4": net.router4})
    inventory.set_password("router4", KEY)
    with Target(workdir, inventory, tls=certs.good, netns=net.target, listen=[f"{net.target4}:4443"]), \
            Agent(workdir, f"{net.target4}:4443", ca_file=certs.ca, token=token, netns=net.agent, listen=LISTEN) as agent:
        agent.wait_control()
        for _ in range(3):
            with md5.connect(net.agent4, PORT, netns=net.router):
                agent.wait_sessions(1)
            wait_for(lambda: not agent.sessions(), "end of the session")
        assert len(agent.find_log(level="warn", pattern="md5")) == 1
