# SPDX-License-Identifier: Apache-2.0
"""
Package repositories: made, served, installed from and upgraded from by the commands of docs/install.md; and what apt and dnf say to one
that somebody has changed. The web server runs in the network of the machine that asks it.
"""

import gzip
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import PACKAGES, deb, rpm
from documented import ROOT, documented
from machine import Machine, Tree

HERE = Path(__file__).parent
APT, DNF, PUBLISH = ("Install from the repository with apt", "Install from the repository with dnf", "Publish a repository")


class Publisher:
    """A machine's gpg keys, and a folder in which packages and scripts are as docs/install.md sees them."""

    def __init__(self, path, debs, rpms):
        self.path, self.debs, self.rpms = path, debs, rpms
        self.home = path / "gnupg"
        self.home.mkdir(mode=0o700)
        for name in ("build-deb", "build-rpm"):
            (path / name).mkdir()
        (path / "scripts").symlink_to(ROOT / "scripts")
        self.take(debs, rpms)

    def take(self, debs, rpms):
        for package in PACKAGES:
            shutil.copy(deb(debs, package), self.path / "build-deb")
            shutil.copy(rpm(rpms, package), self.path / "build-rpm")

    def run(self, *words, check=True):
        """A command, a single word is a shell's; nobody types a passphrase."""
        words = ["/bin/bash", "-ec", words[0]] if len(words) == 1 else list(words)
        done = subprocess.run(words, cwd=self.path, env={**os.environ, "GNUPGHOME": str(self.home)}, text=True, timeout=300,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert not check or done.returncode == 0, done.stdout
        return done.stdout if check else done

    def make_key(self):
        self.run(documented(PUBLISH)[0].replace("gpg ", "gpg --batch --passphrase '' "))

    def publish(self):
        return self.run(documented(PUBLISH)[2])

    def fingerprint(self):
        return re.search(r"^fpr:+([0-9A-F]{40}):", self.run("gpg --with-colons --fingerprint packages@example.com"), re.MULTILINE)[1]

    def close(self):
        self.run("gpgconf --kill all")


@pytest.fixture(scope="module")
def publisher(tmp_path_factory, debs, rpms):
    p = Publisher(tmp_path_factory.mktemp("publisher"), debs, rpms)
    p.make_key()
    p.publish()
    yield p
    p.close()


@pytest.fixture(scope="module")
def stranger(tmp_path_factory, debs, rpms):
    """One with a key of the same name that nobody trusts, and packages of a later version."""
    p = Publisher(tmp_path_factory.mktemp("stranger"), debs, rpms)
    p.make_key()
    p.take(debs / "newer2", rpms / "newer")
    p.publish()
    yield p
    p.close()


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    """The folder that the web server serves, with its certificate beside it."""
    path = tmp_path_factory.mktemp("web")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                    "-subj", "/CN=packages.example.com", "-addext", "subjectAltName=DNS:packages.example.com",
                    "-keyout", path / "key.pem", "-out", path / "cert.pem"], check=True, capture_output=True)
    (path / "served").mkdir()
    return path


@pytest.fixture(scope="module")
def machine(fedora, rpms, web, tmp_path_factory):
    with Machine(fedora, tmp_path_factory.mktemp("machine"), rpms, seen_as="build-rpm") as m:
        m.run("echo 127.0.0.1 packages.example.com >> /etc/hosts; rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*")
        shutil.copy(web / "cert.pem", m.path("/usr/local/share/ca-certificates/packages.crt"))
        m.run("update-ca-certificates")
        server = subprocess.Popen(["nsenter", f"--target={m.leader}", "--net", sys.executable, HERE / "webserver.py", web / "served",
                                   web / "cert.pem", web / "key.pem"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            assert server.stdout.readline() == b"ready\n"
            yield m
        finally:
            server.kill()
            server.wait()
            server.stdout.close()


def serve(web, publisher):
    """What the web server has is a copy of the publisher's repository from now on."""
    for old in (web / "served").iterdir():
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    shutil.copytree(publisher.path / "repository", web / "served", dirs_exist_ok=True)
    return web / "served"


def in_order(machine, commands):
    """Runs documented commands; nobody is there to say yes."""
    return "\n".join(machine.run(re.sub(r"^(dnf|apt-get (?=install|upgrade))", r"\1 -y ", command)) for command in commands)


# --- making it ---


def test_the_repository_and_its_signatures(publisher, tmp_path):
    repository = publisher.path / "repository"
    names = {str(f.relative_to(repository)) for f in repository.rglob("*") if f.is_file()}
    names = {re.sub(r"repodata/[0-9a-f]{64}-", "repodata/", n) for n in names}
    debs = {f"apt/pool/{deb(publisher.debs, p).name}" for p in PACKAGES}
    rpms = {f"rpm/{rpm(publisher.rpms, p).name}" for p in PACKAGES}
    dist, data = "apt/dists/stable", "rpm/repodata"
    assert names == debs | rpms | {
        "kbgp.asc", "kbgp.sources", "kbgp.repo", f"{dist}/Release", f"{dist}/Release.gpg", f"{dist}/InRelease",
        f"{dist}/main/binary-amd64/Packages", f"{dist}/main/binary-amd64/Packages.gz", f"{data}/repomd.xml",
        f"{data}/repomd.xml.asc", f"{data}/primary.xml.gz", f"{data}/filelists.xml.gz", f"{data}/other.xml.gz"}
    assert all(f.stat().st_mode & 0o044 == 0o044 for f in repository.rglob("*"))

    # with nothing but the public key
    home = tmp_path / "gnupg"
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--homedir", home, "--batch"]
    subprocess.run([*gpg, "--import", repository / "kbgp.asc"], check=True, capture_output=True)
    for what in ([f"{dist}/Release.gpg", f"{dist}/Release"], [f"{dist}/InRelease"], [f"{data}/repomd.xml.asc", f"{data}/repomd.xml"]):
        status = subprocess.run([*gpg, "--status-fd", "1", "--verify", *(repository / w for w in what)], check=True,
                                capture_output=True, text=True).stdout
        assert f"VALIDSIG {publisher.fingerprint()}" in status
    keys = ["rpmkeys", "--dbpath", tmp_path / "rpmdb"]
    subprocess.run([*keys, "--import", repository / "kbgp.asc"], check=True)
    for name in rpms:
        checked = subprocess.run([*keys, "-Kv", repository / name], check=True, capture_output=True, text=True).stdout
        assert re.search(rf"Signature, key ID ([0-9a-f]{{8}})?{publisher.fingerprint()[-8:]}: OK", checked, re.IGNORECASE), checked
    subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=True)


def test_no_secret_is_published_and_no_package_is_changed(publisher):
    repository = publisher.path / "repository"
    assert b"PRIVATE" not in b"".join(f.read_bytes() for f in repository.rglob("*") if f.is_file())
    packets = publisher.run(f"gpg --list-packets {repository}/kbgp.asc")
    assert ":public key packet:" in packets and ":secret" not in packets
    # the signed rpm is a copy
    for package in PACKAGES:
        assert rpm(publisher.path / "build-rpm", package).read_bytes() == rpm(publisher.rpms, package).read_bytes()
        assert deb(repository / "apt/pool", package).read_bytes() == deb(publisher.debs, package).read_bytes()
    assert documented(PUBLISH)[1] == "gpg --fingerprint packages@example.com"
    assert publisher.fingerprint() in publisher.run(documented(PUBLISH)[1]).replace(" ", "")


def test_a_failure_leaves_the_old_repository(publisher, tmp_path):
    arguments = ["--url", "https://packages.example.com", "--output", "repository", "build-deb", "build-rpm"]
    before = {f: f.stat().st_mtime_ns for f in (publisher.path / "repository").rglob("*")}

    def fails(code, text, *words):
        done = publisher.run("scripts/make-repository", *words, check=False)
        assert (done.returncode, text in done.stdout) == (code, True), done.stdout

    fails(1, 'gpg has no secret key "somebody@example.com"', "--key", "somebody@example.com", *arguments)
    fails(2, "--key is missing", *arguments)
    (publisher.path / "build-rpm/broken.rpm").write_text("no package")
    fails(1, "failed", "--key", "packages@example.com", *arguments)
    (publisher.path / "build-rpm/broken.rpm").unlink()
    (publisher.path / "build-deb/broken.deb").write_text("no package")
    fails(1, "broken.deb", "--key", "packages@example.com", *arguments)
    (publisher.path / "build-deb/broken.deb").unlink()
    # an expired key signs nothing
    publisher.run("gpg --batch --passphrase '' --faked-system-time 20200101T000000 --quick-generate-key old@example.com rsa4096 sign 1d")
    fails(1, "gpg did not sign", "--key", "old@example.com", *arguments)
    # what it did not make it does not replace
    (tmp_path / "mine").write_text("mine")
    fails(1, "is no repository", "--key", "packages@example.com", "--url", "https://a.example", "--output", tmp_path, "build-deb")
    assert (tmp_path / "mine").exists()
    assert {f: f.stat().st_mtime_ns for f in (publisher.path / "repository").rglob("*")} == before
    assert [f.name for f in publisher.path.glob("repository?*")] == []


# --- installing from it; one story for each of apt and dnf, in order ---


def test_apt_installs_as_documented(machine, web, publisher):
    serve(web, publisher)
    shown = in_order(machine, documented(APT))
    assert publisher.fingerprint() in shown
    version = deb(publisher.debs, "kbgp").name.split("_")[1]
    assert machine.run("dpkg-query -W -f '${Version} ${db:Status-Status}' kbgp") == f"{version} installed"
    assert "https://packages.example.com/apt stable/main" in machine.run("apt-cache policy kbgp")
    assert version in machine.run("kbgp --version")
    assert machine.show("kbgp", "ActiveState") == "inactive"


def test_apt_upgrades(machine, web, publisher, debs, rpms):
    publisher.take(debs / "newer1", rpms)
    publisher.publish()
    serve(web, publisher)
    assert "`apt-get update` and `apt-get upgrade`" in (ROOT / "docs/install.md").read_text()
    machine.run("apt-get update; apt-get upgrade -y")
    assert machine.run("dpkg-query -W -f '${Version}' kbgp").endswith("+next1")
    # both versions are there to choose from
    assert machine.run("apt-cache madison kbgp").count("packages.example.com") == 2


def foreign_repository(served, stranger):
    """Somebody's own repository, made as ours is, in its place."""
    shutil.rmtree(served)
    shutil.copytree(stranger.path / "repository", served)


def foreign_list(served, stranger):
    """Our signatures, another list of packages."""
    for name in ("Packages", "Packages.gz"):
        file = "apt/dists/stable/main/binary-amd64/" + name
        shutil.copy(stranger.path / "repository" / file, served / file)


def changed_release(served, stranger):
    """Checksums that fit another list, below our signature."""
    foreign_list(served, stranger)
    theirs = (stranger.path / "repository/apt/dists/stable/Release").read_text()
    signed = served / "apt/dists/stable/InRelease"
    ours = signed.read_text()
    head, signature = ours.split("\n\n", 1)[0], ours[ours.index("-----BEGIN PGP SIGNATURE"):]
    signed.write_text(f"{head}\n\n{theirs}{signature}")
    shutil.copy(stranger.path / "repository/apt/dists/stable/Release", served / "apt/dists/stable/Release")


def unsigned(served, stranger):
    """No signature at all."""
    changed_release(served, stranger)
    for name in ("InRelease", "Release.gpg"):
        (served / "apt/dists/stable" / name).unlink()


@pytest.mark.parametrize("tamper, says", [
    (foreign_repository, "NO_PUBKEY"), (foreign_list, "Hash Sum mismatch|unexpected size"), (changed_release, "BADSIG|not signed|NODATA"),
    (unsigned, "no longer signed|not signed"),
])
def test_apt_refuses_a_changed_repository(tamper, says, machine, web, publisher, stranger):
    serve(web, publisher)
    machine.run("rm -rf /var/lib/apt/lists/*; apt-get update")
    tamper(web / "served", stranger)
    # apt calls it a passing failure, and keeps the list that it has
    strictly = "apt-get update -o APT::Update::Error-Mode=any"
    shown = machine.run(strictly, check=False)
    machine.run("apt-get upgrade -y", check=False)
    assert machine.run("dpkg-query -W -f '${Version}' kbgp").endswith("+next1")
    # nor does a machine that has seen no list yet take it
    machine.run("rm -rf /var/lib/apt/lists/*")
    shown += machine.run(strictly, check=False)
    assert re.search(says, shown), shown
    assert machine.code(*strictly.split()) != 0
    assert "next2" not in machine.run("apt-cache policy kbgp")
    assert machine.code("apt-get", "install", "-y", "kbgp-target") != 0
    assert machine.code("dpkg-query", "-W", "kbgp-target") != 0


def test_apt_refuses_a_changed_package(machine, web, publisher, debs):
    served = serve(web, publisher)
    machine.run("rm -rf /var/lib/apt/lists/*; apt-get update; apt-get clean")
    for file in (served / "apt/pool").glob("kbgp-target_*.deb"):
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    shown = machine.run("apt-get install -y kbgp-target", check=False)
    assert "Hash Sum mismatch" in shown
    assert machine.code("dpkg-query", "-W", "kbgp-target") != 0


def test_dnf_installs_as_documented(machine, web, publisher):
    machine.run("apt-get purge -y kbgp")
    serve(web, publisher)
    shown = in_order(machine, documented(DNF))
    assert publisher.fingerprint()[-8:] in shown and publisher.fingerprint() in shown.replace(" ", "")
    assert machine.run("rpm -q --qf '%{RELEASE}' kbgp") == "1"
    assert machine.run("kbgp --version").split()[-1] in machine.run("dnf info --installed kbgp")
    assert re.search("From repo *: kbgp", machine.run("dnf info --installed kbgp"))


@pytest.mark.parametrize("what", ["foreign repository", "changed list", "foreign package", "changed package"])
def test_dnf_refuses_a_changed_repository(what, machine, web, publisher, stranger):
    served = serve(web, publisher)
    theirs = stranger.path / "repository"
    if what == "foreign repository":
        foreign_repository(served, stranger)
        shutil.copy(publisher.path / "repository/kbgp.asc", served) # the machine has the key already
    elif what == "changed list":
        signature = (served / "rpm/repodata/repomd.xml.asc").read_bytes()
        shutil.rmtree(served / "rpm")
        shutil.copytree(theirs / "rpm", served / "rpm")
        (served / "rpm/repodata/repomd.xml.asc").write_bytes(signature)
    elif what == "foreign package":
        # one of the publisher's lists has it, as if somebody had slipped it in before they were made
        shutil.copy(rpm(stranger.path / "build-rpm", "kbgp"), served / "rpm")
        for newer in theirs.glob("rpm/kbgp*-2.*.rpm"):
            shutil.copy(newer, served / "rpm")
        subprocess.run(["createrepo_c", "--quiet", "--no-database", served / "rpm"], check=True)
        publisher.run(f"gpg --batch --yes --armor --detach-sign -u {publisher.fingerprint()} -o {served}/rpm/repodata/repomd.xml.asc "
                      f"{served}/rpm/repodata/repomd.xml")
    else:
        for file in (served / "rpm").glob("kbgp-target*.rpm"):
            content = bytearray(file.read_bytes())
            content[-1] ^= 1
            file.write_bytes(content)
    machine.run("dnf clean all")
    for command in ("dnf -y upgrade kbgp", "dnf -y install kbgp-target"):
        machine.run(command, check=False)
    # where only a package is wrong, the right ones are there
    shown = machine.run("dnf -y install kbgp-target", check=False)
    says = {"foreign package": "GPG check FAILED", "changed package": "checksum|digest|mirrors were tried",
            "foreign repository": "repomd.xml|signature", "changed list": "repomd.xml|signature"}[what]
    assert re.search(says, shown), shown
    assert machine.run("rpm -q --qf '%{RELEASE}' kbgp") == "1"
    assert machine.code("rpm", "-q", "kbgp-target") != 0


def test_dnf_upgrades(machine, web, publisher, debs, rpms):
    publisher.take(debs, rpms / "newer")
    publisher.publish()
    serve(web, publisher)
    machine.run("dnf clean all")
    assert "`dnf upgrade`" in (ROOT / "docs/install.md").read_text()
    machine.run("dnf -y upgrade")
    assert machine.run("rpm -q --qf '%{RELEASE}' kbgp") == "2"
