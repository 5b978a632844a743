# SPDX-License-Identifier: Apache-2.0
"""The protobuf module of proto/ktbgp.proto, made by protoc when the tests start: nothing generated is kept in the tree."""

import importlib.util
import tempfile

from .paths import PROTO
from .proc import run

SERVICE = "kentik.ktbgp.v202203beta2.ProxyService"
CONTROL = f"/{SERVICE}/Control"
DATA = f"/{SERVICE}/Data"


def _generate():
    with tempfile.TemporaryDirectory(prefix="kbgp-schema-") as folder:
        run(["protoc", f"--proto_path={PROTO.parent}", f"--python_out={folder}", PROTO], check=True)
        spec = importlib.util.spec_from_file_location("ktbgp_pb2", f"{folder}/ktbgp_pb2.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module


pb = _generate()

ControlRequest, ControlResponse = pb.ControlRequest, pb.ControlResponse
DataRequest, DataResponse, KeyVal = pb.DataRequest, pb.DataResponse, pb.KeyVal
BLOCK_IP, KEEPALIVE = pb.CONTROL_ACTION_BLOCK_IP, pb.CONTROL_ACTION_KEEPALIVE
KILL, RESTART = pb.DATA_ACTION_KILL, pb.DATA_ACTION_RESTART
