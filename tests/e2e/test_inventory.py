# SPDX-License-Identifier: Apache-2.0
"""The inventory commands of kbgp-target, alone and beside a running server."""

import json

import pytest

from harness import paths
from harness.agent import EMAIL, Agent
from harness.proc import run
from harness.scene import chain, inventory_with
from harness.target import Inventory, Target
from harness.tcp_peer import Backend
from harness.wait import wait_for

DENIED = "Deny-listed an INVALID / UNKNOWN device"


@pytest.fixture
def empty(workdir):
    return Inventory(workdir / "kbgp.db")


@pytest.fixture
def inventory(empty):
    """With the account that sites and devices belong to."""
    empty.add_account()
    return empty


def refused(inventory, *words, about):
    """The command fails, says why on stderr naming `about`, and prints nothing on stdout."""
    result = inventory.run(*words, check=False)
    assert result.returncode in (1, 2), result
    assert about in result.stderr, result.stderr
    assert result.stdout == ""
    return result


def test_account_add_prints_the_token_alone_and_keeps_only_a_hash(empty):
    inventory = empty
    token = inventory.add_account("a@example.com")
    assert len(token) >= 32
    assert token != inventory.add_account("b@example.com")
    for file in inventory.db.parent.iterdir():
        assert token.encode() not in file.read_bytes(), file
    listed = inventory.run("account", "list").stdout
    assert "a@example.com" in listed and "b@example.com" in listed and token not in listed
    assert inventory.db.stat().st_mode & 0o077 == 0, "the database is nobody else's business"


def test_account_errors(empty):
    inventory = empty
    inventory.add_account("a@example.com")
    refused(inventory, "account", "add", "a@example.com", about="a@example.com")
    refused(inventory, "account", "remove", "nobody@example.com", about="nobody@example.com")
    refused(inventory, "account", "add", about="EMAIL")
    inventory.run("account", "remove", "a@example.com")
    assert "a@example.com" not in inventory.run("account", "list").stdout


def test_devices_are_listed_as_json_and_as_text(inventory):
    inventory.add_site("north", 11)
    inventory.add_device("router_one", "10.0.0.1", "2001:DB8:0:0::1", site=11, asn=4200000001)
    inventory.add_device("router_two", "::ffff:10.0.0.2")
    one, two = inventory.device("router_one"), inventory.device("router_two")
    assert "10.0.0.1" in json.dumps(one) and '"2001:db8::1"' in json.dumps(one), "addresses in their canonical form"
    assert '"10.0.0.2"' in json.dumps(two), "a mapped address is its IPv4 address"
    assert 4200000001 in one.values() or "4200000001" in one.values()
    text = inventory.run("device", "list").stdout
    assert "router_one" in text and "10.0.0.1" in text and "router_two" in text
    inventory.run("device", "remove", "router_one")
    assert inventory.device("router_one") is None and inventory.device("router_two")


def test_empty_lists_are_json_too(inventory):
    assert inventory.devices() == []


@pytest.mark.parametrize("words, about", [
    (["device", "add", "router_two"], "--address"),
    (["device", "add", "router_two", "--address", "10.0.0.256"], "10.0.0.256"),
    (["device", "add", "router_two", "--address", "10.0.0.0/8/8"], "10.0.0.0/8/8"),
    (["device", "add", "router_two", "--address", "10.0.0.9", "--asn", "4294967296"], "4294967296"),
    (["device", "add", "router_two", "--address", "10.0.0.9", "--asn", "x"], "x"),
    (["device", "add", "router_two", "--address", "10.0.0.9", "--site", "99"], "99"),
    (["device", "add", "", "--address", "10.0.0.9"], "NAME"),
    (["device", "add", "router_one", "--address", "10.0.0.9"], "router_one"),
    (["device", "remove", "router_nine"], "router_nine"),
    (["device", "paint", "router_one"], "paint"),
    (["device", "add", "router_two", "--address", "10.0.0.9", "--colour", "red"], "--colour"),
    (["site", "add", "north", "--id", "-3"], "-3"),
    (["site", "add", "north", "--id", "x"], "x"),
], ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_bad_commands_are_refused_and_change_nothing(inventory, words, about):
    inventory.add_device("router_one", "10.0.0.1")
    before = inventory.devices()
    refused(inventory, *words, about=about)
    assert inventory.devices() == before


def test_an_address_belongs_to_one_device_of_a_site(inventory):
    """The same in several sites is what `sid` is for; twice in one site, in whatever spelling, is an error."""
    inventory.add_site("north", 11)
    inventory.add_site("south", 12)
    inventory.add_device("router_north", "10.0.0.1", "2001:db8::1", site=11)
    inventory.add_device("router_south", "10.0.0.1", "2001:db8::1", site=12)
    for address in ("10.0.0.1", "::ffff:10.0.0.1", "2001:db8::1", "2001:0DB8:0::0001"):
        refused(inventory, "device", "add", "router_x", "--address", address, "--site", 11, about="router_north")
    assert len(inventory.devices()) == 2


def test_sites(inventory):
    inventory.add_site("north", 11)
    inventory.add_site("south")
    listed = inventory.run("site", "list").stdout
    assert "north" in listed and "11" in listed and "south" in listed
    refused(inventory, "site", "add", "north", about="north")
    refused(inventory, "site", "add", "other", "--id", 11, about="11")


def test_a_database_that_cannot_be_opened(workdir):
    folder = workdir / "a-folder"
    folder.mkdir()
    (workdir / "no-database").write_text("this is not SQLite " * 100)
    for path in (folder, workdir / "missing" / "kbgp.db", workdir / "no-database"):
        result = Inventory(path).run("account", "add", "a@example.com", check=False)
        assert result.returncode == 1 and str(path) in result.stderr, result.stderr


def test_help_names_the_commands():
    text = run([paths.kbgp_target(), "--help"]).stdout
    for word in ("account", "site", "device", "serve"):
        assert word in text
    for words in (["account"], ["device", "paint"], []):
        assert run([paths.kbgp_target(), *words]).returncode == 2


def test_a_device_added_while_the_agent_runs_is_let_in_at_once(workdir, certs):
    """It was refused for 20 minutes; the inventory's change is pushed, and the agent asks nobody."""
    with Backend() as backend, chain(workdir, certs, {"router_one": "127.0.0.2"}, backend=backend.url) as (agent, target):
        with agent.connect("127.0.0.3") as device:
            device.wait_ended()
        agent.wait_for_log(DENIED)
        target.inventory.add_device("router_two", "127.0.0.3")
        devices = [agent.connect("127.0.0.3")]
        try:
            def let_in():
                if devices[-1].ended:
                    devices.append(agent.connect("127.0.0.3"))
                return backend.count()

            wait_for(let_in, "a session of the new device")
            devices[-1].send(b"hello")
            backend.accept().wait_received(5)
        finally:
            for d in devices:
                d.close()
        assert len(agent.find_log(DENIED)) == 1


def test_a_removed_device_loses_its_session(workdir, certs):
    with Backend() as backend, \
            chain(workdir, certs, {"router_one": "127.0.0.2", "router_two": "127.0.0.3"}, backend=backend.url) \
            as (agent, target), agent.connect("127.0.0.2") as device, agent.connect("127.0.0.3") as other:
        agent.wait_sessions(2)
        target.inventory.run("device", "remove", "router_one")
        device.wait_ended()
        agent.wait_sessions(1)
        assert other.ended is None


def test_a_removed_account_is_no_longer_let_in(workdir):
    inventory, token = inventory_with(workdir, {})
    with Target(workdir, inventory) as target:
        inventory.run("account", "remove", EMAIL)
        with Agent(workdir, target.address, token=token) as agent:
            agent.wait_for_log(level="warn error", pattern="unauthenticated|token|credential")
            assert not agent.status()["ControlStream"]["Connected"]
