# SPDX-License-Identifier: Apache-2.0
"""
The services on a machine that boots, installed and configured by the very commands of docs/install.md. The tests tell one
story, in order: one machine serves them all.
"""

import json
import re

import pytest

from documented import documented
from machine import Machine, wait_for

PREFIX = "203.0.113.0/24"
ROUTER, AGENT = "10.250.15.1", "10.250.12.10"

BIRD = f"""
log stderr all;
router id {ROUTER};
protocol device {{}}
protocol static {{ ipv4; route {PREFIX} blackhole; }}
protocol bgp kbgp {{
    local {ROUTER} port 1790 as 65001;
    neighbor {AGENT} port 179 as 65001;
    multihop; strict bind on; rr client;
    connect delay time 1; connect retry time 2; error wait time 1, 2;
    ipv4 {{ import none; export all; next hop address {ROUTER}; }};
}}
"""


def follow(machine, commands):
    """Runs documented commands; what they print."""
    shown = []
    for command in commands:
        # apt asks a person, and a log is followed by one
        command = command.replace("apt-get install", "apt-get install -y --no-install-recommends")
        shown.append(machine.run(command.replace("journalctl -fu", "journalctl --no-pager -u")))
    return "\n".join(shown)


@pytest.fixture(scope="module")
def machine(debian, debs, tmp_path_factory):
    with Machine(debian, tmp_path_factory.mktemp("machine"), debs) as m:
        prepare(m)
        yield m


def prepare(machine):
    """The network around the services: one machine plays the router, the agent and the target."""
    machine.run(f"ip address add {ROUTER}/32 dev lo; ip address add {AGENT}/32 dev lo")
    machine.run("grep -q target.example.com /etc/hosts || echo 127.0.0.1 target.example.com >> /etc/hosts")


def set_variables(machine, path, **variables):
    """Edits an environment file as the sample says: without the # in front. None: puts it back."""
    file = machine.path(path)
    text = file.read_text()
    for name, value in variables.items():
        line = f"#{name}=" if value is None else f"{name}={value}"
        text, count = re.subn(rf"^#?{name}=.*$", lambda _, line=line: line, text, flags=re.MULTILINE)
        assert count == 1, f"{name} in {path}"
    file.write_text(text)


def token_of(machine):
    return machine.path("/root/token").read_text().strip()


def status(machine):
    return json.loads(machine.run("kbgp status --json", check=False) or "{}")


def control_up(machine):
    try:
        return status(machine)["ControlStream"]["Connected"]
    except (ValueError, KeyError):
        return False


def established(machine):
    try:
        sessions = json.loads(machine.run("kbgp sessions --json", check=False))["Sessions"]
    except (ValueError, KeyError):
        return False
    return [s for s in sessions if s["Connected"] and s["BGP"]["State"] == "established"]


def wait_established(machine):
    wait_for(lambda: established(machine), "the router's session is established")


def test_nothing_starts_before_it_is_configured(machine):
    install = [c for c in documented("Debian package") if "apt-get" in c]
    follow(machine, install + [c for c in documented("The target as a service") if "apt-get" in c])
    for unit in ("kbgp", "kbgp-target"):
        assert machine.show(unit, "UnitFileState") == "disabled"
        machine.run("systemctl", "restart", unit)
        assert machine.show(unit, "ActiveState") == "inactive"
        assert "/etc/default" in machine.run(f"systemctl status {unit}", check=False)


def test_the_target_starts_as_documented(machine):
    shown = follow(machine, [c for c in documented("The target as a service") if "apt-get" not in c])
    machine.run(f"kbgp-target device set edge1 --address {ROUTER}")  # the page's is another
    assert "listening for agents" in shown
    assert machine.active("kbgp-target")
    assert machine.show("kbgp-target", "UnitFileState") == "enabled"


def test_the_agent_starts_as_documented(machine):
    commands = documented("The agent as a service")
    copy, rest = commands[:2], commands[2:]
    follow(machine, copy)
    machine.run("install -D -m 644 /etc/kbgp-target/cert.pem /etc/kbgp/ca.pem")
    set_variables(machine, "/etc/default/kbgp.env", KENTIK_API_EMAIL="noc@example.com", KENTIK_API_TOKEN=token_of(machine),
                  KBGP_TARGET="target.example.com", KBGP_CA_FILE="/etc/kbgp/ca.pem")
    shown = follow(machine, rest)
    assert re.search(r"^credentials +ok ", shown, re.MULTILINE)
    assert "listening for BGP" in shown
    # Type=notify: the restart came back when the agent said that it is ready
    assert machine.active("kbgp")
    wait_for(lambda: control_up(machine), "the Control stream is up")
    wait_for(lambda: "connected to target.example.com:443" in machine.show("kbgp", "StatusText"), "the status says so")


def test_a_router_comes_up(machine):
    machine.path("/etc/router.conf").write_text(BIRD)
    machine.run("systemd-run --quiet --unit=router bird -f -c /etc/router.conf -s /run/router.ctl")
    wait_established(machine)
    journal = machine.journal("kbgp")
    for message in ("listening for BGP", "kbgp started", "Control stream is up", "opening Data stream"):
        assert message in journal, message
    line = next(l for l in journal.splitlines() if "opening Data stream" in l)
    assert ROUTER in line and "edge1" in line
    wait_for(lambda: PREFIX in machine.path("/var/lib/kbgp-target/routes.json").read_text(), "the route at the collector")
    for unit in ("kbgp", "kbgp-target"):
        assert token_of(machine) not in machine.journal(unit)


def test_the_log_as_in_troubleshooting(machine):
    commands = [c for c in documented("Look here first", "docs/troubleshooting.md") if c.startswith("journalctl")]
    assert len(commands) == 2
    everything, warnings = (machine.run(c) for c in commands)
    assert '"kbgp started"' in everything
    assert '"kbgp started"' not in warnings
    assert "active (running)" in machine.run("systemctl status kbgp")


@pytest.mark.parametrize("unit", ["kbgp", "kbgp-target"])
def test_the_process_has_the_capabilities_it_needs(machine, unit):
    status = machine.run("cat", f"/proc/{machine.pid(unit)}/status")
    value = dict(line.split(":\t", 1) for line in status.splitlines())
    net_bind_service, net_raw = 1 << 10, 1 << 13  # the agent sees signed SYNs, too
    wanted = f"{net_bind_service | (net_raw if unit == 'kbgp' else 0):016x}"
    assert [value[f"Cap{name}"] for name in ("Prm", "Eff", "Bnd", "Amb")] == [wanted] * 4
    assert (value["NoNewPrivs"], value["Seccomp"]) == ("1", "2")
    assert "0" not in value["Uid"].split()
    level = re.search(r"exposure level for .*: ([0-9.]+)", machine.run(f"systemd-analyze --no-pager security {unit}"))
    assert float(level[1]) < 2.0


def test_reload_keeps_the_session(machine):
    before, (session,) = machine.pid("kbgp"), established(machine)
    machine.run("systemctl reload kbgp")
    wait_for(lambda: '"reloaded"' in machine.journal("kbgp"), "the agent says that it has reloaded")
    assert machine.pid("kbgp") == before
    assert [s["Peer"] for s in established(machine)] == [session["Peer"]]


@pytest.mark.parametrize("unit", ["kbgp", "kbgp-target"])
def test_a_killed_service_is_started_again(machine, unit):
    before = machine.pid(unit)
    machine.signal(unit, "SIGKILL")
    wait_for(lambda: machine.active(unit) and machine.pid(unit) not in (0, before), f"{unit} runs again")
    wait_established(machine)


@pytest.mark.parametrize("unit", ["kbgp", "kbgp-target"])
def test_a_service_that_hangs_is_started_again(machine, unit):
    machine.run(f"mkdir -p /run/systemd/system/{unit}.service.d; "
                f"printf '[Service]\\nWatchdogSec=2\\nTimeoutStopSec=3\\n' > /run/systemd/system/{unit}.service.d/short.conf; "
                f"systemctl daemon-reload; systemctl restart {unit}")
    before = machine.pid(unit)
    machine.run("sleep 5") # more than twice the limit: one that does not report would have been ended
    assert machine.pid(unit) == before
    wait_established(machine)
    machine.signal(unit, "SIGSTOP")
    wait_for(lambda: machine.active(unit) and machine.pid(unit) not in (0, before), f"{unit} runs again")
    assert "Watchdog timeout" in machine.journal(unit)
    machine.run(f"rm -r /run/systemd/system/{unit}.service.d; systemctl daemon-reload; systemctl restart {unit}")
    wait_established(machine)


def test_the_token_as_a_credential(machine):
    set_variables(machine, "/etc/default/kbgp.env", KENTIK_API_TOKEN=None)
    follow(machine, documented("The token in a file of its own"))
    wait_established(machine)
    pid = machine.pid("kbgp")
    assert machine.run("stat -c %a /etc/kbgp/token").strip() == "600"
    assert token_of(machine) not in machine.run(f"tr '\\0' '\\n' < /proc/{pid}/environ; tr '\\0' ' ' < /proc/{pid}/cmdline")
    assert token_of(machine) not in machine.run("systemctl show kbgp")

    machine.run("mv /etc/kbgp/token /etc/kbgp/away")
    assert machine.code("systemctl", "restart", "kbgp") != 0
    wait_for(lambda: "243/CREDENTIALS" in machine.run("systemctl status kbgp", check=False), "the status says what is missing")
    machine.run("mv /etc/kbgp/away /etc/kbgp/token")
    wait_established(machine)


def test_a_wrong_value_is_said_once(machine):
    set_variables(machine, "/etc/default/kbgp.env", KENTIK_SITE="everywhere")
    assert machine.code("systemctl", "restart", "kbgp") != 0
    machine.run("sleep 3") # three times as long as a restart would have taken
    assert machine.show("kbgp", "ActiveState") == "failed"
    assert machine.journal("kbgp").count('KENTIK_SITE: "everywhere" is not a number') == 1
    set_variables(machine, "/etc/default/kbgp.env", KENTIK_SITE=None)
    machine.run("systemctl restart kbgp")
    wait_established(machine)


def test_an_upgrade_restarts_what_runs_and_nothing_else(machine):
    before = {unit: machine.pid(unit) for unit in ("kbgp", "kbgp-target")}
    machine.run("apt-get install -y ./build-deb/newer1/kbgp_*.deb ./build-deb/newer1/kbgp-target_*.deb")
    for unit, pid in before.items():
        assert pid > 0 and machine.active(unit) and machine.pid(unit) != pid
        assert machine.show(unit, "UnitFileState") == "enabled"
    wait_established(machine)
    machine.run("systemctl stop kbgp")
    machine.run("apt-get install -y ./build-deb/newer2/kbgp_*.deb")
    assert machine.show("kbgp", "ActiveState") == "inactive"
    machine.run("systemctl start kbgp")
    wait_established(machine)


def test_both_start_at_boot(machine):
    machine.power_off()
    machine.boot()
    prepare(machine)
    wait_for(lambda: machine.active("kbgp") and machine.active("kbgp-target"), "both services are active")
    wait_for(lambda: control_up(machine), "the Control stream is up")


def test_removal_stops_and_purge_leaves_nothing(machine):
    before = {unit: machine.pid(unit) for unit in ("kbgp", "kbgp-target")}
    machine.run("apt-get remove -y kbgp kbgp-target")
    for unit, pid in before.items():
        assert pid > 0 and machine.code("test", "-e", f"/proc/{pid}") != 0
        assert machine.path(f"/etc/default/{unit}.env").exists()
    machine.run("apt-get purge -y kbgp kbgp-target")
    # /etc/kbgp… and the drop-ins are the operator's
    left = machine.run("find / -xdev -name '*kbgp*' -not -path '/proc/*' -not -path '/var/log/*' -not -path '/root/*'").split()
    operators = r"/etc/kbgp(-target)?|/etc/systemd/system/kbgp(-target)?\.service\.d"
    assert [f for f in left if not re.fullmatch(operators, f)] == []
    assert "not-found" in machine.show("kbgp", "LoadState")
