# SPDX-License-Identifier: Apache-2.0
"""What all packaging tests share, made once a run: the packages, a newer version of them, a Debian tree."""

import shutil
import signal
import subprocess

import pytest

from documented import ROOT
from machine import Tree, make_tree

PACKAGES = ("kbgp", "kbgp-target")


def pytest_configure(config):
    # SIGTERM unwinds like ^C, so that machines are stopped and trees unmounted
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="session")
def debs(tmp_path_factory):
    """The folder with the packages. In `newer/` in it the same as two later versions, for upgrades."""
    out = tmp_path_factory.mktemp("build-deb")
    done = subprocess.run([ROOT / "scripts/build-deb", "--out", out], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=900)
    assert done.returncode == 0, done.stdout
    for number in (1, 2):
        for package in PACKAGES:
            make_newer(out, package, number)
    return out


def deb(folder, package):
    return next(folder.glob(f"{package}_*.deb"))


def make_newer(folder, package, number):
    unpacked = folder / "unpacked"
    subprocess.run(["dpkg-deb", "-R", deb(folder, package), unpacked], check=True)
    control = unpacked / "DEBIAN/control"
    lines = control.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("Version: "))
    lines[at] += f"+next{number}"
    control.write_text("\n".join(lines) + "\n")
    with (unpacked / f"etc/default/{package}.env.sample").open("a") as sample:
        sample.write(f"# next{number}\n")
    (folder / f"newer{number}").mkdir(exist_ok=True)
    # its list of checksums is not made anew: dpkg does not look at it
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", unpacked, folder / f"newer{number}"], check=True,
                   stdout=subprocess.DEVNULL)
    shutil.rmtree(unpacked)


@pytest.fixture(scope="session")
def debian(tmp_path_factory, debs):
    path = tmp_path_factory.mktemp("debian") / "tree"
    make_tree(path, [deb(debs, p) for p in PACKAGES])
    yield path
    shutil.rmtree(path)


@pytest.fixture
def tree(debian, debs, tmp_path):
    with Tree(debian, tmp_path, debs) as t:
        yield t


@pytest.fixture(scope="session")
def unpacked(debs, tmp_path_factory):
    """The files of both packages, unpacked; what installing would do more is not done."""
    path = tmp_path_factory.mktemp("unpacked")
    for package in PACKAGES:
        subprocess.run(["dpkg-deb", "-x", deb(debs, package), path], check=True)
    return path
