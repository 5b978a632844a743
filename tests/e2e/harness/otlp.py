# SPDX-License-Identifier: Apache-2.0
"""
OTLP/HTTP in JSON: a check of a body against the schema, stricter than receivers are, and a receiver that answers as a test
wants.

The schema is the one of opentelemetry-proto 1.x, restricted to the fields that are in use. Where Python's
opentelemetry.proto classes are installed, a body must also pass through them.
"""

import contextlib
import http.server
import json
import re
import socket
import ssl
import struct
import threading
import time

from .ports import free_port
from .wait import DEADLINE, wait_for

try:
    from google.protobuf import json_format
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    REAL = {"logs": ExportLogsServiceRequest, "metrics": ExportMetricsServiceRequest}
except ImportError:
    REAL = {}


# --- the schema: a type is a function (value, path) that raises AssertionError

def string(v, path):
    assert isinstance(v, str), f"{path}: {v!r} is no string"


def text(v, path):
    string(v, path)
    assert v, f"{path}: empty"


def boolean(v, path):
    assert isinstance(v, bool), f"{path}: {v!r} is no boolean"


def number(v, path):
    assert isinstance(v, (int, float)) and not isinstance(v, bool), f"{path}: {v!r} is no number"


def decimal(low, high):
    """A 64-bit number, which JSON has as a decimal string."""
    def check(v, path):
        assert isinstance(v, str) and re.fullmatch(r"0|-?[1-9][0-9]*", v), f"{path}: {v!r} is no decimal string"
        assert low <= int(v) <= high, f"{path}: {v} does not fit"
    return check


int64, uint64 = decimal(-2**63, 2**63 - 1), decimal(0, 2**64 - 1)


def nanoseconds(v, path):
    """A time between 2020 and 2100: what is out by a factor of 1000 fails."""
    uint64(v, path)
    assert 1577836800 < int(v) / 1e9 < 4102444800, f"{path}: {v} is not in this century"


def enum(*values):
    def check(v, path):
        assert isinstance(v, int) and not isinstance(v, bool) and v in values, f"{path}: {v!r} is none of {values}"
    return check


def list_of(kind, least=0):
    def check(v, path):
        assert isinstance(v, list), f"{path}: {v!r} is no list"
        assert len(v) >= least, f"{path}: {len(v)} items"
        for i, item in enumerate(v):
            kind(item, f"{path}[{i}]")
    return check


def message(required, optional=None, one_of=None, then=None):
    """An object with these fields and no other; of `one_of` exactly one. `then` sees the object afterwards."""
    def check(v, path):
        assert isinstance(v, dict), f"{path}: {v!r} is no object"
        known = {**required, **(optional or {}), **(one_of or {})}
        unknown = v.keys() - known.keys()
        assert not unknown, f"{path}: unknown fields {sorted(unknown)}"
        missing = required.keys() - v.keys()
        assert not missing, f"{path}: missing fields {sorted(missing)}"
        if one_of:
            assert len(v.keys() & one_of.keys()) == 1, f"{path}: not exactly one of {sorted(one_of)}"
        for key, value in v.items():
            known[key](value, f"{path}.{key}")
        if then:
            then(v, path)
    return check


def any_value(v, path):
    message({}, one_of={
        "stringValue": string, "boolValue": boolean, "intValue": int64, "doubleValue": number,
        "arrayValue": message({"values": list_of(any_value)}), "kvlistValue": message({"values": attributes}),
    })(v, path)


def attributes(v, path):
    list_of(message({"key": text, "value": any_value}))(v, path)
    keys = [a["key"] for a in v]
    assert len(keys) == len(set(keys)), f"{path}: keys are not unique: {keys}"


SCOPE = message({"name": text}, {"version": string, "attributes": attributes})
RESOURCE = message({"attributes": attributes})
LOG_RECORD = message({
    "timeUnixNano": nanoseconds, "observedTimeUnixNano": nanoseconds, "severityNumber": enum(*range(1, 25)),
    "severityText": text, "body": message({"stringValue": text}), "attributes": attributes})
LOGS = message({"resourceLogs": list_of(message({
    "resource": RESOURCE,
    "scopeLogs": list_of(message({"scope": SCOPE, "logRecords": list_of(LOG_RECORD, 1)}), 1)}), 1)})


def _times(point, path):
    start = point.get("startTimeUnixNano")
    assert start is None or int(start) <= int(point["timeUnixNano"]), f"{path}: ends before it begins"


def _buckets(point, path):
    counts, bounds = [int(c) for c in point["bucketCounts"]], point["explicitBounds"]
    assert len(counts) == len(bounds) + 1, f"{path}: {len(counts)} buckets, {len(bounds)} bounds"
    assert sum(counts) == int(point["count"]), f"{path}: buckets do not add up"
    assert bounds == sorted(set(bounds)), f"{path}: bounds do not rise"
    _times(point, path)


def _one_series_a_label_set(v, path):
    kind = next(k for k in ("sum", "gauge", "histogram") if k in v)
    sets = [json.dumps(p["attributes"], sort_keys=True) for p in v[kind]["dataPoints"]]
    assert len(sets) == len(set(sets)), f"{path}: {v['name']} has a series twice"


START = {"startTimeUnixNano": nanoseconds}
POINT = {"attributes": attributes, "timeUnixNano": nanoseconds}
VALUE = {"asInt": int64, "asDouble": number}
METRIC = message(
    {"name": text, "description": text}, {"unit": text}, {
        "sum": message({"aggregationTemporality": enum(2), "isMonotonic": boolean, "dataPoints": list_of(
            message({**POINT, **START}, one_of=VALUE, then=_times), 1)}),
        "gauge": message({"dataPoints": list_of(message(POINT, one_of=VALUE), 1)}),
        "histogram": message({"aggregationTemporality": enum(2), "dataPoints": list_of(message(
            {**POINT, **START, "count": uint64, "sum": number, "bucketCounts": list_of(uint64),
             "explicitBounds": list_of(number)}, then=_buckets), 1)}),
    }, then=_one_series_a_label_set)
METRICS = message({"resourceMetrics": list_of(message({
    "resource": RESOURCE,
    "scopeMetrics": list_of(message({"scope": SCOPE, "metrics": list_of(METRIC, 1)}), 1)}), 1)})


def _no_duplicates(pairs):
    keys = [k for k, _ in pairs]
    assert len(keys) == len(set(keys)), f"a key stands twice: {keys}"
    return dict(pairs)


def check(signal, body):
    """Returns the parsed body ("logs" or "metrics") of bytes, or fails saying what is wrong where."""
    parsed = json.loads(body.decode("utf-8", "strict"), object_pairs_hook=_no_duplicates)
    {"logs": LOGS, "metrics": METRICS}[signal](parsed, signal)
    if signal in REAL:
        json_format.Parse(body, REAL[signal]())
    return parsed


def plain(value):
    """An AnyValue as Python has it."""
    (kind, v), = value.items()
    return {"intValue": int, "arrayValue": lambda a: [plain(x) for x in a["values"]],
            "kvlistValue": lambda a: pairs(a["values"])}.get(kind, lambda x: x)(v)


def pairs(attributes_list):
    return {a["key"]: plain(a["value"]) for a in attributes_list}


# --- a receiver

def answer(status, body=b"{}", content_type="application/json", **headers):
    """An answer with more headers: answer(503, Retry_After="2")."""
    def send(handler):
        handler.send_response(status)
        handler.send_header("Content-Type", content_type)
        handler.send_header("Content-Length", str(len(body)))
        for key, value in headers.items():
            handler.send_header(key.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)
    return send


OK = answer(200)


def reset(handler):
    """The connection breaks without an answer."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    handler.server.dead.append(handler.connection)


def hang(handler):
    """No answer until the receiver ends."""
    handler.close_connection = True
    handler.server.over.wait()


def slow(handler):
    """A good answer that comes letter by letter, longer than a batch takes to come together."""
    data = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    for i, letter in enumerate(data):
        handler.wfile.write(bytes([letter]))
        handler.wfile.flush()
        if i % 10 == 0 and handler.server.over.wait(1):
            return


class Request:
    def __init__(self, signal, headers, body):
        self.time, self.signal, self.headers, self.body = time.monotonic(), signal, headers, body
        self.parsed = None
        self.wrong = None
        try:
            self.parsed = check(signal, body)
        except (AssertionError, ValueError) as e:
            self.wrong = f"{e}\n{body[:2000]!r}"

    def resource(self):
        (only,) = self.parsed["resourceLogs" if self.signal == "logs" else "resourceMetrics"]
        return pairs(only["resource"]["attributes"])

    def records(self):
        """Log records as dicts: message, severity, scope and the attributes."""
        return [{**pairs(r["attributes"]), "message": r["body"]["stringValue"], "severity": r["severityNumber"],
                 "scope": s["scope"]["name"]}
                for s in self.parsed["resourceLogs"][0]["scopeLogs"] for r in s["logRecords"]]

    def metrics(self):
        """{name: metric}."""
        return {m["name"]: m for s in self.parsed["resourceMetrics"][0]["scopeMetrics"] for m in s["metrics"]}


class Receiver:
    """
    /logs and /metrics by HTTP, or HTTPS with `tls`. `script` lists the answers to the coming requests of a signal, then all
    get 200. A body that is not OTLP makes the test fail when the context ends.
    """

    def __init__(self, tls=None, logs=(), metrics=()):
        self.script = {"logs": list(logs), "metrics": list(metrics)}
        self.requests = []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                signal = self.path.strip("/")
                receiver.requests.append(Request(signal, self.headers, body))
                script = receiver.script[signal]
                with contextlib.suppress(OSError):
                    (script.pop(0) if script else OK)(self)

            def log_message(self, *args):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads, block_on_close = True, False

            def shutdown_request(self, request):
                if request in self.dead:
                    request.close()  # without the orderly shutdown, which would send a FIN first
                else:
                    super().shutdown_request(request)

            def handle_error(self, request, client_address):
                pass

        self.port = free_port()
        self._server = Server(("127.0.0.1", self.port), Handler)
        self._server.over, self._server.dead = threading.Event(), []
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.base = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"

    def options(self, logs=True, metrics=True):
        """For `extra` of the agent, after whose own options they come."""
        return ([f"--log-export-url={self.base}/logs", "--disable-log-export=false"] if logs else []) + \
            ([f"--metrics-export-url={self.base}/metrics"] if metrics else [])

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, exc_type, exc, tb):
        self._server.over.set()
        self._server.shutdown()
        self._server.server_close()
        if exc_type is None:
            wrong = [r.wrong for r in self.requests if r.wrong]
            assert not wrong, "not OTLP: " + wrong[0]

    def of(self, signal):
        return [r for r in list(self.requests) if r.signal == signal]

    def wait(self, signal, number=1, timeout=DEADLINE):
        """Waits for that many requests; returns the last of them, after checking it."""
        wait_for(lambda: len(self.of(signal)) >= number, f"{number} requests with {signal}", timeout)
        request = self.of(signal)[number - 1]
        assert not request.wrong, request.wrong
        return request

    def records(self):
        return [record for r in self.of("logs") if r.parsed for record in r.records()]

    def wait_record(self, text_of_message, timeout=DEADLINE):
        def look():
            return [r for r in self.records() if r["message"] == text_of_message]
        return wait_for(look, f"exported log record {text_of_message!r}", timeout)[0]
