# SPDX-License-Identifier: Apache-2.0
"""
Every command of README.md and docs/troubleshooting.md, read from the page and run as it stands there, on a machine of its
own (harness/sandbox.py). A command that no test takes is found out. Elsewhere run:

- scripts/demo: by scripts/test, which CI runs; scripts/test: by CI
- building and installing: the same lines stand in docs/install.md, which tests/packaging follows
- systemctl and journalctl: by tests/packaging/test_systemd.py, which boots a machine
"""

import os
import re
from pathlib import Path

import pytest

from harness import frr, paths, sandbox, source
from harness.documentation import assert_shows, blocks, in_line
from harness.wait import wait_for

README, TROUBLE = "README.md", "docs/troubleshooting.md"

ROUTES = """log stderr all;
router id 10.0.0.1;
protocol device {}
protocol static { ipv4; route 203.0.113.0/24 blackhole; }
"""
# the README's with short timers and a password; of BIRD's there is no more in troubleshooting.md
BIRD = ROUTES + """protocol bgp kbgp {
    local 10.0.0.1 as 65001;
    neighbor 10.0.0.10 as 65001;
    connect delay time 1; connect retry time 2; error wait time 1, 2;
    %s
    ipv4 { import none; export all; };
}
"""


@pytest.fixture(scope="module")
def _namespaces(tmp_path_factory):
    why_not = sandbox.available(tmp_path_factory.mktemp("probe"))
    if why_not:
        pytest.skip(why_not)


@pytest.fixture
def machine(workdir, _namespaces):
    with sandbox.Sandbox(workdir) as m:
        yield m


class Todo:
    """The commands of a page that nobody has taken yet."""

    def __init__(self, page):
        self.steps = [(b.heading, b.mark, s) for b in blocks(page) for s in b.steps()]
        assert self.steps

    def take(self, heading, pattern=".*", number=None):
        """The steps below a heading whose command matches; so many of them if a number is given."""
        found = [s for h, _, s in self.steps if h == heading and re.match(pattern, s.command)]
        assert found and number in (None, len(found)), f"{heading}: {pattern}: {found}"
        self.steps = [x for x in self.steps if x[2] not in found or x[0] != heading]
        return found

    def assert_done(self):
        assert [s.command for _, _, s in self.steps] == [], "commands that no test takes"


def config(name, marker):
    """The README's configuration of a router, by a line that it has."""
    found = [b.text for b in blocks(README) if b.heading == "Configure a router" and marker in b.text]
    assert len(found) == 1, name
    return found[0]


def start_bird(machine, text):
    (machine.home / "bird.conf").write_text(text)
    return machine.start("bird -f -c bird.conf -s bird.ctl", "bird", router=True)


def wait_established(machine):
    def up():
        return re.search(r"^10\.0\.0\.1:.* established ", machine.run("kbgp sessions", check=False).stdout, re.MULTILINE)

    wait_for(up, "the router's session", 90, interval=0.3)


def listening(machine, port):
    return machine.run(f"ss -Hltn 'sport = :{port}'").stdout


def test_the_two_commands_on_top():
    """scripts/test runs scripts/demo, and CI runs scripts/test; both know the options that the page gives them."""
    steps = [s.command for b in blocks(README) if b.heading == "kbgp" for s in b.steps()]
    assert steps == ["scripts/demo", "scripts/test"]
    ci = [f.read_text() for f in (paths.ROOT / ".ci").iterdir()]
    assert any("/scripts/test\"\n" in text for text in ci)
    tests = (paths.ROOT / "scripts/test").read_text()
    assert re.search(r'stage "[^"]*" limited \S+ "\$ROOT/scripts/demo"', tests) and "--quick" in tests


def test_building_is_as_on_the_page_that_the_packaging_tests_follow():
    def lines(page, *headings):
        return [s.command for b in blocks(page) if b.heading in headings for s in b.steps()]

    assert lines(README, "Build and install") == [c for c in lines("docs/install.md", "Debian package", "From source")
                                                  if c in lines(README, "Build and install")]


def test_the_packaging_tests_take_every_part_of_install():
    """Each heading with commands below it is one that tests/packaging asks for by name."""
    text = re.sub(r"^```.*?^```$", "", (paths.ROOT / "docs/install.md").read_text(), flags=re.MULTILINE | re.DOTALL)
    parts = re.split(r"^#+ (.+)$", text, flags=re.MULTILINE)
    with_commands = {h for h, part in zip(parts[1::2], parts[2::2]) if re.search(r"^    ", part, re.MULTILINE)}
    assert len(with_commands) >= 5
    tests = "".join(f.read_text() for f in (paths.ROOT / "tests/packaging").glob("*.py"))
    assert sorted(h for h in with_commands if f'"{h}"' not in tests) == []


def test_readme(machine):
    """Target, agent, a router, its password, and a look at it all: the README from top to bottom."""
    todo = Todo(README)
    todo.take("kbgp")  # the two above
    todo.take("Build and install")

    target = None
    for step in todo.take("Run the target"):
        if step.command.startswith("kbgp-target serve"):
            target = machine.start(step.command, "target")
        else:
            done = machine.run(step.command)
    assert re.search(r" edge1 +10\.0\.0\.1,fd00::1 ", done.stdout), "what `device list` shows"
    target.wait_for_text("listening for agents")
    assert listening(machine, 443)

    # "Copy the token there, and the certificate": this is the same machine
    steps = todo.take("Run the agent")
    run_it = [s for s in steps if re.match("kbgp --email", s.command)]
    check = [s for s in steps if s.command.startswith("kbgp check")]
    assert len(run_it) == len(check) == 1 and len(steps) == 4
    for step in steps:
        if step not in run_it + check:
            machine.run(step.command)
    machine.run("cp /etc/kbgp-target/cert.pem /etc/kbgp/cert.pem")
    assert check[0].command == run_it[0].command.replace("kbgp ", "kbgp check "), "the same flags"
    assert_shows(check[0], machine.run(check[0].command).stdout)
    agent = machine.start(run_it[0].command, "agent")
    agent.wait_for_text("Control stream is up")

    bird = start_bird(machine, ROUTES + config("BIRD", "protocol bgp kbgp {"))
    wait_established(machine)
    wait_for(lambda: "203.0.113.0/24" in machine.run("cat /var/lib/kbgp-target/routes.json").stdout, "the route at the collector")

    for step in todo.take("See what is going on", number=1):
        shown = machine.run(step.command).stdout
        like = re.sub(r"\d", "0", step.output)  # an example has its numbers
        assert [w.split()[0] for w in like.splitlines()][0] == "PEER"
        assert step.output.splitlines()[0].split() == shown.splitlines()[0].split()
        assert [re.sub(r"\d+", "0", w) for w in step.output.splitlines()[1].split()[:2]] == \
            [re.sub(r"\d+", "0", w) for w in shown.splitlines()[1].split()[:2]]
    for command in table_commands("See what is going on"):
        assert machine.run(command).stdout, command
    for path in ("/hc", "/admin/agents", "/admin/sessions", "/metrics"):  # "On the target's machine"
        assert path in section("See what is going on")
        assert machine.run(f"curl --fail -s http://127.0.0.1:20921{path}").stdout
    assert bird.stop() == 0

    # a password: the router has one, the target hears of it, the agent is started anew
    (machine.home / "password.txt").write_text("Readme-Secret!\n")
    for step in todo.take("Routers with a password", number=2):
        if step.command.startswith("kbgp-target"):
            machine.run(step.command)
        else:
            assert agent.stop() == 0
            agent = machine.start(step.command, "agent-md5")
    agent.wait_for_text("TCP-MD5 key installed")
    bird = start_bird(machine, BIRD % 'password "Readme-Secret!";')
    wait_established(machine)
    assert bird.stop() == 0
    if frr_can_run():
        machine.run("kbgp-target device set edge1 --no-md5-password")
        agent.wait_for_text("TCP-MD5 key removed")
        run_frr(machine, config("FRR", " neighbor 10.0.0.10 update-source 10.0.0.1\n"))
        wait_established(machine)
    todo.assert_done()
    assert agent.stop() == 0 and target.stop() == 0


def frr_can_run():
    return Path(frr.BGPD).exists()


def run_frr(machine, text):
    # bgpd alone (-Z) has nobody to give it a router id
    (machine.home / "bgpd.conf").write_text(text + "router bgp 65001\n bgp router-id 10.0.0.1\n")
    machine.start(f"{frr.BGPD} -f bgpd.conf -i bgpd.pid --vty_socket . -P 0 -Z -S -n --log stdout", "bgpd", router=True)


def section(heading, page=README):
    text = (paths.ROOT / page).read_text()
    return re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)[1]


def table_commands(heading):
    """Those in the first column of a table of commands."""
    found = [c for row in re.findall(r"^\| (`.+?) \|", section(heading), re.MULTILINE) for c in re.findall(r"`([^`]+)`", row)]
    assert len(found) > 5
    return found


# docs/troubleshooting.md

ENV = """KENTIK_API_EMAIL=noc@example.com
KENTIK_API_TOKEN={token}
KBGP_TARGET=target.example.com
KBGP_CA_FILE=/etc/kbgp-target/cert.pem
KENTIK_ENABLE_MD5={md5}
"""


class Scene:
    """A target with an account, an agent and BIRD. `known`: the router is a device; `password`: BIRD has one."""

    def __init__(self, machine, *, known=True, password=None, md5=False):
        self.machine = machine
        certificate = [s for b in blocks(README) if b.heading == "Run the target" for s in b.steps()
                       if s.command.startswith(("install -d", "openssl"))]
        for step in certificate:
            machine.run(step.command)
        token = machine.run("kbgp-target account add noc@example.com").stdout.strip()
        if known:
            machine.run("kbgp-target device add edge1 --address 10.0.0.1 --asn 65001")
        machine.run("cat > /etc/default/kbgp.env <<'END'\n" + ENV.format(token=token, md5=str(md5).lower()) + "END")
        self.target = machine.start("kbgp-target serve --tls-cert /etc/kbgp-target/cert.pem --tls-key /etc/kbgp-target/key.pem",
                                    "target")
        self.target.wait_for_text("listening for agents")
        self.agent = machine.start("kbgp --env-file /etc/default/kbgp.env", "agent")
        self.agent.wait_for_text("Control stream is up")
        self.bird = start_bird(machine, BIRD % (f'password "{password}";' if password else ""))

    def end(self):
        assert self.bird.stop() == self.agent.stop() == self.target.stop() == 0


def scene_steps(name):
    """The steps of a scene. That none is left out: test_every_block_has_its_scene."""
    found = [s for b in blocks(TROUBLE) for s in b.steps() if b.mark == name]
    assert found
    return found


SCENES = {"up", "unknown", "password", "token", "no target"}
# indented blocks: those that need what the test below says
ELSEWHERE = {
    "journalctl -u kbgp -b", "journalctl -u kbgp -p warning",  # tests/packaging/test_systemd.py
    "tcpdump -ni any tcp port 179",  # test_what_tcpdump_shows
    "curl -s 'http://127.0.0.1:20920/admin/sessions/10.0.0.1?pretty'",  # test_troubleshooting_when_all_is_well
}


def test_every_block_has_its_scene():
    assert {b.mark for b in blocks(TROUBLE) if b.fenced} == SCENES
    assert {s.command for b in blocks(TROUBLE) if not b.fenced for s in b.steps()} == ELSEWHERE


# in tables and text: what cannot be run here, and why
NOT_HERE = {
    "journalctl -u kbgp -b": "systemd", "systemctl status kbgp": "systemd", "systemctl restart kbgp": "systemd",
    "systemctl edit kbgp": "systemd; an editor", "timedatectl": "systemd",
    "setcap cap_net_bind_service+ep /usr/bin/kbgp": "the program would have to be there", "tcpdump": "a name",
    "kbgp check": "the page's first block has it with its flag", "kbgp-target account add noc@example.com": "the scene has",
}
OPTIONAL = {"nft", "ping"}  # run where they are installed
COMMAND = re.compile(r"(kbgp|kbgp-target|curl|ss|tcpdump|getent|ip|nft|ping|systemctl|journalctl|timedatectl|setcap|install)( |$)")


def test_troubleshooting_when_all_is_well(machine):
    scene = Scene(machine)
    wait_established(machine)
    wait_for(lambda: '"status":"ok"' in machine.run("curl -s http://127.0.0.1:20920/hc").stdout, "/hc is ok")
    for step in scene_steps("up"):
        assert_shows(step, machine.run(step.command).stdout)
    shown = machine.run("curl -s 'http://127.0.0.1:20920/admin/sessions/10.0.0.1?pretty'").stdout
    assert '"LastNotification"' in shown

    # whatever else the page says in passing; in the end some of it ends the session
    machine.run("kbgp-target site add first")
    (machine.home / "password.txt").write_text("secret-of-edge1\n")
    logged = {m.text for m in source.messages()}
    commands = [c for c in dict.fromkeys(in_line(TROUBLE)) if COMMAND.match(c) and c not in logged and c not in ("kbgp", "kbgp-target")]
    assert len(commands) > 15
    ran = []
    for command in commands:
        program = command.split()[0]
        if command in NOT_HERE or "…" in command or (program in OPTIONAL and paths.find(program) is None):
            continue
        machine.run(command)
        ran.append(command)
    assert [c for c in NOT_HERE if c not in commands] == [], "no longer on the page"
    assert len(ran) > 10, ran
    scene.end()


def test_troubleshooting_an_unknown_device(machine):
    scene = Scene(machine, known=False)
    add = scene_steps("unknown")
    shown = [b.text.strip() for b in blocks(TROUBLE) if b.mark == "unknown" and not b.steps()]
    assert len(shown) == 1 and len(add) == 1
    scene.agent.wait_for_text("Deny-listed an INVALID / UNKNOWN device")
    scene.target.wait_for_text("unknown device, denied")
    said = next(l for l in scene.target.output().splitlines() if "unknown device, denied" in l)
    assert re.fullmatch(re.escape(shown[0]).replace("…", ".*?"), said), said
    machine.run(add[0].command)
    wait_established(machine)
    scene.end()


def test_troubleshooting_a_password(machine):
    """Signed without a key at the target; set; then another one."""
    scene = Scene(machine, password="secret-of-edge1", md5=True)
    scene.agent.wait_for_text("a router signs its connection (TCP-MD5), but the target has no key for the device: it cannot connect")
    (machine.home / "password.txt").write_text("secret-of-edge1\n")
    for step in scene_steps("password"):
        machine.run(step.command)
    wait_established(machine)
    assert re.search(r"^MD5 +on", machine.run("kbgp status").stdout, re.MULTILINE)
    scene.end()


def test_troubleshooting_a_new_token(machine):
    scene = Scene(machine)
    machine.run("cp /etc/default/kbgp.env before.env; echo wrong > wrong; "
                "sed -i 's/^KENTIK_API_TOKEN=.*/KENTIK_API_TOKEN_FILE=token/' before.env")
    assert scene.agent.stop() == 0
    (machine.home / "token").write_text("wrong\n")
    agent = machine.start("kbgp --env-file before.env", "second")
    agent.wait_for_text("the target rejected the credentials: check --email and --token")
    assert "rejects the account" in machine.run("kbgp status").stdout
    for step in scene_steps("token"):
        machine.run(step.command)
    agent.wait_for_text("the rejected token has changed in its file, trying again")
    agent.wait_for_text("Control stream is up")
    assert agent.stop() == 0


def test_troubleshooting_without_a_target(machine):
    scene = Scene(machine)
    wait_established(machine)
    assert scene.target.stop() == 0
    wait_for(lambda: "failing" in machine.run("curl -s http://127.0.0.1:20920/hc").stdout, "/hc fails")
    for step in scene_steps("no target"):
        done = machine.run(step.command, check=False)
        assert_shows(step, done.stdout)
    assert scene.agent.stop() == 0


def test_what_tcpdump_shows(machine):
    """The table of "No TCP": refused by nobody, by the kernel (MD5), by the agent."""
    if paths.find("tcpdump") is None:
        pytest.skip("tcpdump is not installed")
    if os.geteuid() != 0:
        pytest.skip("tcpdump becomes another user, of whom there is none in a user's own namespace")
    command = "tcpdump -ni any tcp port 179"
    assert command in {s.command for b in blocks(TROUBLE) for s in b.steps()}
    dump = machine.start(f"{command} -l --immediate-mode", "tcpdump")
    wait_for(lambda: "listening on any" in dump.output() or dump.assert_running(), "tcpdump to listen")

    def flags(pattern):
        wait_for(lambda: re.search(pattern, dump.output(), re.DOTALL), f"{pattern} of tcpdump:\n{dump.output()[-2000:]}")

    bird = start_bird(machine, BIRD % "")
    flags(r"10\.0\.0\.1\.\d+ > 10\.0\.0\.10\.179: Flags \[S\].*10\.0\.0\.10\.179 > 10\.0\.0\.1\.\d+: Flags \[R\.\]")
    assert bird.stop() == 0
    scene = Scene(machine, known=False, md5=True)
    flags(r"Flags \[S\.\].*10\.0\.0\.10\.179 > 10\.0\.0\.1\.\d+: Flags \[[FR]\.?\]")
    assert scene.bird.stop() == 0
    bird = start_bird(machine, BIRD % 'password "other";')
    flags(r"10\.0\.0\.1\.\d+ > 10\.0\.0\.10\.179: Flags \[S\][^\n]*md5")
    assert bird.stop() == 0
