# SPDX-License-Identifier: Apache-2.0
"""Whoever ends first, through both programs: every byte already sent arrives before the connection closes."""

import threading

import pytest

from harness import bgp
from harness.pattern import Pattern, assert_stream
from harness.scene import chain
from harness.tcp_peer import Backend
from harness.wait import wait_for

LENGTH = 1 << 20
LAST = bgp.shutdown_notification("last words")


@pytest.fixture
def whole(workdir, certs):
    """(agent, target, backend): the chain before a scripted daemon."""
    with Backend() as backend, chain(workdir, certs, {"router_one": "127.0.0.2"}, backend=backend.url) as (agent, target):
        yield agent, target, backend
        wait_for(lambda: not agent.sessions(), "no session left")


@pytest.mark.parametrize("who", ["device", "backend"])
def test_last_words_before_fin(whole, who):
    agent, _target, backend = whole
    with agent.connect() as device:
        daemon = backend.accept()
        speaker, listener = (device, daemon) if who == "device" else (daemon, device)
        speaker.send_pattern(who, LENGTH)
        speaker.send(LAST)
        speaker.close()
        assert listener.wait_ended() == "fin"
        assert listener.received.endswith(LAST)
        assert_stream(who, bytes(listener.received[:-len(LAST)]), LENGTH, "the other side")


@pytest.mark.parametrize("who", ["device", "backend"])
def test_last_words_to_a_slow_reader(whole, who):
    """The listener reads nothing until the speaker has long closed."""
    agent, _target, backend = whole
    with agent.connect() as device:
        daemon = backend.accept()
        speaker, listener = (device, daemon) if who == "device" else (daemon, device)
        listener.pause()
        sender = threading.Thread(target=lambda: (speaker.send_pattern(who, LENGTH), speaker.send(LAST), speaker.half_close()))
        sender.start()
        sender.join(2)
        listener.resume()
        assert listener.wait_ended() == "fin"
        sender.join()
        assert listener.received.endswith(LAST)
        assert_stream(who, bytes(listener.received[:-len(LAST)]), LENGTH, "the other side")


def test_half_close_of_the_device(whole):
    """After the device's FIN the daemon still talks, and is heard to its end."""
    agent, _target, backend = whole
    with agent.connect() as device:
        daemon = backend.accept()
        device.send(b"that was all")
        device.half_close()
        assert daemon.wait_ended() == "fin" and daemon.received == b"that was all"
        daemon.send_pattern("down", LENGTH)
        daemon.close()
        assert device.wait_ended() == "fin"
        assert_stream("down", bytes(device.received), LENGTH, "device")


@pytest.mark.parametrize("who", ["device", "backend"])
def test_reset_reaches_the_other_side(whole, who):
    agent, _target, backend = whole
    with agent.connect() as device:
        daemon = backend.accept()
        breaker, other = (device, daemon) if who == "device" else (daemon, device)
        breaker.send(b"x")
        other.wait_received(1)
        breaker.reset()
        other.wait_ended()


def test_bytes_both_ways_at_full_speed(whole):
    """Both directions at once, no deadlock, no byte lost."""
    agent, _target, backend = whole
    length = 16 << 20
    with agent.connect() as device:
        daemon = backend.accept()
        senders = [threading.Thread(target=device.send_pattern, args=("up", length)),
                   threading.Thread(target=daemon.send_pattern, args=("down", length))]
        for s in senders:
            s.start()
        assert_stream("up", daemon.wait_received(length), length, "backend")
        assert_stream("down", device.wait_received(length), length, "device")
        for s in senders:
            s.join()


def test_sigterm_to_the_agent(workdir, certs):
    """Data already taken is delivered, the device gets a plain FIN, the daemon as well, exit code 0 within its five seconds."""
    with Backend() as backend, chain(workdir, certs, {"router_one": "127.0.0.2"}, backend=backend.url) as (agent, _target):
        with agent.connect() as device:
            daemon = backend.accept()
            device.send_pattern("up", LENGTH)
            daemon.wait_received(1)
            daemon.send(b"hello")
            device.wait_received(5)
            assert agent.stop(timeout=10) == 0
            assert device.wait_ended() in ("fin", "rst")
            assert daemon.wait_ended() == "fin"
            received = len(daemon.received)
            assert_stream("up", bytes(daemon.received), received, "backend")


def test_sigterm_to_the_target(workdir, certs):
    """The daemon's side is closed, the agent lives on and says that the target is gone."""
    with Backend() as backend, chain(workdir, certs, {"router_one": "127.0.0.2"}, backend=backend.url) as (agent, target):
        with agent.connect() as device:
            daemon = backend.accept()
            device.send(b"x")
            daemon.wait_received(1)
            assert target.stop(timeout=10) == 0
            daemon.wait_ended()
            wait_for(lambda: not agent.status()["ControlStream"]["Connected"], "Control down in the status")
            agent.assert_running()


def test_collector_ends_a_session_that_speaks_no_bgp(workdir, certs):
    """Garbage from a router: a NOTIFICATION comes back, the session ends, others do not notice."""
    with chain(workdir, certs, {"router_one": "127.0.0.2", "router_two": "127.0.0.3"}) as (agent, target):
        with agent.connect("127.0.0.3") as good, agent.connect("127.0.0.2") as bad:
            speaker = bgp.Speaker(good)
            speaker.establish()
            target.wait_event("established", address="127.0.0.3")
            bad.send(Pattern(1).take(5000))
            bad.wait_ended()
            kind, body = bgp.parse(bytes(bad.received))[0][-1]
            assert (kind, body[0]) == (bgp.NOTIFICATION, 1), "Message Header Error"
            target.wait_event("close", address="127.0.0.2")
            assert target.wait_event("notification", address="127.0.0.2")["direction"] == "sent"
            good.send(bgp.update(["10.1.0.0/16"], path=[65001, 65002]))
            target.wait_prefixes(1, {"10.1.0.0/16"})
            assert good.ended is None


def test_collector_on_each_kind_of_message(workdir, certs):
    """What a scripted router says stands in the JSON lines as it was said."""
    with chain(workdir, certs, {"router_one": "127.0.0.2"}) as (agent, target), agent.connect() as device:
        speaker = bgp.Speaker(device, asn=4200000001, router_id="10.9.8.7")
        body = speaker.establish(hold_time=30)
        assert body[0] == 4, "BGP version"
        opened = target.wait_event("open")
        assert (opened["asn"], opened["router_id"], opened["hold_time"]) == (4200000001, "10.9.8.7", 30)
        assert opened["address"] == "127.0.0.2" and opened["device"] == "router_one"
        device.send(bgp.update(["10.1.0.0/16", "10.2.3.0/24", "0.0.0.0/0"], path=[65001, 4200000002], next_hop="192.0.2.7"))
        device.send(bgp.update6(["2001:db8:1::/48", "::/0"], path=[65001], next_hop="2001:db8::7"))
        target.wait_prefixes(1, {"10.1.0.0/16", "10.2.3.0/24", "0.0.0.0/0"})
        target.wait_prefixes(2, {"2001:db8:1::/48", "::/0"})
        four, six = target.events("announce", afi=1)[0], target.events("announce", afi=2)[0]
        assert (four["as_path"], four["next_hop"], four["origin"]) == ("65001 4200000002", "192.0.2.7", "igp")
        assert (six["as_path"], six["next_hop"]) == ("65001", "2001:db8::7")
        device.send(bgp.update(withdrawn=["10.1.0.0/16"]) + bgp.update6(withdrawn=["::/0"]))
        target.wait_prefixes(1, {"10.2.3.0/24", "0.0.0.0/0"})
        target.wait_prefixes(2, {"2001:db8:1::/48"})
        device.send(bgp.update())  # no routes at all: End-of-RIB
        target.wait_event("end-of-rib", afi=1)
        device.send(LAST)
        told = target.wait_event("notification")
        assert (told["direction"], told["code"], told["subcode"], told["text"]) == ("received", 6, 2, "last words")
        assert "shutdown" in told["name"].lower()
        device.close()
        assert target.wait_event("close")["reason"]


def test_collector_hold_timer(workdir, certs):
    """A router that falls silent gets NOTIFICATION 4 (Hold Timer Expired), and KEEPALIVEs before."""
    with chain(workdir, certs, {"router_one": "127.0.0.2"}) as (agent, target), agent.connect() as device:
        speaker = bgp.Speaker(device)
        speaker.establish(hold_time=3)
        assert speaker.wait_message(bgp.NOTIFICATION)[0] == 4
        assert len(speaker.of_type(bgp.KEEPALIVE)) >= 2, "a third of the hold time passed more than once"
        device.wait_ended()
        target.wait_event("close")
