# SPDX-License-Identifier: Apache-2.0
"""kbgp-target and MD5 passwords: pushed to the agents they concern, and spoken to its own backend."""

import sqlite3
import time
from pathlib import Path

import pytest

from harness import md5
from harness.agent import EMAIL
from harness.bird import Bird
from harness.grpc_agent import GrpcAgent
from harness.ports import free_port
from harness.proc import run
from harness.router import Peer, prefixes4
from harness.scene import chain, inventory_with, target_alone
from harness.schema import BLOCK_IP, KEEPALIVE, ControlRequest
from harness.target import Target
from harness.tcp_peer import Backend
from harness.wait import wait_for

KEY, OTHER = "first-Secret!", "second-Secret!"


def assert_small(program):
    """Memory is bounded; AddressSanitizer keeps what was freed for a while, and cannot tell."""
    if b"__asan_init" not in Path(program.argv[0]).read_bytes():
        assert program.rss() < 64 << 20


def pushes(control, ip=None):
    return [m for m in list(control.messages) if m.action != KEEPALIVE and m.device_port == 0 and ip in (None, m.device_ip)]


def wait_push(control, ip, what=lambda m: True):
    return control.wait_message(lambda m: m in pushes(control, ip) and what(m))


def wait_quiet(client, control):
    """What the server had to say before it has been said: two reviews have passed, and an answer."""
    time.sleep(1.5)
    before = len([m for m in control.messages if m.action == KEEPALIVE])
    control.send(ControlRequest(action=KEEPALIVE))
    wait_for(lambda: len([m for m in control.messages if m.action == KEEPALIVE]) > before, "keepalive")


def test_keys_are_pushed_when_control_opens(workdir):
    devices = {"one": ["127.0.0.2", "2001:db8::2"], "two": "127.0.0.3", "three": "127.0.0.4", "four": "127.0.0.5"}
    with target_alone(workdir, devices) as (client, _backend, target):
        target.inventory.set_password("one", KEY)
        target.inventory.set_password("two", OTHER)
        target.inventory.set_password("four", OTHER)
        target.inventory.run("device", "disable", "four")
        earlier = client.control()
        wait_push(earlier, "127.0.0.3")
        wait_quiet(client, earlier)  # what the changes themselves made the server do is over
        control = client.control()
        for ip, name, key in (("127.0.0.2", "one", KEY), ("2001:db8::2", "one", KEY), ("127.0.0.3", "two", OTHER)):
            m = wait_push(control, ip)
            assert (m.proto, m.device_port, m.proxy_ip, m.proxy_port) == ("BGP", 0, "", 0)
            assert (m.device_name, m.tcp_md5, m.action) == (name, key.encode(), 0)
            assert m.ttl_seconds > 0 and {p.key for p in m.metadata} == {"backend-pin"}
        wait_quiet(client, control)
        assert len(pushes(control)) == 3, "something else was pushed, or something twice"
        assert target.find_log("MD5 keys pushed to the agent")[-1]["addresses"] == 3


def test_changes_are_pushed(workdir):
    """Added to a device that nobody asked about, changed, removed, device gone: each once, at once."""
    with target_alone(workdir, {"one": "127.0.0.2", "two": "127.0.0.3"}) as (client, _backend, target):
        control = client.control()
        wait_quiet(client, control)
        assert not pushes(control)
        target.inventory.set_password("one", KEY)
        assert wait_push(control, "127.0.0.2").tcp_md5 == KEY.encode()
        target.inventory.set_password("one", OTHER)
        wait_push(control, "127.0.0.2", lambda m: m.tcp_md5 == OTHER.encode())
        target.inventory.run("device", "set", "one", "--asn", "65010")
        target.inventory.set_password("one", None)
        removed = wait_push(control, "127.0.0.2", lambda m: not m.tcp_md5)
        assert removed.action == 0 and removed.device_name == "one"
        target.inventory.set_password("one", KEY)
        wait_for(lambda: len(pushes(control)) == 4, "the key once more")
        target.inventory.run("device", "remove", "one")
        assert wait_push(control, "127.0.0.2", lambda m: m.action == BLOCK_IP).tcp_md5 == b""

        # a device that was asked about before it had a key
        assert client.lookup(control, "127.0.0.3").tcp_md5 == b""
        target.inventory.set_password("two", KEY)
        assert wait_push(control, "127.0.0.3").tcp_md5 == KEY.encode()
        assert client.lookup(control, "127.0.0.3", 40001).tcp_md5 == KEY.encode()
        wait_quiet(client, control)
        assert [bool(m.tcp_md5) for m in pushes(control)] == [True, True, False, True, False, True]


def test_only_its_company_and_site(workdir):
    inventory, token = inventory_with(workdir, {})
    inventory.add_site("fra", 7)
    inventory.add_site("ams", 8)
    inventory.add_device("of_fra", "127.0.0.2", site=7)
    inventory.add_device("of_ams", "127.0.0.2", site=8)
    inventory.add_device("ams_too", "127.0.0.3", site=8)
    inventory.add_device("of_none", "127.0.0.4")
    stranger = inventory.add_account("other@example.com")
    inventory.run("device", "add", "others", "--address", "127.0.0.9", "--account", "other@example.com")
    for name in ("of_fra", "of_ams", "ams_too", "of_none", "others"):
        inventory.set_password(name, f"key-of-{name}")
    with Backend() as backend, Target(workdir, inventory, backend=backend.url) as target:
        for who, secret, site, wanted in ((EMAIL, token, 7, {"of_fra"}), (EMAIL, token, 8, {"of_ams", "ams_too"}),
                                          (EMAIL, token, None, {"ams_too", "of_none"}),  # .2 is two devices: nobody's
                                          ("other@example.com", stranger, None, {"others"})):
            with GrpcAgent(target.address, who, secret, site=site) as client:
                control = client.control()
                wait_for(lambda: {m.device_name for m in pushes(control)} >= wanted, f"keys of {wanted}")
                wait_quiet(client, control)
                assert {m.device_name for m in pushes(control)} == wanted
                assert all(m.tcp_md5 == f"key-of-{m.device_name}".encode() for m in pushes(control))
                control.half_close()
                control.status()


def make_many(inventory, number):
    """Devices with keys; by hand, as one command each would take minutes."""
    with sqlite3.connect(inventory.db, timeout=30) as db:
        company = db.execute("SELECT id FROM account").fetchone()[0]
        for i in range(number):
            cursor = db.execute("INSERT INTO device (account_id, name, md5_key) VALUES (?, ?, ?)",
                                (company, f"many_{i}", f"key-{i}".encode()))
            db.execute("INSERT INTO device_address (device_id, position, account_id, site_id, address) VALUES (?, 0, ?, 0, ?)",
                       (cursor.lastrowid, company, f"127.1.{i // 250}.{i % 250 + 1}"))
    db.close()


def test_five_thousand_keys(workdir):
    """They come fast, also when all change at once, and the loop goes on meanwhile: keepalives are answered."""
    inventory, token = inventory_with(workdir, {"one": "127.0.0.2"})
    make_many(inventory, 5000)
    with Backend() as backend, Target(workdir, inventory, backend=backend.url) as target, \
            GrpcAgent(target.address, EMAIL, token) as client, GrpcAgent(target.address, EMAIL, token) as bystander:
        beside = bystander.control()
        wait_for(lambda: len(pushes(beside)) == 5000, "5,000 keys")
        begin = time.monotonic()
        control = client.control()
        slowest = watch_keepalives(beside, lambda: len(pushes(control)) >= 5000)
        took = time.monotonic() - begin
        assert {m.tcp_md5 for m in pushes(control)} == {f"key-{i}".encode() for i in range(5000)}
        with sqlite3.connect(inventory.db, timeout=30) as db:
            db.execute("UPDATE device SET md5_key = md5_key || CAST('x' AS BLOB) WHERE md5_key IS NOT NULL")
        db.close()
        begin = time.monotonic()
        slowest_change = watch_keepalives(beside, lambda: len(pushes(control)) >= 10000 and len(pushes(beside)) >= 10000)
        took_change = time.monotonic() - begin
        print(f"5,000 keys: {took:.2f} s, slowest keepalive {1000 * slowest:.0f} ms; "
              f"all changed, two agents: {took_change:.2f} s, {1000 * slowest_change:.0f} ms")
        assert took < 10 and took_change < 15
        assert max(slowest, slowest_change) < 1.0
        assert_small(target)


def watch_keepalives(control, done):
    """Sends keepalives until `done()`; the longest time for an answer."""
    worst = 0.0
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline, "not all keys came"
        before, begin = len(control.messages), time.monotonic()
        control.send(ControlRequest(action=KEEPALIVE))
        wait_for(lambda: any(m.action == KEEPALIVE for m in control.messages[before:]), "keepalive", 10, interval=0.005)
        worst = max(worst, time.monotonic() - begin)
    return worst


def test_an_agent_that_does_not_read_gets_all_later(workdir):
    """A change while the stream is stuck: nothing is lost, memory is bounded."""
    inventory, token = inventory_with(workdir, {})
    make_many(inventory, 5000)
    with Backend() as backend, Target(workdir, inventory, backend=backend.url) as target, \
            GrpcAgent(target.address, EMAIL, token) as client:
        control = client.control()
        control.pause()
        for change in range(8):
            with sqlite3.connect(inventory.db, timeout=30) as db:
                db.execute("UPDATE device SET md5_key = CAST(? || id AS BLOB)", (f"change{change}-",))
            db.close()
            time.sleep(0.6)
        assert_small(target)
        control.resume()

        def last():
            latest = {m.device_ip: m.tcp_md5 for m in pushes(control)}
            return len(latest) == 5000 and all(k.startswith(b"change7-") for k in latest.values())

        wait_for(last, "the last change of all devices")


def test_the_inventory_shows_no_key(workdir):
    inventory, _token = inventory_with(workdir, {"one": "127.0.0.2"})
    inventory.set_password("one", KEY)
    for words in (["device", "list"], ["device", "list", "--json"]):
        done = inventory.run(*words)
        assert KEY not in done.stdout + done.stderr
    assert inventory.device("one")["md5"] is True
    assert inventory.db.stat().st_mode & 0o777 == 0o600
    bad = workdir / "bad"
    bad.write_text("two words\n")
    done = inventory.run("device", "set", "one", "--md5-password-file", bad, check=False)
    assert done.returncode == 1 and str(bad) in done.stderr and "two words" not in done.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_backend_with_a_password(workdir, host):
    """The key is there before the first SYN; a wrong one ends the session with a clear line; SIGHUP reads a new one."""
    password = workdir / "password"
    password.write_text(KEY + "\n")
    inventory, token = inventory_with(workdir, {"router_one": "127.0.0.2"})
    with md5.SignedBackend(host, KEY, host) as backend, \
            Target(workdir, inventory, backend=backend.url, extra=["--backend-md5-password-file", password]) as target, \
            GrpcAgent(target.address, EMAIL, token) as client:
        call = client.data("127.0.0.2")
        end = backend.accept(5)  # a second SYN would come after 1 s, but nobody unsigned gets in at all
        call.send_data(b"hello")
        assert end.wait_received(5) == b"hello"
        end.send(b"welcome")
        assert call.wait_data(7) == b"welcome"

        password.write_text(OTHER)
        target.signal(1)
        target.wait_for_log("reloading")
        end.send(b"!")
        assert call.wait_data(8) == b"welcome!"
        second = client.data("127.0.0.2")
        failure = target.wait_for_log("cannot connect to the backend, the session ends", level="error")
        assert "no connection within" in failure["error"]
        second.status()
        backend.set_key(OTHER)
        third = client.data("127.0.0.2")
        third.send_data(b"again")
        assert backend.accept(10).wait_received(5) == b"again"

        password.write_text("not a password")
        target.signal(1)
        kept = target.wait_for_log("the backend's MD5 password stays as it was", level="error")
        assert str(password) in kept["error"] and "not a password" not in str(kept)
        call.cancel()
        third.cancel()
        assert KEY not in target.output() and OTHER not in target.output()


def test_a_password_file_that_cannot_be_used(workdir):
    inventory, _token = inventory_with(workdir, {})
    empty = workdir / "empty"
    empty.write_text("\n")
    for path, reason in ((empty, "1 to 80 printable ASCII"), (workdir / "none", "No such file"),
                         (workdir, "is not a regular file")):
        target = Target(workdir, inventory, backend="tcp://127.0.0.1:1", extra=["--backend-md5-password-file", path])
        done = run(target.argv, timeout=30)
        assert done.returncode == 1
        assert "--backend-md5-password-file" in done.stderr and str(path) in done.stderr and reason in done.stderr


def test_bird_with_a_password_behind_the_target(workdir, certs):
    port, password = free_port(), workdir / "password"
    password.write_text(KEY)
    routes = prefixes4(20)
    with Bird(workdir, [Peer("relayed", "127.0.0.1", "127.0.0.1", None, 65020, 65010, password=KEY)], {"down4": routes},
              listen_port=port, name="backend") as backend, \
            chain(workdir, certs, {"router_one": "127.0.0.7"}, backend=f"tcp://127.0.0.1:{port}",
                  target={"extra": ["--backend-md5-password-file", password]}) as (agent, _target), \
            Bird(workdir, [Peer("agent", "127.0.0.7", "127.0.0.1", agent.port, 65010, 65020)], name="router") as router:
        router.wait_established("agent")
        backend.wait_established("relayed")
        router.wait_count("agent", len(routes))
