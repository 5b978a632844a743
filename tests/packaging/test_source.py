# SPDX-License-Identifier: Apache-2.0
"""An installation from source, by the commands of docs/install.md."""

import os
import shutil
import subprocess

import pytest

from documented import ROOT, documented

FILES = """
bin/kbgp
bin/kbgp-target
etc/default/kbgp.env.sample
etc/default/kbgp-target.env.sample
lib/systemd/system/kbgp.service
lib/systemd/system/kbgp-target.service
lib/sysusers.d/kbgp-target.conf
lib/tmpfiles.d/kbgp-target.conf
share/bash-completion/completions/kbgp
share/bash-completion/completions/kbgp-target
share/doc/kbgp/examples/credential.conf
share/doc/kbgp/examples/kbgp.dashboard.json
share/doc/kbgp/examples/kbgp.rules.yml
share/doc/kbgp/examples/keepalived.conf
share/doc/kbgp/examples/sysctl.conf
share/doc/kbgp-target/examples/credential.conf
share/man/man8/kbgp.8
share/man/man8/kbgp-target.8
share/zsh/site-functions/_kbgp
share/zsh/site-functions/_kbgp-target
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """What `meson install` puts below /, in a folder."""
    copy, root = tmp_path_factory.mktemp("source") / "kbgp", tmp_path_factory.mktemp("installed")
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns("build*", ".git", "__pycache__"), symlinks=True)
    for command in documented("From source"):
        if command.startswith("apt-get"):
            continue
        done = subprocess.run(["/bin/bash", "-ec", command], cwd=copy, env={**os.environ, "DESTDIR": str(root)}, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=900)
        assert done.returncode == 0, f"{command}\n{done.stdout}"
    shutil.rmtree(copy)
    return root


def test_the_pages_name_the_packages_that_the_scripts_install():
    words = documented("From source")[0].split()
    assert words[:2] == ["apt-get", "install"]
    script = f'. {ROOT}/scripts/lib.sh; printf "%s\\n" "${{PACKAGES_BUILD[@]}}"'
    done = subprocess.run(["bash", "-ec", script], check=True, capture_output=True, text=True)
    assert sorted(words[2:]) == sorted(done.stdout.split())
    # the README shows the same commands
    assert documented("Build and install", "README.md")[-4:] == documented("From source")


def test_the_files_are_there(installed):
    assert [f for f in FILES.split() if not (installed / "usr/local" / f).is_file()] == []
    for name in ("kbgp", "kbgp-target"):
        unit = (installed / f"usr/local/lib/systemd/system/{name}.service").read_text()
        assert f"\nExecStart=/usr/local/bin/{name}" in unit


def test_systemd_finds_the_units(installed, tree):
    shutil.copytree(installed, tree.root, dirs_exist_ok=True, symlinks=True)
    assert "0." in tree.run("kbgp --version; kbgp-target --version")
    tree.run("systemd-sysusers; systemd-tmpfiles --create --prefix=/var/lib/kbgp-target")
    assert tree.run("stat -c %U:%a /var/lib/kbgp-target").strip() == "kbgp-target:700"
    for name in ("kbgp", "kbgp-target"):
        assert tree.run(f"systemctl is-enabled {name}", check=False).strip() == "disabled"
        tree.run(f"systemctl enable {name}")
        assert tree.run(f"systemctl is-enabled {name}").strip() == "enabled"
