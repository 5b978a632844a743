# SPDX-License-Identifier: Apache-2.0
"""Prometheus itself, with rules, scraping what a test runs."""

import json
import urllib.error
import urllib.parse
import urllib.request

from . import paths
from .ports import free_port
from .proc import Program
from .wait import DEADLINE, wait_for


class Prometheus(Program):
    """`jobs`: {job name: port of 127.0.0.1}, scraped every second; `rules`: a rules file, evaluated every second."""

    def __init__(self, workdir, jobs, rules, name="prometheus"):
        self.port = free_port()
        config = workdir / f"{name}.yml"
        lines = ["global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}", f"rule_files: [{rules}]",
                 "scrape_configs:"]
        for job, port in jobs.items():
            lines.append(f"  - {{job_name: {job}, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}")
        config.write_text("\n".join(lines) + "\n")
        super().__init__(name, [paths.find("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={workdir / name}",
                                f"--web.listen-address=127.0.0.1:{self.port}"], workdir)

    def wait_ready(self):
        self.wait_listening(self.port)
        wait_for(self._ready, f"{self.name} ready to answer")

    def _ready(self):
        self.assert_running()
        try:
            return self._get("/-/ready")
        except urllib.error.HTTPError as e:
            e.close()
            return False

    def _get(self, path, **parameters):
        url = f"http://127.0.0.1:{self.port}{path}?{urllib.parse.urlencode(parameters)}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # not the machine's web proxy
        with opener.open(url, timeout=DEADLINE) as answer:
            return answer.read().decode()

    def api(self, path, **parameters):
        """The data of an answer of the HTTP API; a query that is no PromQL raises HTTPError."""
        answer = json.loads(self._get(f"/api/v1/{path}", **parameters))
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression):
        """The series of an instant query: [(labels, value)]."""
        data = self.api("query", query=expression)
        assert data["resultType"] == "vector", data["resultType"]
        return [(r["metric"], float(r["value"][1])) for r in data["result"]]

    def wait_query(self, expression, timeout=DEADLINE):
        return wait_for(lambda: self.query(expression), f"a result of {expression}", timeout, interval=0.3)

    def rules(self):
        """All rules as Prometheus has read them: name, query, health, lastError, alerts."""
        return [rule for group in self.api("rules")["groups"] for rule in group["rules"]]

    def firing(self, alert):
        return [a for a in self.api("alerts")["alerts"] if a["labels"]["alertname"] == alert and a["state"] == "firing"]

    def wait_firing(self, alert, timeout=DEADLINE):
        return wait_for(lambda: self.firing(alert), f"alert {alert}", timeout, interval=0.3)[0]
