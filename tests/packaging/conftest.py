# SPDX-License-Identifier: Apache-2.0
"""What all packaging tests share, made once a run: the packages, newer versions of them, trees to install them in."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from documented import ROOT
from machine import HOOKS_RPM, INCLUDE_RPM, Tree, make_tree

PACKAGES = ("kbgp", "kbgp-target")


def pytest_configure(config):
    # SIGTERM unwinds like ^C, so that machines are stopped and trees unmounted
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="session")
def debs(tmp_path_factory):
    """The folder with the packages. In `newer/` in it the same as two later versions, for upgrades."""
    out = tmp_path_factory.mktemp("build-deb")
    build("build-deb", "--out", out)
    for number in (1, 2):
        for package in PACKAGES:
            make_newer(out, package, number)
    return out


def build(script, *words, root=ROOT):
    done = subprocess.run([root / "scripts" / script, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=900)
    assert done.returncode == 0, done.stdout


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


# ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def rpms(tmp_path_factory):
    """The folder with the packages. In `newer/` in it a later release; in `system/` what the tree has from elsewhere."""
    out = tmp_path_factory.mktemp("build-rpm")
    build("build-rpm", "--out", out)
    copy = tmp_path_factory.mktemp("source") / "kbgp"
    shutil.copytree(ROOT, copy, symlinks=True, ignore=lambda folder, names: [
        n for n in names if n in (".git", "__pycache__") or Path(folder) == ROOT and n.startswith("build")])
    for package in PACKAGES:
        with (copy / f"packaging/env/{package}.env.in").open("a") as sample:
            sample.write("# next1\n")
    build("build-rpm", "--out", out / "newer", "--release", "2", root=copy)
    shutil.rmtree(copy)
    make_system_rpm(out / "system", tmp_path_factory.mktemp("system"), [rpm(out, p) for p in PACKAGES])
    return out


def rpm(folder, package):
    return next(folder.glob(f"{package}-[0-9]*.rpm"))


def query(*words):
    """Lines of `rpm -q` about package files, without repetition."""
    done = subprocess.run(["rpm", "-qp", *words], check=True, capture_output=True, text=True)
    return sorted(set(done.stdout.splitlines()))


def make_system_rpm(out, workdir, packages):
    """An empty package that stands for what a tree has from Debian's packages, of which rpm knows nothing."""
    spec = (ROOT / "packaging/rpm/kbgp.spec").read_text()
    provides = query("--requires", *packages) + ["rpm-build", "system-release = 9", "system-release(releasever) = 9"]
    provides += [line.split(maxsplit=1)[1] for line in spec.splitlines() if line.startswith("BuildRequires:")]
    lines = ["Name: system", "Version: 1", "Release: 1", "Summary: What is there", "License: none", "BuildArch: noarch"]
    # of two names that are in both lists with and without a version, either will do
    lines += [f"Provides: {p.replace('>=', '=')}" for p in provides if not p.startswith(("rpmlib(", "config("))]
    (workdir / "system.spec").write_text("\n".join([*lines, "%description", "It is.", "%files", ""]))
    subprocess.run(["rpmbuild", "-bb", "--quiet", "--define", f"_topdir {workdir}", "--define", f"_rpmdir {out}",
                    "--define", "_rpmfilename %%{NAME}.rpm", workdir / "system.spec"], check=True, capture_output=True)


@pytest.fixture(scope="session")
def fedora(tmp_path_factory, debs, rpms):
    """
    A tree with rpm and dnf, in rpm's database what the packages need, and of Fedora's and RHEL's repositories the names, without
    packages. It is Debian all the same.
    """
    path = tmp_path_factory.mktemp("fedora") / "tree"
    make_tree(path, [deb(debs, p) for p in PACKAGES], INCLUDE_RPM, HOOKS_RPM)
    (path / "root/empty").mkdir()
    shutil.copy(rpms / "system/system.rpm", path / "root")
    subprocess.run(["chroot", path, "rpm", "-i", "--force-debian", "/root/system.rpm"], check=True, capture_output=True,
                   env={**os.environ, "HOME": "/root"})
    subprocess.run(["createrepo_c", "--quiet", path / "root/empty"], check=True)
    for name, enabled in (("baseos", 1), ("crb", 0)):
        (path / f"etc/yum.repos.d/{name}.repo").write_text(
            f"[{name}]\nname={name}\nenabled={enabled}\nbaseurl=file:///root/empty\ngpgcheck=1\ngpgkey=file:///root/none\n")
    yield path
    shutil.rmtree(path)


@pytest.fixture
def rpm_tree(fedora, rpms, tmp_path):
    with Tree(fedora, tmp_path, rpms, seen_as="build-rpm") as t:
        yield t
