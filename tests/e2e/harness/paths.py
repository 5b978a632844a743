# SPDX-License-Identifier: Apache-2.0
"""Where the tree, the programs under test and the daemons are."""

import os
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
BUILD = Path(os.environ.get("KBGP_BUILD_DIR", ROOT / "build")).resolve()
PROTO = ROOT / "proto" / "ktbgp.proto"


def kbgp():
    return str(BUILD / "kbgp")


def kbgp_target():
    return str(BUILD / "kbgp-target")


def built():
    return all(os.access(p, os.X_OK) for p in (kbgp(), kbgp_target()))


def find(name, *places):
    """A daemon's path: on PATH, in the sbin folders, or in one of `places`; None if it is not installed."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin", *places])
    return shutil.which(name, path=path)
