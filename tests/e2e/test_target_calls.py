# SPDX-License-Identifier: Apache-2.0
"""kbgp-target as a gRPC server, seen by grpcio: credentials, bad calls, Control."""

import grpc
import pytest

from harness import schema
from harness.agent import EMAIL
from harness.grpc_agent import GrpcAgent
from harness.scene import inventory_with, target_alone
from harness.schema import BLOCK_IP, KEEPALIVE, ControlRequest
from harness.target import Target
from harness.tcp_peer import Backend, connect
from harness.wait import wait_for

Code = grpc.StatusCode



@pytest.mark.parametrize("tls", [False, True], ids=["h2c", "tls"])
def test_keepalive_and_lookup(workdir, certs, tls):
    with target_alone(workdir, tls=certs.good if tls else None, ca_file=certs.ca if tls else None) \
            as (client, _backend, _target):
        control = client.control()
        control.send(ControlRequest(action=KEEPALIVE))
        assert control.wait_message().action == KEEPALIVE
        answer = client.lookup(control, "127.0.0.2", 41234)
        assert answer.action == 0 and answer.proto == "BGP"
        assert (answer.device_ip, answer.device_port, answer.proxy_ip, answer.proxy_port) \
            == ("127.0.0.2", 41234, "127.0.0.1", 179)
        assert answer.device_name == "router_one" and answer.device_id > 0 and answer.company_id > 0
        pairs = {pair.key: list(pair.val) for pair in answer.metadata}
        assert len(pairs["backend-pin"]) == 1 and pairs["backend-pin"][0]
        control.half_close()
        assert control.status()[0] == Code.OK


def test_an_unknown_device_is_blocked(workdir):
    with target_alone(workdir) as (client, backend, _target):
        control = client.control()
        answer = client.lookup(control, "127.0.0.99")
        assert answer.action == BLOCK_IP and answer.ttl_seconds == 1200 and answer.ttl_counter == 0
        code, text = client.data("127.0.0.99").status()
        assert code == Code.PERMISSION_DENIED and text
        assert backend.count() == 0


@pytest.mark.parametrize("changes", [
    {"x_ch_auth_api_token": "wrong"}, {"x_ch_auth_email": "nobody@example.com"}, {"x_ch_auth_api_token": ""},
    {"x_ch_auth_api_token": None}, {"x_ch_auth_email": None}], ids=str)
def test_bad_credentials(workdir, changes):
    """UNAUTHENTICATED (a missing key may as well be called INVALID_ARGUMENT), with a text, and the token is not in it."""
    with target_alone(workdir) as (client, backend, target):
        missing = None in changes.values()
        allowed = (Code.UNAUTHENTICATED, Code.INVALID_ARGUMENT) if missing else (Code.UNAUTHENTICATED,)
        for stream in (client.control(client.metadata(**changes)),
                       client.data("127.0.0.2", client.data_metadata("127.0.0.2", **changes))):
            code, text = stream.status()
            assert code in allowed and text, (code, text)
            assert client.token not in text
        assert backend.count() == 0
        assert client.token not in target.output()
        control = client.control()  # and the right ones still work
        assert client.lookup(control, "127.0.0.2").action == 0


@pytest.mark.parametrize("key", ["session_id", "counter_up", "counter_down", "device_ip", "device_port", "proto"])
def test_missing_metadata(workdir, key):
    with target_alone(workdir) as (client, backend, _target):
        code, text = client.data("127.0.0.2", client.data_metadata("127.0.0.2", **{key: None})).status()
        assert code == Code.INVALID_ARGUMENT and key.replace("_", "-") in text, (code, text)
        assert backend.count() == 0


@pytest.mark.parametrize("changes", [
    {"session_id": "not-a-uuid"}, {"counter_up": "-1"}, {"counter_up": "1x"}, {"counter_down": "99999999999999999999999"},
    {"device_ip": "10.0.0.256"}, {"device_port": "65536"}, {"proto": "SMTP"}, {"sid": "one"}], ids=str)
def test_malformed_metadata(workdir, changes):
    with target_alone(workdir) as (client, backend, _target):
        code, text = client.data("127.0.0.2", client.data_metadata("127.0.0.2", **changes)).status()
        assert code == Code.INVALID_ARGUMENT and text, (code, text)
        assert backend.count() == 0


@pytest.mark.parametrize("path", [f"/{schema.SERVICE}/Dump", "/other.Service/Control", "/", "/x"])
def test_unknown_method(workdir, path):
    with target_alone(workdir) as (client, _backend, _target):
        code, _text = client.call(path).status()
        assert code == Code.UNIMPLEMENTED


@pytest.mark.parametrize("junk", [b"\x0a\xff\xff\xff\xff\x7f", b"\xff\xff\xff", b"\x07", b"\x0a\x02\xff\xfe"],
                         ids=["length", "varint", "wire-type", "utf-8"])
def test_malformed_control_message(workdir, junk):
    """Named as the client's fault; bad UTF-8 in a string may also be let through as an unknown device."""
    with target_alone(workdir) as (client, _backend, target):
        control = client.control()
        control.send(junk)
        if junk.startswith(b"\x0a\x02"):
            control.half_close()
            assert control.status()[0] in (Code.OK, Code.INVALID_ARGUMENT, Code.INTERNAL)
        else:
            assert control.status()[0] in (Code.INVALID_ARGUMENT, Code.INTERNAL)
        target.assert_running()
        assert client.lookup(client.control(), "127.0.0.2").action == 0


def test_sites(workdir):
    """The same address in two sites: `sid` chooses; another site does not know it."""
    inventory, token = inventory_with(workdir, {})
    inventory.add_site("north", 11)
    inventory.add_site("south", 12)
    inventory.add_device("router_north", "127.0.0.2", site=11)
    inventory.add_device("router_south", "127.0.0.2", site=12)
    inventory.add_device("router_only", "127.0.0.3", site=12)
    with Backend() as backend, Target(workdir, inventory, backend=backend.url) as target:
        for site, name in ((11, "router_north"), (12, "router_south")):
            with GrpcAgent(target.address, EMAIL, token, site=site) as client:
                assert client.lookup(client.control(), "127.0.0.2").device_name == name
                stream = client.data("127.0.0.2")
                stream.initial_metadata()
                backend.accept()
                stream.cancel()
        with GrpcAgent(target.address, EMAIL, token, site=11) as client:
            assert client.lookup(client.control(), "127.0.0.3").action == BLOCK_IP
        with GrpcAgent(target.address, EMAIL, token) as client:  # no sid: any site
            assert client.lookup(client.control(), "127.0.0.3").device_name == "router_only"


def test_what_is_no_http2(workdir):
    """Raw bytes, HTTP/1.1, a connection that says nothing and one that closes: the server goes on."""
    with target_alone(workdir) as (client, _backend, target):
        for words in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", bytes(range(256)) * 50, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 99,
                      b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"):
            with connect(target.port, name="stranger") as stranger:
                stranger.send(words)
                if words[0] != 0x16:
                    stranger.wait_ended()
        connect(target.port, name="silent").close()
        idle = connect(target.port, name="idle")
        assert client.lookup(client.control(), "127.0.0.2").action == 0
        idle.close()
        target.assert_running()


def test_tls_of_a_client_that_does_not_trust_us(workdir, certs):
    with target_alone(workdir, tls=certs.stranger, ca_file=certs.ca) as (client, _backend, target):
        channel_ready = []
        client.channel.subscribe(channel_ready.append, try_to_connect=True)
        wait_for(lambda: grpc.ChannelConnectivity.TRANSIENT_FAILURE in channel_ready, "refusal of the certificate")
        assert grpc.ChannelConnectivity.READY not in channel_ready
        target.assert_running()
