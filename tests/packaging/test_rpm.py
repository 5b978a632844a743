# SPDX-License-Identifier: Apache-2.0
"""
The rpm packages: what is in them, what installing, upgrading and removing do, and the commands of docs/install.md. They are built and
installed on Debian, with rpm and dnf of Debian's; scriptlets are run by them, with the macros of packaging/rpm/macros.debian.
"""

import json
import re
import shutil
import subprocess

import pytest

from conftest import PACKAGES, deb, query, rpm
from documented import ROOT, documented
from machine import Machine, wait_for
from test_deb import EXAMPLES

# mode, owner, group and flags (c config, n noreplace, d doc, l licence)
FILES = {
    "kbgp": """
        /etc/default/kbgp.env.sample                            -rw-r--r-- root root cn
        /usr/bin/kbgp                                           -rwxr-xr-x root root
        /usr/lib/systemd/system/kbgp.service                    -rw-r--r-- root root
        /usr/share/bash-completion/completions/kbgp             -rw-r--r-- root root
        /usr/share/licenses/kbgp                                drwxr-xr-x root root
        /usr/share/licenses/kbgp/LICENSE                        -rw-r--r-- root root l
        /usr/share/man/man8/kbgp.8.gz                           -rw-r--r-- root root d
        /usr/share/zsh                                          drwxr-xr-x root root
        /usr/share/zsh/site-functions                           drwxr-xr-x root root
        /usr/share/zsh/site-functions/_kbgp                     -rw-r--r-- root root
    """,
    "kbgp-target": """
        /etc/default/kbgp-target.env.sample                     -rw-r--r-- root root cn
        /usr/bin/kbgp-target                                    -rwxr-xr-x root root
        /usr/lib/systemd/system/kbgp-target.service             -rw-r--r-- root root
        /usr/lib/sysusers.d/kbgp-target.conf                    -rw-r--r-- root root
        /usr/lib/tmpfiles.d/kbgp-target.conf                    -rw-r--r-- root root
        /usr/share/bash-completion/completions/kbgp-target      -rw-r--r-- root root
        /usr/share/licenses/kbgp-target                         drwxr-xr-x root root
        /usr/share/licenses/kbgp-target/LICENSE                 -rw-r--r-- root root l
        /usr/share/man/man8/kbgp-target.8.gz                    -rw-r--r-- root root d
        /usr/share/zsh                                          drwxr-xr-x root root
        /usr/share/zsh/site-functions                           drwxr-xr-x root root
        /usr/share/zsh/site-functions/_kbgp-target              -rw-r--r-- root root
        /var/lib/kbgp-target                                    drwx------ kbgp-target kbgp-target
    """,
}
DOCS = ["CHANGELOG.md", "README.md", "install.md", "operating.md", "protocol.md", "troubleshooting.md"]

LIBRARIES = {
    "kbgp": "libc libcrypto libcurl libjansson libmicrohttpd libnghttp2 libpcap libprotobuf-c libssl libuv",
    "kbgp-target": "libc libcrypto libjansson libmicrohttpd libnghttp2 libprotobuf-c libsqlite3 libssl libuv",
}


def expected_files(package):
    lines = [" ".join(line.split()) for line in FILES[package].strip().splitlines()]
    folder = f"/usr/share/doc/{package}"
    examples = sorted(EXAMPLES) if package == "kbgp" else ["credential.conf"]
    lines += [f"{folder} drwxr-xr-x root root", f"{folder}/examples drwxr-xr-x root root"]
    lines += [f"{folder}/{name} -rw-r--r-- root root d" for name in DOCS + [f"examples/{e}" for e in examples]]
    return sorted(lines)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_files_their_modes_and_flags(package, rpms):
    shape = r"[%{FILENAMES} %{FILEMODES:perms} %{FILEUSERNAME} %{FILEGROUPNAME} %{FILEFLAGS:fflags}\n]"
    lines = [line.strip() for line in query("--qf", shape, rpm(rpms, package))]
    assert [line for line in lines if not line.startswith("/usr/lib/.build-id")] == expected_files(package)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_same_files_as_in_the_debian_package(package, rpms, debs):
    listed = subprocess.run(["dpkg-deb", "--fsys-tarfile", deb(debs, package)], check=True, capture_output=True).stdout
    names = subprocess.run(["tar", "-t"], input=listed, check=True, capture_output=True).stdout.decode().split()
    elsewhere = {"/lib/systemd": "/usr/lib/systemd", "/zsh/vendor-completions/": "/zsh/site-functions/"}
    theirs = set()
    for name in (n.lstrip(".") for n in names if not n.endswith("/")):
        if re.search(r"/copyright$|/changelog\.|/lintian/", name):
            continue  # Debian's way to say what LICENSE and CHANGELOG.md say
        for old, new in elsewhere.items():
            name = name.replace(old, new, 1) if old in name and new not in name else name
        theirs.add(re.sub(r"\.md\.gz$", ".md", name))
    ours = {line for line in query("--list", rpm(rpms, package))}
    assert theirs - ours == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_what_they_require(package, rpms):
    requires = query("--requires", rpm(rpms, package))
    libraries = {re.sub(r"\.so.*", "", r) for r in requires if ".so." in r}
    assert libraries == set(LIBRARIES[package].split())
    rest = {r for r in requires if ".so." not in r and not r.startswith(("rpmlib(", "rtld(", "config("))}
    assert rest == {"/bin/sh", "systemd"} | ({"shadow-utils"} if package == "kbgp-target" else set())
    assert query("--recommends", rpm(rpms, package)) == (["ca-certificates"] if package == "kbgp" else [])


def test_rpmlint_has_nothing_to_say(rpms):
    if not shutil.which("rpmlint"):
        pytest.skip("no rpmlint here")
    done = subprocess.run(["rpmlint", "-c", "packaging/rpm/rpmlint.toml", "packaging/rpm/kbgp.spec", *rpms.glob("*.rpm"),
                           *rpms.glob("source/*.rpm")], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=300)
    assert done.returncode == 0, done.stdout
    assert re.search(r" 3 packages and 1 specfiles checked; 0 errors, 0 warnings", done.stdout), done.stdout


def test_the_spec_asks_for_what_the_build_looks_for():
    """Names and versions of meson.build, as the names that rpm packages carry."""
    wanted = dict(re.findall(r"dependency\('([^']+)', version : '>= ([0-9.]+)'", (ROOT / "meson.build").read_text()))
    spec = (ROOT / "packaging/rpm/kbgp.spec").read_text()
    assert dict(re.findall(r"^BuildRequires: +pkgconfig\(([^)]+)\) >= ([0-9.]+)$", spec, re.MULTILINE)) == wanted


@pytest.mark.parametrize("package", PACKAGES)
def test_install_upgrade_remove(package, rpm_tree, rpms):
    tree = rpm_tree
    before = tree.files()
    tree.run(f"rpm -i --force-debian build-rpm/{package}-[0-9]*.rpm")
    assert rpm(rpms, package).name.split("-")[-2] in tree.run(f"/usr/bin/{package}", "--version")
    assert tree.run(f"systemctl is-enabled {package}", check=False).strip() == "disabled"
    assert tree.run("rpm", "-V", package) == ""
    environment, sample = (tree.path(f"/etc/default/{package}.env{s}") for s in ("", ".sample"))
    assert not environment.exists()
    if package == "kbgp-target":
        assert tree.run("getent passwd kbgp-target").split(":", 4)[4] == "kbgp-target:/var/lib/kbgp-target:/sbin/nologin\n"
        tree.run("kbgp-target account add noc@example.com")
        assert tree.run("stat -c %U:%G:%a /var/lib/kbgp-target /var/lib/kbgp-target/kbgp.db").split() == \
            ["kbgp-target:kbgp-target:700", "kbgp-target:kbgp-target:600"]
        # what sysusers.d and tmpfiles.d would make is what is there
        tree.run("systemd-sysusers; systemd-tmpfiles --create --prefix=/var/lib/kbgp-target")
        assert tree.run("getent passwd kbgp-target; getent group kbgp-target").count("\n") == 2
        assert tree.run("rpm", "-V", package) == ""

    # what the operator makes an upgrade leaves alone, even in our sample
    environment.write_text("# the operator's\n")
    sample.write_text("# the operator's\n")
    assert tree.run("rpm", "-V", package, check=False).split() == ["S.5....T.", "c", f"/etc/default/{package}.env.sample"]
    tree.run(f"rpm -U --force-debian build-rpm/newer/{package}-[0-9]*.rpm")
    assert tree.run("rpm", "-q", "--qf", "%{RELEASE}", package) == "2"
    assert environment.read_text() == sample.read_text() == "# the operator's\n"
    assert tree.path(f"/etc/default/{package}.env.sample.rpmnew").read_text().endswith("# next1\n")
    if package == "kbgp-target":
        assert "noc@example.com" in tree.run("kbgp-target account list")

    tree.run(f"rpm -e --force-debian {package}")
    left = tree.files() - before
    accounts = {f"etc/{name}-" for name in ("passwd", "group", "shadow", "gshadow", "subuid", "subgid")} | {"etc/.pwd.lock"}
    operators = {f"etc/default/{package}.env", *(f"etc/default/{package}.env.sample.rpm{end}" for end in ("new", "save"))}
    if package == "kbgp-target":
        operators |= {"var/lib/kbgp-target"} | {f for f in left if f.startswith("var/lib/kbgp-target/kbgp.db")}
        assert "var/lib/kbgp-target/kbgp.db" in left
    assert left - accounts == operators


def test_a_folder_without_inventory_goes(rpm_tree):
    rpm_tree.run("rpm -i --force-debian build-rpm/kbgp-target-[0-9]*.rpm; rpm -e --force-debian kbgp-target")
    assert not rpm_tree.path("/var/lib/kbgp-target").exists()
    assert not rpm_tree.path("/etc/default/kbgp-target.env.sample").exists()
    # another installation takes the user that is there
    rpm_tree.run("rpm -i --force-debian build-rpm/kbgp-target-[0-9]*.rpm")
    assert rpm_tree.run("stat -c %U:%a /var/lib/kbgp-target").strip() == "kbgp-target:700"


# --- the services, on a machine that boots; one story, in order ---


@pytest.fixture(scope="module")
def machine(fedora, rpms, tmp_path_factory):
    with Machine(fedora, tmp_path_factory.mktemp("machine"), rpms, seen_as="build-rpm") as m:
        m.run("grep -q target.example.com /etc/hosts || echo 127.0.0.1 target.example.com >> /etc/hosts")
        yield m


def in_order(machine, commands):
    for command in commands:
        machine.run(re.sub(r"^dnf ", "dnf -y ", command))


def test_installed_as_documented(machine):
    commands = documented("rpm package")
    # the source tree
    machine.run("install -D /dev/stdin packaging/rpm/kbgp.spec <<'END'\n" + (ROOT / "packaging/rpm/kbgp.spec").read_text() + "END\n")
    assert [c.split()[:2] for c in commands[:3]] == [["dnf", "config-manager"], ["dnf", "install"], ["dnf", "builddep"]]
    in_order(machine, commands[:3])
    assert "enabled=1" in machine.path("/etc/yum.repos.d/crb.repo").read_text()
    assert commands[3:4] == ["scripts/build-rpm"]  # the fixture has run it
    in_order(machine, commands[4:5])
    assert machine.run("rpm -qa kbgp").startswith("kbgp-0")
    machine.run("dnf -y install ./build-rpm/kbgp-target-[0-9]*.rpm")
    for unit in PACKAGES:
        assert machine.show(unit, "UnitFileState") == "disabled"
        assert machine.show(unit, "ActiveState") == "inactive"
        machine.run("systemctl", "restart", unit)
        assert machine.show(unit, "ActiveState") == "inactive"
        assert "/etc/default" in machine.run(f"systemctl status {unit}", check=False)


def test_they_start_as_documented(machine):
    for command in documented("The target as a service"):
        if "apt-get" not in command:
            machine.run(command)
    machine.run("install -D -m 644 /etc/kbgp-target/cert.pem /etc/kbgp/ca.pem")
    copy, rest = documented("The agent as a service")[:2], documented("The agent as a service")[2:]
    in_order(machine, copy)
    token = machine.path("/root/token").read_text().strip()
    with machine.path("/etc/default/kbgp.env").open("a") as environment:
        environment.write(f"KENTIK_API_EMAIL=noc@example.com\nKENTIK_API_TOKEN={token}\nKBGP_TARGET=target.example.com\n"
                          "KBGP_CA_FILE=/etc/kbgp/ca.pem\n")
    for command in rest:
        machine.run(command.replace("journalctl -fu", "journalctl --no-pager -u"))
    wait_for(lambda: json.loads(machine.run("kbgp status --json"))["ControlStream"]["Connected"], "the Control stream is up")
    for unit, capabilities in (("kbgp", (1 << 10) | (1 << 13)), ("kbgp-target", 1 << 10)):
        assert machine.active(unit)
        assert f"CapAmb:\t{capabilities:016x}" in machine.run("cat", f"/proc/{machine.pid(unit)}/status")


def test_an_upgrade_restarts_what_runs_and_nothing_else(machine):
    before = machine.pid("kbgp-target")
    machine.run("systemctl stop kbgp")
    machine.run("dnf -y upgrade ./build-rpm/newer/kbgp-[0-9]*.rpm ./build-rpm/newer/kbgp-target-[0-9]*.rpm")
    assert machine.active("kbgp-target") and machine.pid("kbgp-target") != before
    assert machine.show("kbgp", "ActiveState") == "inactive"
    for unit in PACKAGES:
        assert machine.show(unit, "UnitFileState") == "enabled"
    machine.run("systemctl start kbgp")


def test_removal_as_documented(machine):
    before = [machine.pid(unit) for unit in PACKAGES]
    commands = documented("rpm package")
    machine.run("dnf -y remove kbgp kbgp-target")
    assert "| `dnf remove kbgp kbgp-target` |" in (ROOT / "docs/install.md").read_text()
    for unit, pid in zip(PACKAGES, before):
        assert pid > 0 and machine.code("test", "-e", f"/proc/{pid}") != 0
        assert machine.show(unit, "LoadState") == "not-found"
        assert machine.path(f"/etc/default/{unit}.env").exists()
    in_order(machine, commands[-1:])
    left = machine.run("find / -xdev -name '*kbgp*' -not -path '/proc/*' -not -path '/var/log/*' -not -path '/root/*' "
                       "-not -path '/var/cache/dnf/*' -not -path '/var/lib/dnf/*'").split()
    operators = r"/etc/kbgp(-target)?|/etc/systemd/system/kbgp(-target)?\.service\.d"
    assert [f for f in left if not re.fullmatch(operators, f)] == []
