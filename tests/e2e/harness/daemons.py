# SPDX-License-Identifier: Apache-2.0
"""The five BGP implementations, each as a router or as the daemon behind the target, made in one way."""

import pytest

from . import frr, openbgpd, paths
from .bird import Bird
from .exabgp import ExaBgp
from .frr import Frr
from .gobgp import GoBgp
from .openbgpd import OpenBgpd
from .ports import free_port

KINDS = (Bird, Frr, GoBgp, ExaBgp, OpenBgpd)
_PROGRAMS = {Bird: "bird", Frr: frr.BGPD, GoBgp: "gobgpd", ExaBgp: "exabgp", OpenBgpd: openbgpd.BGPD}


def skip_without(*kinds):
    for kind in kinds:
        if not paths.find(_PROGRAMS[kind]):
            pytest.skip(f"{_PROGRAMS[kind]} is not installed")


def daemon(kind, workdir, peer, lists=(), listen_port=None):
    """
    A daemon with one peer, not started. `lists`: lists of prefixes to announce; the first, a short one, can be withdrawn as
    a whole. Where the peer comes to us (it has no port), it comes to `listen_port` of `peer.local`.
    """
    networks = [prefix for one in lists for prefix in one]
    if kind is ExaBgp:
        return ExaBgp(workdir, peer, networks)
    port = listen_port or free_port()
    if kind is Bird:
        return Bird(workdir, [peer], {f"list{i}": one for i, one in enumerate(lists)}, listen_port=port)
    if kind is Frr:
        return Frr(workdir, [peer], networks, listen_port=port, listen=peer.local)
    if kind is OpenBgpd:
        return OpenBgpd(workdir, [peer], networks, listen_port=port, listen=[peer.local])
    listening = {"listen_port": port, "listen": [peer.local]} if listen_port else {}
    first = len(lists[0]) if lists else 0
    return GoBgp(workdir, [peer], networks[:first], networks[first:], **listening)
