# SPDX-License-Identifier: Apache-2.0
"""
A target made of Python's grpcio: an independent gRPC implementation as the server of our client, and a script that can
do whatever a test wants, right or wrong.

By default it is a good target: KEEPALIVE is echoed, every device is known, counters are kept for each session-id and told
in the initial metadata, and what a device sends is collected.
"""

import queue
import threading
import time
from concurrent import futures

import grpc

from . import schema
from .ports import free_port
from .schema import KEEPALIVE, KILL, RESTART, ControlResponse, DataResponse
from .wait import DEADLINE, wait_for

OPTIONS = [
    ("grpc.max_receive_message_length", 16 << 20),
    ("grpc.max_send_message_length", -1),
    ("grpc.http2.bdp_probe", 0),  # windows stay small, so that backpressure is seen early
    ("grpc.http2.lookahead_bytes", 65536),
    ("grpc.so_reuseport", 0),
]

# What HTTP/2 and gRPC add to a call of their own accord; the rest is the application's.
TRANSPORT_KEYS = {"user-agent", "accept-encoding", "te", "content-type"}


def _serialize(message):
    """Bytes go out as they are, so that a test can send what is no protobuf."""
    return message if isinstance(message, bytes) else message.SerializeToString()


class _Call:
    """What Control and Data calls have in common: metadata, an outgoing queue, an end."""

    def __init__(self, server, context):
        self.server, self.context = server, context
        self.peer = context.peer()
        self.time = time.monotonic()
        self.all_metadata = {}
        for key, value in context.invocation_metadata():
            self.all_metadata.setdefault(key, []).append(value)
        self.metadata = {k: v for k, v in self.all_metadata.items()
                         if k not in TRANSPORT_KEYS and not k.startswith("grpc-")}
        self.sent = 0                  # messages that gRPC has taken
        self.client_done = False       # END_STREAM seen (or the call is dead)
        self.over = threading.Event()  # the call has ended, whoever ended it
        self._out = queue.Queue()
        self._closing = threading.Lock()
        self._finished = False
        context.add_callback(self._ended)

    def value(self, key):
        values = self.metadata[key]
        assert len(values) == 1, (key, values)
        return values[0]

    def _ended(self):
        self.over.set()
        self.client_done = True
        self._out.put(None)

    def finish(self, code=grpc.StatusCode.OK, details=""):
        """Ends the call with a status after everything that was sent before."""
        with self._closing:
            if not self._finished:
                self._finished = True
                self._out.put((code, details))

    def _responses(self):
        while True:
            item = self._out.get()
            if item is None:
                return
            if isinstance(item, tuple):
                self.context.set_code(item[0])
                self.context.set_details(item[1])
                return
            self._count(item)
            self.sent += 1
            yield item

    def _count(self, message):
        pass

    def wait_over(self, timeout=DEADLINE):
        wait_for(self.over.is_set, "end of the call", timeout)


class ControlCall(_Call):
    def __init__(self, server, context):
        super().__init__(server, context)
        self.requests = []

    def read(self, iterator):
        try:
            for request in iterator:
                self.requests.append(request)
                if request.action == KEEPALIVE:
                    if self.server.echo_keepalive:
                        self.push(ControlResponse(action=KEEPALIVE))
                    continue
                answer = self.server.answer
                for response in (answer(request) if callable(answer) else answer) or ():
                    self.push(response)
        except Exception:  # the call broke off
            pass
        self.client_done = True
        self.finish()

    def push(self, response):
        """Sends a ControlResponse, asked for or not."""
        self._out.put(response)

    def lookups(self):
        return [r for r in self.requests if r.action != KEEPALIVE]


class Session:
    """What the server knows about a session-id across all its Data calls."""

    def __init__(self, session_id):
        self.id = session_id
        self.calls = []
        self.received_messages = 0
        self.sent_messages = 0
        self.received_actions = 0
        self.sent_actions = 0
        self.data = bytearray()

    @property
    def call(self):
        """The newest call."""
        return self.calls[-1]

    def send_stream(self, data, piece=8192, stop=None):
        """
        Sends `data` in pieces over whatever call is current, through any number of RESTARTs: what an ending call no
        longer takes goes over the next one. Returns how many bytes were sent, which are fewer when `stop` was set meanwhile.
        """
        for at in range(0, len(data), piece):
            message = DataResponse(data=[bytes(data[at:at + piece])])
            while not self.call.offer(message):
                time.sleep(0.005)
                if stop is not None and stop.is_set():
                    return at
        return len(data)


class DataCall(_Call):
    def __init__(self, server, context):
        super().__init__(server, context)
        self.session_id = self.value("session-id")
        self.session = server.session(self.session_id)
        self.counted = (self.session.received_messages, self.session.sent_messages)  # at the call's beginning
        self.requests = []
        self.got_restart = False
        self.got_kill = False
        self._sending = True
        self._restarting = False
        self._reading = threading.Event()
        self._reading.set()

    def read(self, iterator):
        """One message at a time, on demand: while paused, the HTTP/2 window of the stream is not opened further."""
        try:
            while True:
                self._reading.wait()
                request = next(iterator)
                self.session.received_messages += 1
                self.session.received_actions += request.action != 0
                self.session.data += b"".join(request.data)
                if self.server.keep_requests:
                    self.requests.append(request)
                if request.action == KILL:
                    self.got_kill = True
                elif request.action == RESTART:
                    self.got_restart = True
                    if not self._restarting and self.server.follow_restart:
                        self.restart()
        except StopIteration:
            pass
        except Exception:  # the call broke off
            pass
        self.client_done = True
        if self.got_restart or self.server.end_with_client:
            self.finish()

    def _count(self, message):
        self.session.sent_messages += 1
        self.session.sent_actions += not isinstance(message, bytes) and message.action != 0

    # the script

    def send(self, *data, action=0):
        """Sends a DataResponse with these data fields."""
        self._out.put(DataResponse(action=action, data=list(data)))

    def send_raw(self, data):
        """Sends bytes in a message's place."""
        self._out.put(data)

    def offer(self, message):
        """Sends unless the call is ending or four messages are waiting already; returns whether it was taken."""
        with self._closing:
            if not self._sending or self._finished or self.over.is_set() or self._out.qsize() >= 4:
                return False
            self._out.put(message)
            return True

    def restart(self):
        """Our RESTART: nothing is sent after it."""
        with self._closing:
            if self._sending and not self._finished:
                self._sending, self._restarting = False, True
                self._out.put(DataResponse(action=RESTART))

    def kill(self):
        with self._closing:
            self._sending = False
            self._out.put(DataResponse(action=KILL))

    def pause(self):
        self._reading.clear()

    def resume(self):
        self._reading.set()

    def wait_data(self, length, timeout=DEADLINE):
        """Waits until the session has received this many bytes (over all its calls), and returns them."""
        wait_for(lambda: len(self.session.data) >= length, f"{length} bytes from the device", timeout)
        return bytes(self.session.data)


class GrpcTarget:
    """
    The server. `answer`: function of a ControlRequest that returns the ControlResponses (a list; empty: none now).
    `initial_metadata`: function of a DataCall that returns its pairs. `refuse_control`, `refuse_data`: (status code,
    text) that ends such calls at once, or a function of the call that returns it or None.
    """

    def __init__(self, port=None, host="127.0.0.1", tls=None, workers=64, keep_requests=True, options=()):
        self.host, self.port = host, port or free_port()
        self.address = f"{host}:{self.port}" if ":" not in host else f"[{host}]:{self.port}"
        self.tls, self.workers, self.keep_requests = tls, workers, keep_requests
        self._options = [*OPTIONS, *options]
        self.controls, self.datas, self.sessions = [], [], {}
        self.echo_keepalive = True
        self.follow_restart = True
        self.end_with_client = True
        self.refuse_control = self.refuse_data = None
        self.answer = lambda request: [known(request)]
        self.initial_metadata = self.counters
        self._lock = threading.Lock()

    def __enter__(self):
        self._server = grpc.server(futures.ThreadPoolExecutor(self.workers), options=self._options)
        serialize = ControlResponse.SerializeToString
        handlers = {
            "Control": grpc.stream_stream_rpc_method_handler(
                self._control, schema.ControlRequest.FromString, serialize),
            "Data": grpc.stream_stream_rpc_method_handler(
                self._data, schema.DataRequest.FromString, _serialize),
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(schema.SERVICE, handlers),))
        if self.tls:
            cert, key = self.tls
            pair = (key.read_bytes(), cert.read_bytes())
            bound = self._server.add_secure_port(self.address, grpc.ssl_server_credentials([pair]))
        else:
            bound = self._server.add_insecure_port(self.address)
        assert bound == self.port
        self._server.start()
        return self

    def __exit__(self, exc_type, exc, tb):
        for call in self.controls + self.datas:
            call.finish()
            if isinstance(call, DataCall):
                call.resume()
        self._server.stop(0.1).wait()

    # what came in

    @property
    def control(self):
        """The newest Control call."""
        return self.controls[-1]

    def wait_control(self, number=1, timeout=DEADLINE):
        wait_for(lambda: len(self.controls) >= number, f"Control call {number}", timeout)
        return self.controls[number - 1]

    def wait_data(self, number=1, timeout=DEADLINE):
        """The Data call of this number, in the order of arrival."""
        wait_for(lambda: len(self.datas) >= number, f"Data call {number} (there are {len(self.datas)})", timeout)
        return self.datas[number - 1]

    def lookups(self):
        """All ControlRequests that ask about a device, over all Control calls."""
        return [r for c in self.controls for r in c.lookups()]

    def wait_lookups(self, number, timeout=DEADLINE):
        wait_for(lambda: len(self.lookups()) >= number, f"{number} lookups (there are {len(self.lookups())})", timeout)

    def session(self, session_id):
        with self._lock:
            return self.sessions.setdefault(session_id, Session(session_id))

    @staticmethod
    def counters(call):
        """Initial metadata as the contract has it."""
        return [("counter-up", str(call.session.received_messages)), ("counter-down", str(call.session.sent_messages))]

    # handlers

    def _control(self, iterator, context):
        call = ControlCall(self, context)
        self.controls.append(call)
        yield from self._serve(call, iterator, self.refuse_control)

    def _data(self, iterator, context):
        call = DataCall(self, context)
        pairs = self.initial_metadata(call)
        refusal = self.refuse_data(call) if callable(self.refuse_data) else self.refuse_data
        if refusal is None and pairs is not None:
            context.send_initial_metadata(pairs)
        call.session.calls.append(call)
        self.datas.append(call)
        yield from self._serve(call, iterator, refusal)

    @staticmethod
    def _serve(call, iterator, refusal):
        refusal = refusal(call) if callable(refusal) else refusal
        if refusal is not None:
            call.context.abort(*refusal)
        threading.Thread(target=call.read, args=(iterator,), daemon=True).start()
        yield from call._responses()


def known(request, ttl_seconds=0, ttl_counter=0, metadata=(), **more):
    """The answer about a device that the target knows."""
    return ControlResponse(
        proto=request.proto, device_ip=request.device_ip, device_port=request.device_port, proxy_ip=request.proxy_ip,
        proxy_port=request.proxy_port, ttl_seconds=ttl_seconds, ttl_counter=ttl_counter,
        metadata=[schema.KeyVal(key=k, val=v) for k, v in metadata],
        **{"company_id": 1289, "device_id": 127353, "device_name": "a6r_kx1", **more})


def blocked(request, ttl_seconds=1200):
    """The answer about a device that the target does not know."""
    return ControlResponse(proto=request.proto, device_ip=request.device_ip, device_port=request.device_port,
                           proxy_ip=request.proxy_ip, proxy_port=request.proxy_port, ttl_seconds=ttl_seconds,
                           action=schema.BLOCK_IP)


def pushed(device_ip, **fields):
    """A response that nobody asked for: it concerns every connection of the device."""
    return ControlResponse(proto="BGP", device_ip=device_ip, **fields)
