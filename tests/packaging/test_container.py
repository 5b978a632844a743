# SPDX-License-Identifier: Apache-2.0
"""
The container images: built by the script, run by the very commands of docs/install.md, with Podman in Docker's place. The
tests from "the target" on tell one story, in order.
"""

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from containers import Containers
from documented import ROOT, documented
from machine import DEADLINE, SUITE, wait_for

sys.path.append(str(ROOT / "tests/e2e"))
from harness.dns import Dns  # noqa: E402

IMAGES = ("kbgp", "kbgp-target")
USER = 65532
# Bytes of all files. Larger by a surprise: a library came in that nobody wanted.
SIZE_LIMIT = {"kbgp": 40e6, "kbgp-target": 33e6}  # 13 MB of each is IPsec-MB
NET_BIND_SERVICE, NET_RAW = 1 << 10, 1 << 13
PREFIX = "203.0.113.0/24"
ROUTER, AGENT = "10.0.0.1", "10.0.0.10"
NAMES = ("target.example.com", "grpc.api.kentik.com")

BIRD = f"""
log stderr all;
router id {ROUTER};
protocol device {{}}
protocol static {{ ipv4; route {PREFIX} blackhole; }}
protocol bgp kbgp {{
    local {ROUTER} port 1790 as 65001;
    neighbor {AGENT} port 179 as 65001;
    multihop; strict bind on; rr client; PASSWORD
    connect delay time 1; connect retry time 2; error wait time 1, 2;
    ipv4 {{ import none; export all; next hop address {ROUTER}; }};
}}
"""


# --- what is built ---

@pytest.fixture(scope="module")
def containers(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("containers")
    with Containers(workdir / "podman", [ROUTER, AGENT]) as c:
        build(c, workdir)
        with Dns(c.netns, {name: ["127.0.0.1"] for name in NAMES}):
            yield c
    assert not (workdir / "podman").exists()
    assert str(workdir) not in Path("/proc/self/mountinfo").read_text()


def build(containers, workdir):
    """Both images, by the documented command, on a Debian of our own: no registry is asked."""
    tar = workdir / "base.tar"
    subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", SUITE, tar], check=True, capture_output=True, timeout=900)
    containers.run(f"c=$(buildah from scratch); buildah add --quiet $c {tar} /; buildah commit --quiet $c localhost/base; "
                   "buildah rm $c", timeout=600)
    tar.unlink()
    # how this machine reaches its package server
    settings = workdir / "apt.conf"
    dump = subprocess.run(["apt-config", "dump"], check=True, capture_output=True, text=True).stdout
    settings.write_text("".join(line for line in dump.splitlines(True) if line.startswith("Acquire::")))
    (command,) = documented("Container")
    assert command == "scripts/build-container"
    shown = containers.run(f"cd {ROOT}; {command} --build-arg BASE=localhost/base --build-arg SOURCE=https://example.com/kbgp "
                           f"--volume {settings}:/etc/apt/apt.conf.d/99build:ro", network=False, timeout=1800)
    assert shown.splitlines()[-2:] == [f"{image}:{version()}" for image in IMAGES]


def version():
    return re.search(r"version : '(.*)'", (ROOT / "meson.build").read_text())[1]


@pytest.fixture(params=IMAGES)
def image(request, containers):
    return request.param


@pytest.fixture
def files(image, containers):
    """The root of an image, to be looked at."""
    yield Path(containers.run(f"docker image mount {image}").strip())
    containers.run(f"docker image unmount {image}")


def test_what_the_image_says_of_itself(image, containers):
    inspected = containers.inspect(image)
    config = inspected["Config"]
    labels = {k.removeprefix("org.opencontainers.image."): v for k, v in config["Labels"].items()}
    assert (labels["title"], labels["licenses"], labels["source"]) == (image, "Apache-2.0", "https://example.com/kbgp")
    assert labels["version"] == version() and labels["description"]
    git = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty", "--exclude=*"], capture_output=True, text=True)
    assert labels["revision"] == git.stdout.strip()
    assert config["User"] == f"{USER}:{USER}"
    assert config["Entrypoint"] == [f"/usr/bin/{image}"]
    assert config["StopSignal"] in ("SIGTERM", "15")
    assert inspected["Healthcheck"]["Test"] == ["CMD", f"/usr/bin/{image}",
                                                 *(["check", "--ready"] if image == "kbgp" else ["ready"])]
    assert list(config.get("Volumes") or {}) == (["/var/lib/kbgp-target"] if image == "kbgp-target" else [])
    assert containers.run(f"docker run --rm --network none {image} --version") == f"{image} {version()}\n"


def test_the_image_holds_the_program_and_its_libraries_and_nothing_else(image, files):
    size, programs = 0, []
    for folder, _, names in os.walk(files):
        for path in (Path(folder) / n for n in names):
            info = path.lstat()
            size += info.st_size
            assert not info.st_mode & (stat.S_ISUID | stat.S_ISGID), path
            inside = str(path.relative_to(files))
            if stat.S_ISREG(info.st_mode) and info.st_mode & 0o111 and not re.match(r"lib(64)?/", inside):
                programs.append(inside)
    assert programs == [f"usr/bin/{image}"]
    assert size < SIZE_LIMIT[image]
    assert sorted(p.name for p in (files / "etc").iterdir()) == \
        sorted(["group", "nsswitch.conf", "os-release", "passwd"] + (["ssl"] if image == "kbgp" else []))
    # the capabilities without the effective bit, which would keep the file from starting where one is missing
    words = {"kbgp": "cap_net_bind_service,cap_net_raw=p", "kbgp-target": "cap_net_bind_service=p"}
    shown = subprocess.run(["getcap", files / f"usr/bin/{image}"], check=True, capture_output=True, text=True).stdout
    assert shown.split()[1:] == [words[image]]


def test_the_libraries_come_with_licences_and_versions(image, files):
    packages = [p.name for p in (files / "var/lib/dpkg/status.d").iterdir()]
    assert {"libc6", "libssl3", "libuv1"} <= set(packages)
    for name in packages:
        assert re.search(r"^Version: \d", (files / "var/lib/dpkg/status.d" / name).read_text(), re.MULTILINE)
    for name in packages + [image]:
        assert (files / "usr/share/doc" / name / "copyright").stat().st_size > 0


# --- the target ---

@pytest.fixture(scope="module")
def etc(containers):
    """Stands for /etc. Two names are in the certificate: the documentation's, and Kentik's for a DNS server of ours."""
    path = containers.workdir / "etc"
    path.mkdir()
    commands = [c for c in documented("The target as a service") if c.startswith(("install -d", "openssl"))]
    assert len(commands) == 2
    for command in commands:
        containers.run(at(path, command).replace("DNS:target.example.com", ",".join(f"DNS:{name}" for name in NAMES)))
    (containers.home / "cert.pem").write_bytes((path / "kbgp-target/cert.pem").read_bytes())
    return path


def at(etc, command):
    # Podman would mount a writable /tmp, which Docker does not
    return command.replace("/etc/kbgp", f"{etc}/kbgp").replace("--read-only", "--read-only --read-only-tmpfs=false")


def follow(containers, etc, heading, but=lambda command: False):
    return "".join(containers.run(at(etc, c)) for c in documented(heading) if not but(c))


def is_kentik(command):
    return "KENTIK_API_TOKEN=TOKEN" in command


def run_agent(containers, etc):
    """The second of the documented ways: own target, token in a file, few rights."""
    follow(containers, etc, "The agent in a container", but=is_kentik)


def token_of(containers):
    return (containers.home / "token").read_text().strip()


def routes(containers):
    folder = containers.run("docker volume inspect --format '{{.Mountpoint}}' kbgp-target").strip()
    return [json.loads(line) for line in (Path(folder) / "routes.json").read_text().splitlines()]


def wait(containers, condition, what, **more):
    """As wait_for(); a failure shows what both programs said last."""
    try:
        return wait_for(condition, what, **more)
    except AssertionError as e:
        logs = "".join(f"--- {name}\n{containers.log(name)[-4000:]}\n" for name in IMAGES)
        raise AssertionError(f"{e}\n{logs}") from None


def healthy(containers, name):
    return containers.code(f"docker healthcheck run {name}") == 0


def wait_healthy(containers, name):
    wait(containers, lambda: healthy(containers, name), f"{name} is healthy", timeout=2 * DEADLINE)


def wait_unhealthy(containers, name):
    wait(containers, lambda: not healthy(containers, name), f"{name} is unhealthy", timeout=2 * DEADLINE)


def established(containers, name="kbgp"):
    try:
        sessions = json.loads(containers.run(f"docker exec {name} kbgp sessions --json", check=False))["Sessions"]
    except (ValueError, KeyError):
        return []
    return [s for s in sessions if s["Connected"] and s["BGP"]["State"] == "established"]


def wait_established(containers, name="kbgp"):
    wait(containers, lambda: established(containers, name), "the router's session is established", interval=1)


def stop(containers, name):
    """By the documented command; in order and in time."""
    start = time.monotonic()
    containers.run(f"docker stop --time 60 {name}")
    assert time.monotonic() - start < 20
    state = containers.inspect(name)["State"]
    assert (state["Running"], state["ExitCode"]) == (False, 0)
    assert '"stopped"' in containers.log(name)


def capabilities(containers, name):
    """(uid, permitted, effective) of the program."""
    text = Path(f"/proc/{containers.pid(name)}/status").read_text()
    value = dict(line.split(":\t", 1) for line in text.splitlines())
    assert len(set(value["Uid"].split())) == 1
    return int(value["Uid"].split()[0]), int(value["CapPrm"], 16), int(value["CapEff"], 16)


class Router:
    """BIRD in the namespace."""

    def __init__(self, containers):
        self.conf = containers.workdir / "bird.conf"
        self.words = containers.inside("bird", "-f", "-c", self.conf, "-s", containers.workdir / "bird.ctl")

    def start(self, password=None):
        self.conf.write_text(BIRD.replace("PASSWORD", f'password "{password}";' if password else ""))
        self.process = subprocess.Popen(self.words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)

    def stop(self):
        self.process.terminate()
        self.process.wait(DEADLINE)


@pytest.fixture(scope="module")
def router(containers):
    r = Router(containers)
    r.start()
    yield r
    r.stop()


def test_the_target_starts_as_documented(containers, etc):
    follow(containers, etc, "The target in a container", but=lambda c: c.startswith("docker exec"))
    wait_healthy(containers, "kbgp-target")
    shown = follow(containers, etc, "The target in a container", but=lambda c: not c.startswith("docker exec"))
    assert "edge1" in shown and ROUTER in shown
    assert '"listening for agents"' in containers.log("kbgp-target")
    assert capabilities(containers, "kbgp-target") == (USER, NET_BIND_SERVICE, NET_BIND_SERVICE)


def test_check_in_a_container(containers, etc):
    """Names come from DNS, and the agent's certificates from the place of the system's."""
    (command,) = [c for c in documented("The agent in a container") if is_kentik(c)]
    words = command.replace("KENTIK_API_TOKEN=TOKEN", f"KENTIK_API_TOKEN={token_of(containers)}").replace(" -d --name kbgp", "")
    shown = containers.run(words + " check", check=False)
    assert re.search(r"^DNS +ok .*127\.0\.0\.1", shown, re.MULTILINE), shown
    assert re.search(r"^TLS +PROBLEM .*not trusted", shown, re.MULTILINE), shown
    trusting = words.replace("docker run", f"docker run -v {etc}/kbgp-target/cert.pem:/etc/ssl/certs/ca-certificates.crt:ro")
    shown = containers.run(trusting + " check", check=False)
    for thing in ("TLS", "HTTP/2", "credentials", "listen 0.0.0.0:179"):
        assert re.search(rf"^{re.escape(thing)} +ok ", shown, re.MULTILINE), shown


# --- the agent ---

def test_the_agent_with_the_shortest_command(containers, etc, router):
    """The one for Kentik, with our target in its place."""
    (command,) = [c for c in documented("The agent in a container") if is_kentik(c)]
    command = command.replace("KENTIK_API_TOKEN=TOKEN", f"KENTIK_API_TOKEN={token_of(containers)}") \
        .replace("docker run", f"docker run -v {etc}/kbgp-target/cert.pem:/etc/ssl/certs/ca-certificates.crt:ro")
    containers.run(command)
    wait_established(containers)
    wait_healthy(containers, "kbgp")
    assert token_of(containers) not in containers.log("kbgp")
    containers.run("docker stop --time 60 kbgp")
    # --rm: it is gone
    wait_for(lambda: containers.code("docker container exists kbgp") == 1, "the container is removed")


def test_the_agent_with_few_rights(containers, etc, router):
    run_agent(containers, etc)
    wait_established(containers)
    wait_for(lambda: any(PREFIX in e.get("prefixes", ()) for e in routes(containers)), "the route at the collector")
    assert capabilities(containers, "kbgp") == (USER, NET_BIND_SERVICE, NET_BIND_SERVICE)
    token = token_of(containers)
    assert (etc / "kbgp/token").stat().st_uid == USER and (etc / "kbgp/token").stat().st_mode & 0o777 == 0o400
    assert token not in containers.run("docker inspect kbgp") + containers.log("kbgp") + containers.log("kbgp-target")
    # its open files are counted, though the kernel hides them from others than the program itself
    metrics = subprocess.run(containers.inside("curl", "-sS", "http://127.0.0.1:20920/metrics"), check=True, text=True,
                             capture_output=True, timeout=DEADLINE).stdout
    assert int(re.search(r"^process_open_fds (\d+)", metrics, re.MULTILINE)[1]) > 5
    assert re.search(r'^kbgp_build_info\{version="[^"]+",revision="[0-9a-f]{7,}(-dirty)?"\} 1$', metrics, re.MULTILINE)


def test_a_changed_token_is_read(containers, etc, router):
    old = token_of(containers)
    containers.run("docker exec kbgp-target kbgp-target account token noc@example.com > token")
    assert token_of(containers) not in ("", old)
    follow(containers, etc, "The agent in a container", but=lambda c: not c.startswith("install -m 400"))
    containers.run("docker kill --signal HUP kbgp")
    wait(containers, lambda: '"token":"changed"' in containers.log("kbgp"), "the agent says that it has the token")
    # it knocks with the new one
    containers.run("docker stop --time 60 kbgp-target; docker start kbgp-target")
    wait_established(containers)
    wait_healthy(containers, "kbgp")


def test_health(containers, router):
    shown = [containers.run(c) for c in documented("Health of a container")]
    assert shown == ["ok\n", "ok\n"]
    wait_healthy(containers, "kbgp")
    target = containers.pid("kbgp-target")
    os.kill(target, signal.SIGSTOP)
    try:
        wait_unhealthy(containers, "kbgp-target")
        wait_unhealthy(containers, "kbgp")
        assert "not ready: " in containers.run("docker exec kbgp kbgp check --ready", check=False)
    finally:
        os.kill(target, signal.SIGCONT)
    for name in IMAGES:
        wait_healthy(containers, name)
    wait_established(containers)
    # the image's own check says so, too
    assert containers.inspect("kbgp")["State"]["Health"]["Status"] == "healthy"


def test_both_stop_in_order_and_start_again(containers, router):
    for name in IMAGES:
        stop(containers, name)
    containers.run("docker start kbgp-target kbgp")
    wait_established(containers)


def test_an_upgrade_keeps_the_inventory(containers, etc, router):
    containers.run("docker rm --force --time 20 kbgp kbgp-target")
    follow(containers, etc, "The target in a container", but=lambda c: not c.startswith("docker run -d"))
    run_agent(containers, etc)
    wait_established(containers)
    containers.run("docker rm --force --time 20 kbgp")


def test_a_router_with_a_password(containers, etc, router):
    """CAP_NET_RAW is not there by itself, and is used where it is."""
    (command,) = [c for c in documented("The agent in a container") if c.startswith("docker run") and not is_kentik(c)]
    command = at(etc, command).replace(" -d ", " -d -e KENTIK_ENABLE_MD5=true ").replace("--restart unless-stopped ", "")
    containers.run(command)
    wait_for(lambda: not containers.inspect("kbgp")["State"]["Running"], "the agent ends")
    assert containers.inspect("kbgp")["State"]["ExitCode"] == 1
    assert "CAP_NET_RAW" in containers.log("kbgp")
    containers.run("docker rm kbgp")

    (containers.workdir / "password").write_text("s3cret\n")
    (containers.workdir / "password").chmod(0o644)
    containers.run(f"docker run --rm --network none -v kbgp-target:/var/lib/kbgp-target -v {containers.workdir}/password:/password:ro "
                   "kbgp-target device set edge1 --md5-password-file /password")
    containers.run(command.replace("--cap-add NET_BIND_SERVICE", "--cap-add NET_BIND_SERVICE --cap-add NET_RAW"))
    both = NET_BIND_SERVICE | NET_RAW
    assert capabilities(containers, "kbgp") == (USER, both, both)
    wait(containers, lambda: "a device that has a key, refusing it" in containers.log("kbgp"), "the unsigned router is refused")
    assert not established(containers)
    router.stop()
    router.start("s3cret")
    wait_established(containers)
    router.stop()
    router.start()
    containers.run("docker rm --force --time 20 kbgp")
    containers.run("docker exec kbgp-target kbgp-target device set edge1 --no-md5-password")


def test_without_new_privileges(containers, etc, router):
    """What the documentation says: not as it is; what --cap-add names; on another port; as root with one capability."""
    (command,) = [c for c in documented("The agent in a container") if c.startswith("docker run") and not is_kentik(c)]
    command = at(etc, command).replace(" -d ", " -d --security-opt no-new-privileges ").replace("--restart unless-stopped ", "")
    rights = " --cap-drop ALL --cap-add NET_BIND_SERVICE"
    assert rights in command
    # as under Docker: the container may have the capability, the program does not get it
    containers.run(command.replace(rights, ""))
    wait_for(lambda: not containers.inspect("kbgp")["State"]["Running"], "the agent ends")
    assert "a port below 1024 needs root or CAP_NET_BIND_SERVICE" in containers.log("kbgp")
    containers.run("docker rm kbgp")

    containers.run(command)
    wait_established(containers)
    assert capabilities(containers, "kbgp") == (USER, NET_BIND_SERVICE, NET_BIND_SERVICE)
    containers.run("docker rm --force --time 20 kbgp")

    containers.run(command.replace(rights, " --cap-drop ALL") + " --listen 127.0.0.1:1179")
    wait_healthy(containers, "kbgp")
    assert capabilities(containers, "kbgp") == (USER, 0, 0)
    containers.run("docker rm --force --time 20 kbgp")

    # root without CAP_DAC_OVERRIDE reads what everybody, or root, may read
    (etc / "kbgp/token").chmod(0o444)
    containers.run(command.replace(rights, f" --user 0{rights}"))
    wait_established(containers)
    assert capabilities(containers, "kbgp") == (0, NET_BIND_SERVICE, NET_BIND_SERVICE)
    containers.run("docker rm --force --time 20 kbgp")
    (etc / "kbgp/token").chmod(0o400)


def test_a_memory_limit(containers, etc, router):
    (command,) = [c for c in documented("The agent in a container") if c.startswith("docker run") and not is_kentik(c)]
    assert "`--memory 1g`" in (ROOT / "docs/install.md").read_text()
    containers.run(at(etc, command).replace(" -d ", " -d --memory 1g "))
    wait_established(containers)
    wait_healthy(containers, "kbgp")
    assert containers.inspect("kbgp")["HostConfig"]["Memory"] == 1 << 30
    stop(containers, "kbgp")
