# SPDX-License-Identifier: Apache-2.0
"""
The alert rules and the Grafana dashboard of packaging/, in a real Prometheus that scrapes both programs: they use only
metrics, labels and label values that exist, every panel shows something, and alerts fire. Needs the package prometheus.
"""

import json
import os
import re
from types import SimpleNamespace

import pytest

from harness import paths
from harness.bgp import CEASE, Speaker, notification
from harness.proc import run
from harness.prometheus import Prometheus
from harness.scene import chain
from harness.wait import wait_for

RULES = paths.ROOT / "packaging" / "prometheus" / "kbgp.rules.yml"
RULES_TEST = RULES.with_name("kbgp.rules.test.yml")
DASHBOARD = paths.ROOT / "packaging" / "grafana" / "kbgp.json"

# a metric of ours in a PromQL expression, with its matchers
SELECTOR = re.compile(r"\b((?:kbgp|process)_\w+|up)\b(\{[^}]*\})?")
# what is wrong here even when all is well: the harness has the agent export to nowhere, the machine may be busy, and the
# kernel counts other tests' signatures, too
NOT_OURS = {"KbgpExportFailing", "KbgpLoopLag", "KbgpMd5WrongSignatures"}
# its metrics are there only with it, and it needs root
MD5 = os.geteuid() == 0
# what Grafana puts in for its variables
VARIABLES = {"$job": "kbgp", "$instance": ".*", "$device": ".*", "$__rate_interval": "1m"}


@pytest.fixture(autouse=True)
def _prometheus_there():
    if paths.find("prometheus") is None or paths.find("promtool") is None:
        pytest.skip("prometheus is not installed")


def alerts():
    """{name: its lines in the rules file}"""
    parts = re.split(r"^ *- alert: (\w+)$", RULES.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2]))


def panels():
    return [p for p in json.loads(DASHBOARD.read_text())["panels"] if p["type"] != "row"]


def with_values(expression):
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return expression


def hurried_rules(workdir):
    """A copy of the rules whose alerts need not wait."""
    text, changed = re.subn(r"^( +for:) .+$", r"\1 0s", RULES.read_text(), flags=re.MULTILINE)
    assert changed >= 10, "no `for` found in the rules"
    copy = workdir / "hurried.rules.yml"
    copy.write_text(text)
    return copy


def active(prometheus):
    return {a["labels"]["alertname"] for a in prometheus.api("alerts")["alerts"]} - NOT_OURS


class Scene(SimpleNamespace):
    """`agent`, `target`, `prometheus`, `leaver`: a device with a session; another, with BGP established, stays."""


@pytest.fixture
def scene(workdir, certs):
    devices = {"stays": "127.0.0.2", "leaves": "127.0.0.3"}
    extra = {"extra": ["--enable-md5-support"]} if MD5 else {}
    with chain(workdir, certs, devices, agent=extra) as (agent, target), agent.connect("127.0.0.2") as one, \
            agent.connect("127.0.0.3") as leaver:
        Speaker(one, router_id="10.0.0.2").establish()
        Speaker(leaver, router_id="10.0.0.3").establish()
        with Prometheus(workdir, {"kbgp": agent.metrics_port, "kbgp-target": target.metrics_port},
                        hurried_rules(workdir)) as prometheus:
            prometheus.wait_query("kbgp_device_bgp_state{device='leaves', state='established'} == 1")
            prometheus.wait_query("kbgp_target_agents == 1")
            yield Scene(agent=agent, target=target, prometheus=prometheus, leaver=leaver)


def test_promtool_accepts_the_rules():
    run([paths.find("promtool"), "check", "rules", RULES], check=True)
    run([paths.find("promtool"), "test", "rules", RULES_TEST.name], cwd=RULES_TEST.parent, check=True)


def test_every_alert_is_tested_both_ways():
    names = re.findall(r'^  - name: "(\w+)( not)?:', RULES_TEST.read_text(), re.MULTILINE)
    assert {n for n, negated in names if not negated} == set(alerts())
    assert {n for n, negated in names if negated} == set(alerts())


def test_every_alert_is_documented():
    page = (paths.ROOT / "docs/operating.md").read_text()
    part = re.search(r"^## Alerts\n(.*?)^## ", page, re.MULTILINE | re.DOTALL)[1]
    named = re.findall(r"`(Kbgp\w+)`", part)
    assert sorted(named) == sorted(alerts())


def test_everything_that_is_named_exists(scene):
    """Each metric with its matchers selects a series of a running chain; each label that is used stands on one."""
    scene.leaver.send(notification(CEASE, 4))  # the series of NOTIFICATIONs begins with the first
    scene.leaver.close()
    scene.prometheus.wait_query("kbgp_device_bgp_notifications_total")
    rules = {r["name"]: r for r in scene.prometheus.rules()}
    assert set(rules) == set(alerts())
    used = [(n, r["query"], " ".join(r["annotations"].values())) for n, r in rules.items()]
    used += [(p["title"], with_values(t["expr"]), t["legendFormat"]) for p in panels() for t in p["targets"]]
    variables = json.loads(DASHBOARD.read_text())["templating"]["list"]
    used += [(v["name"], with_values(m[1]), "") for v in variables
             if (m := re.fullmatch(r"label_values\((.+), \w+\)", v.get("definition", "")))]
    checked = set()
    for who, expression, text in used:
        selectors = {name + (matchers or "") for name, matchers in SELECTOR.findall(expression)}
        assert selectors, f"{who}: no metric in {expression}"
        labels = {"le"}
        if not MD5 and any(selector.startswith("kbgp_md5_") for selector in selectors):
            continue
        for selector in selectors:
            series = scene.prometheus.query(selector)
            assert series, f"{who}: nothing is selected by {selector}"
            labels.update(*(found for found, _ in series))
        grouped = re.findall(r"\b(?:by|on|ignoring) \(([^)]*)\)", expression)
        shown = re.findall(r"\{\{ *(?:\$labels\.)?(\w+) *\}\}", text)
        for label in [*(w.strip() for g in grouped for w in g.split(",")), *shown]:
            assert label in labels, f"{who}: no series of {expression} has the label {label}"
        checked |= selectors
    assert len(checked) > 60


def test_every_panel_shows_something(scene):
    scene.leaver.send(notification(CEASE, 4))
    scene.leaver.close()
    scene.prometheus.wait_query("rate(kbgp_device_bgp_notifications_total[1m])")
    for panel in panels():
        for target in panel["targets"]:
            # two scrapes make a rate; the rest is there at once
            scene.prometheus.wait_query(with_values(target["expr"]))


def test_alerts_fire(scene):
    prometheus = scene.prometheus
    wait_for(lambda: all(r["health"] == "ok" for r in prometheus.rules()), "every rule evaluated without an error")
    # at the first evaluation nothing may have been scraped yet
    wait_for(lambda: not active(prometheus), "no alert while all is well")

    scene.leaver.close()
    fired = prometheus.wait_firing("KbgpDeviceDown")
    assert fired["labels"]["device"] == "leaves" and fired["labels"]["address"] == "127.0.0.3"
    assert "leaves (127.0.0.3)" in fired["annotations"]["summary"]
    assert active(prometheus) == {"KbgpDeviceDown"}

    with scene.agent.connect("127.0.0.3") as again:
        Speaker(again, router_id="10.0.0.3").establish()
        wait_for(lambda: not prometheus.firing("KbgpDeviceDown"), "the alert to end when the device is back")

    scene.target.stop()
    for alert in ("KbgpTargetAbsent", "KbgpNotReady"):
        prometheus.wait_firing(alert)
    # the agent has no target, so the devices' absence is no news
    wait_for(lambda: not prometheus.firing("KbgpDeviceDown"), "no alert for each device when the agent is not ready")

    scene.agent.stop()
    assert prometheus.wait_firing("KbgpAbsent")["labels"]["job"] == "kbgp"
    for rule in prometheus.rules():
        assert rule["health"] == "ok", rule
        assert not [a for a in rule["alerts"] if "error expanding template" in str(a["annotations"])], rule
