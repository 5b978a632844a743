# SPDX-License-Identifier: Apache-2.0
"""The Debian packages: what is in them, and what installing, upgrading, removing and purging do."""

import gzip
import re
import subprocess

import pytest

from conftest import PACKAGES, deb
from documented import ROOT

INSTALL = "apt-get install -y --no-install-recommends"

FILES = """
etc/default/{}.env.sample
lib/systemd/system/{}.service
usr/bin/{}
usr/share/bash-completion/completions/{}
usr/share/doc/{}/examples/credential.conf
usr/share/doc/{}/install.md.gz
usr/share/man/man8/{}.8.gz
usr/share/zsh/vendor-completions/_{}
"""

EXAMPLES = {"credential.conf", "kbgp.dashboard.json", "kbgp.rules.yml", "keepalived.conf", "sysctl.conf"}


def run(*words, **more):
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, **more)
    assert done.returncode == 0, done.stdout
    return done.stdout


def programs_help(unpacked, package):
    words = ["serve"] if package == "kbgp-target" else []
    return run(unpacked / "usr/bin" / package, *words, "--help")


@pytest.mark.parametrize("package", PACKAGES)
def test_the_files_are_there(package, unpacked):
    missing = [f for f in FILES.format(*[package] * 8).split() if not (unpacked / f).is_file()]
    assert not missing


def test_the_examples_are_there(unpacked):
    examples = unpacked / "usr/share/doc/kbgp/examples"
    assert {f.name for f in examples.iterdir()} == EXAMPLES
    assert (examples / "kbgp.rules.yml").read_bytes() == (ROOT / "packaging/prometheus/kbgp.rules.yml").read_bytes()


def test_lintian_has_nothing_to_say(debs):
    changes = next(debs.glob("*.changes"))
    done = subprocess.run(["lintian", "--allow-root", "--info", "--display-info", "--pedantic", changes],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("package", PACKAGES)
def test_the_sample_has_every_variable_and_sets_none(package, unpacked):
    lines = (unpacked / f"etc/default/{package}.env.sample").read_text().splitlines()
    assert all(line == "" or line.startswith("#") for line in lines)
    sample = [m[1] for line in lines if (m := re.match(r"#([A-Z0-9_]+)=", line))]
    variables = re.findall(r"\(\$([A-Z0-9_]+)\)", programs_help(unpacked, package))
    assert len(variables) > 10
    assert [v for v in sample if v not in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")] == variables
    assert len(sample) == len(set(sample))


@pytest.mark.parametrize("package", PACKAGES)
def test_the_manual_has_every_option_and_no_slips(package, unpacked, tmp_path):
    page = tmp_path / f"{package}.8"
    page.write_bytes(gzip.decompress((unpacked / f"usr/share/man/man8/{package}.8.gz").read_bytes()))
    assert run("mandoc", "-T", "lint", "-W", "warning", page) == ""
    assert run("groff", "-man", "-ww", "-z", page) == ""
    text = run("mandoc", "-T", "utf8", "-O", "width=100", page)
    text = re.sub(r".\x08", "", text)
    options = re.findall(r"^ +(?:-\w, )?(--[a-z0-9-]+(?: \S+)?)(?:  |$)", programs_help(unpacked, package), re.MULTILINE)
    assert len(options) > 15
    assert [o for o in options if o not in text] == []


def completed(unpacked, package, *words):
    """What bash offers for the last of the words."""
    quoted = " ".join(f"'{w}'" for w in (package, *words))
    function = "_" + package.replace("-", "_")
    script = f"""source {unpacked}/usr/share/bash-completion/completions/{package}
        COMP_WORDS=({quoted}) COMP_CWORD={len(words)}; {function}; printf '%s\\n' "${{COMPREPLY[@]}}" """
    return run("bash", "-c", script).split()


def test_bash_completes(unpacked, tmp_path):
    (tmp_path / "ca.pem").touch()
    assert completed(unpacked, "kbgp", "che") == ["check"]
    assert completed(unpacked, "kbgp", "--ca") == ["--ca-file"]
    assert completed(unpacked, "kbgp", "check", "--rea") == ["--ready"]
    assert completed(unpacked, "kbgp", "--ca-file", f"{tmp_path}/c") == [f"{tmp_path}/ca.pem"]
    assert completed(unpacked, "kbgp", "--ca-file", "=", f"{tmp_path}/c") == [f"{tmp_path}/ca.pem"]
    assert completed(unpacked, "kbgp", "--log-level", "=") == ["debug", "info", "warn", "error"]
    assert completed(unpacked, "kbgp", "--email", "") == []
    assert completed(unpacked, "kbgp-target", "") == ["serve", "ready", "account", "site", "device", "--help", "--version"]
    assert completed(unpacked, "kbgp-target", "device", "s") == ["set"]
    assert completed(unpacked, "kbgp-target", "device", "add", "edge1", "--ad") == ["--address"]
    assert completed(unpacked, "kbgp-target", "serve", "--tls-") == ["--tls-cert", "--tls-key"]


def in_zsh(unpacked, typed):
    """What a zsh shows after the words and a TAB."""
    script = f"""
        zmodload zsh/zpty
        zpty z 'PS1=P; TERM=dumb zsh -f -i'
        zpty -w z 'fpath=({unpacked}/usr/share/zsh/vendor-completions $fpath); autoload -U compinit; compinit -u -D'
        zpty -w z 'zstyle ":completion:*" verbose no; setopt no_always_last_prompt; LISTMAX=1000; print READY''-1'
        while zpty -r z line; do [[ $line == *READY-1* ]] && break; done
        zpty -w -n z '{typed}'$'\\t'
        sleep 2
        while zpty -r -t z line; do print -r -- $line; done
        zpty -d z"""
    # without bells and colours
    return re.sub(r"\x1b\[[?0-9;]*[A-Za-z]|[\x00-\x09\x0b-\x1f]", "", run("zsh", "-f", "-c", script))


def test_zsh_completes(unpacked):
    for package in PACKAGES:
        run("zsh", "-n", unpacked / f"usr/share/zsh/vendor-completions/_{package}")
    assert "--ca-file" in in_zsh(unpacked, "kbgp --ca")
    assert "check" in in_zsh(unpacked, "kbgp ch")
    assert "sessions" in in_zsh(unpacked, "kbgp se")
    assert "account" in in_zsh(unpacked, "kbgp-target ac")
    assert "enable" in in_zsh(unpacked, "kbgp-target device ena")
    assert "--address" in in_zsh(unpacked, "kbgp-target device add --ad")


@pytest.mark.parametrize("package", PACKAGES)
def test_the_unit_is_well_sandboxed(package, unpacked):
    unit = unpacked / f"lib/systemd/system/{package}.service"
    run("systemd-analyze", "security", "--offline=yes", "--threshold=20", unit)


@pytest.mark.parametrize("package", PACKAGES)
def test_install_upgrade_remove_purge(package, tree, debs):
    before = tree.files()
    tree.run(f"{INSTALL} ./build-deb/{package}_*.deb")
    assert deb(debs, package).name.split("_")[1] in tree.run(f"/usr/bin/{package}", "--version")
    assert tree.run(f"systemctl is-enabled {package}", check=False).strip() == "disabled"
    environment = tree.path(f"/etc/default/{package}.env")
    assert not environment.exists()

    # what the operator makes, an upgrade leaves alone; the sample is ours
    environment.write_text("# the operator's\n")
    tree.run(f"{INSTALL} ./build-deb/newer1/{package}_*.deb")
    assert tree.run("dpkg-query", "-W", "-f", "${Version}", package).endswith("+next1")
    assert environment.read_text() == "# the operator's\n"
    assert tree.path(f"/etc/default/{package}.env.sample").read_text().endswith("# next1\n")
    if package == "kbgp-target":
        tree.run("kbgp-target account add noc@example.com")
        assert tree.run("stat -c %U:%a /var/lib/kbgp-target /var/lib/kbgp-target/kbgp.db").split() == \
            ["kbgp-target:700", "kbgp-target:600"]

    tree.run(f"apt-get remove -y {package}")
    assert not tree.path(f"/usr/bin/{package}").exists()
    assert environment.exists()
    if package == "kbgp-target":
        assert tree.path("/var/lib/kbgp-target/kbgp.db").exists()

    tree.run(f"apt-get purge -y {package}")
    assert tree.files() - before <= {"etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", "etc/.pwd.lock"}
    assert tree.run("dpkg-query", "-W", package, check=False).startswith("dpkg-query: no packages found")
