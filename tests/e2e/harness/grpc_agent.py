# SPDX-License-Identifier: Apache-2.0
"""An agent made of Python's grpcio: an independent gRPC client for our server, as right or wrong as a test wants."""

import queue
import threading
import uuid

import grpc

from . import schema
from .schema import KEEPALIVE, RESTART, ControlRequest, DataRequest
from .wait import DEADLINE, wait_for

OPTIONS = [
    ("grpc.max_receive_message_length", 16 << 20),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 65536),
]


def _serialize(message):
    """Bytes go out as they are, so that a test can send what is no protobuf."""
    return message if isinstance(message, bytes) else message.SerializeToString()


class Stream:
    """A bidirectional call: `send`, `half_close`, `messages` as they come, the status at the end."""

    def __init__(self, channel, path, response_type, metadata):
        self._out = queue.Queue()
        self._reading = threading.Event()
        self._reading.set()
        self.messages = []
        self.sent = 0  # messages that gRPC has asked for
        self.done = threading.Event()
        method = channel.stream_stream(path, request_serializer=_serialize,
                                       response_deserializer=response_type.FromString)
        self.call = method(self._requests(), metadata=metadata, wait_for_ready=True)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _requests(self):
        while True:
            item = self._out.get()
            if item is None:
                return
            self.sent += 1
            yield item

    def _read(self):
        try:
            while True:
                self._reading.wait()
                message = next(self.call)
                self.messages.append(message)
                self._take(message)
        except (StopIteration, grpc.RpcError):
            pass
        self.done.set()
        self._out.put(None)

    def _take(self, message):
        pass

    def send(self, message):
        self._out.put(message)

    def half_close(self):
        """END_STREAM after everything that was sent before."""
        self._out.put(None)

    def pause(self):
        self._reading.clear()

    def resume(self):
        self._reading.set()

    def cancel(self):
        self.call.cancel()

    def initial_metadata(self):
        """{key: [values]} of the response headers; waits for them."""
        pairs = {}
        for key, value in self.call.initial_metadata():
            pairs.setdefault(key, []).append(value)
        return pairs

    def status(self, timeout=DEADLINE):
        """(status code, text); waits for the end of the call."""
        assert self.done.wait(timeout), f"the call has not ended within {timeout:g} s"
        return self.call.code(), self.call.details()

    def wait_message(self, predicate=lambda message: True, timeout=DEADLINE):
        """The first message that fits."""

        def look():
            found = [m for m in list(self.messages) if predicate(m)]
            if not found and self.done.is_set():
                raise AssertionError(f"the call ended first: {self.call.code()} {self.call.details()!r}")
            return found

        return wait_for(look, "message of the server", timeout)[0]


class DataStream(Stream):
    """A Data call that collects what the device would get, and counts as the contract says."""

    def __init__(self, channel, metadata, received=None):
        self.data = received if received is not None else bytearray()
        self.received_messages = 0
        self.data_messages = 0
        super().__init__(channel, schema.DATA, schema.DataResponse, metadata)

    def _take(self, message):
        self.received_messages += 1
        self.data += b"".join(message.data)

    def send_data(self, *data, action=0):
        self.data_messages += 1
        self.send(DataRequest(action=action, data=list(data)))

    def wait_data(self, length, timeout=DEADLINE):
        wait_for(lambda: len(self.data) >= length or self.done.is_set(), f"{length} bytes from the backend", timeout)
        assert len(self.data) >= length, f"end of the call after {len(self.data)} of {length} bytes: {self.status()}"
        return bytes(self.data)

    def got(self, action):
        return any(m.action == action for m in list(self.messages))

    def restart(self):
        """A graceful RESTART that the client starts: RESTART, END_STREAM, the server's RESTART, the end with OK."""
        self.send_data(action=RESTART)
        self.half_close()
        self.wait_message(lambda m: m.action == RESTART)
        return self.status()


class GrpcAgent:
    """The client: a channel, and the metadata that an agent sends."""

    def __init__(self, address, email, token, ca_file=None, site=None, version="1.0-test", options=()):
        self.address, self.email, self.token, self.site, self.version = address, email, token, site, version
        self.instance = str(uuid.uuid4())
        self._ca_file, self._options = ca_file, [*OPTIONS, *options]

    def __enter__(self):
        if self._ca_file is not None:
            credentials = grpc.ssl_channel_credentials(root_certificates=self._ca_file.read_bytes())
            self.channel = grpc.secure_channel(self.address, credentials, self._options)
        else:
            self.channel = grpc.insecure_channel(self.address, self._options)
        return self

    def __exit__(self, exc_type, exc, tb):
        self.channel.close()

    def metadata(self, **changes):
        """Metadata of Control; a change to None leaves the key out. Underscores in names stand for dashes."""
        pairs = {"x-ch-auth-email": self.email, "x-ch-auth-api-token": self.token, "version": self.version,
                 "instance": self.instance}
        if self.site is not None:
            pairs["sid"] = str(self.site)
        return _changed(pairs, changes)

    def data_metadata(self, ip, up=0, down=0, **changes):
        """Metadata of Data; changes as in `metadata`."""
        pairs = dict(self.metadata())
        pairs.update({"proto": "BGP", "device-ip": ip, "device-port": "40000", "proxy-ip": "127.0.0.1",
                      "proxy-port": "179", "session-id": str(uuid.uuid4()), "counter-up": str(up),
                      "counter-down": str(down)})
        return _changed(pairs, changes)

    def control(self, metadata=None):
        return Stream(self.channel, schema.CONTROL, schema.ControlResponse, metadata or self.metadata())

    def lookup(self, control, device_ip, device_port=40000):
        """Asks Control about a device and returns the answer."""
        control.send(ControlRequest(proto="BGP", device_ip=device_ip, device_port=device_port, proxy_ip="127.0.0.1",
                                    proxy_port=179))
        return control.wait_message(lambda m: m.action != KEEPALIVE and m.device_ip == device_ip
                                    and m.device_port in (0, device_port))

    def data(self, device_ip, metadata=None, received=None, **options):
        return DataStream(self.channel, metadata or self.data_metadata(device_ip, **options), received)

    def call(self, path, metadata=None):
        """A call of any path."""
        return Stream(self.channel, path, schema.ControlResponse, metadata or self.metadata())


def _changed(pairs, changes):
    pairs.update({k.replace("_", "-"): v for k, v in changes.items()})
    return [(k, v) for k, v in pairs.items() if v is not None]
