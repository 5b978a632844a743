# SPDX-License-Identifier: Apache-2.0
"""
The configurations of docs/routers.md that it calls run, as they stand there: each daemon in a namespace with the page's
addresses, port 179, through both programs to the collector. A route of each family must arrive.
"""

import contextlib
import re

import pytest

from harness import frr, openbgpd, paths
from harness.agent import Agent
from harness.net import Chain
from harness.openbgpd import HOME
from harness.proc import Program, clean_env, run
from harness.scene import inventory_with
from harness.target import Target
from harness.wait import wait_for

PAGE = paths.ROOT / "docs" / "routers.md"
DAEMONS = ("bird", "frr", "gobgp", "openbgpd", "exabgp")
ROUTE4, ROUTE6 = "203.0.113.0/24", "2001:db8:113::/48"
AGENT4, AGENT6 = "10.0.0.10", "fd00::10"


class Net(Chain):
    """The addresses of the page."""

    router4, agent4 = "10.0.0.1", AGENT4
    router6, agent6 = "fd00::1", AGENT6


def blocks():
    """{(daemon, "ibgp" or "ebgp"): the configuration}"""
    found = re.findall(r"^<!-- run: (\w+) (\w+) -->\n```\w*\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return {(daemon, kind): text for daemon, kind, text in found}


class Documented(Program):
    """A daemon with a configuration of the page; what is added makes it announce ROUTE4 and ROUTE6, and keeps it here."""

    exit_codes = None

    def __init__(self, workdir, config, netns, argv, env=None):
        self.config = workdir / "daemon.conf"
        self.config.write_text(config)
        self.config.chmod(0o600)  # OpenBGPD insists
        super().__init__(argv[0].rsplit("/", 1)[-1], argv, workdir, netns=netns, cwd=workdir, env=env)

    def look(self):
        """(pattern, output): what the page's command to look at must say when all is well, and what it says."""
        raise NotImplementedError


class Bird(Documented):
    def __init__(self, workdir, config, netns):
        more = f"""log stderr all;
router id 10.0.0.1;
protocol device {{}}
protocol static s4 {{ ipv4; route {ROUTE4} blackhole; }}
protocol static s6 {{ ipv6; route {ROUTE6} blackhole; }}
"""
        super().__init__(workdir, more + config, netns, [paths.find("bird"), "-f", "-c", "daemon.conf", "-s", "bird.ctl"])

    def look(self):
        shown = run([paths.find("birdc"), "-s", "bird.ctl", "show", "protocols", "all", "kbgp4"], cwd=self.workdir)
        return r"BGP state: +Established", shown.stdout


class Frr(Documented):
    """bgpd alone (-Z): zebra would drop its rights to a user who cannot enter the test's folder."""

    def __init__(self, workdir, config, netns):
        more = f"""log stdout debugging
router bgp 65001
 no bgp network import-check
 address-family ipv4 unicast
  network {ROUTE4}
 exit-address-family
 address-family ipv6 unicast
  network {ROUTE6}
 exit-address-family
"""
        argv = [frr.BGPD, "-f", "daemon.conf", "-i", "bgpd.pid", "--vty_socket", ".", "-P", "0", "-Z", "-S", "-n", "--log", "stdout"]
        super().__init__(workdir, config + more, netns, argv)

    def look(self):
        shown = run(["vtysh", "--vty_socket", str(self.workdir), "-d", "bgpd", "-c", "show bgp neighbors 10.0.0.10"])
        return r"BGP state = Established", shown.stdout


class GoBgp(Documented):
    def __init__(self, workdir, config, netns):
        super().__init__(workdir, config, netns, [paths.find("gobgpd"), "-f", "daemon.conf", "-t", "toml", "--api-hosts",
                                                  "127.0.0.1:50051", "--log-plain", "--pprof-disable"])

    def _ctl(self, *words):
        return run([paths.find("gobgp"), *words], netns=self.netns)

    def wait_ready(self):
        wait_for(lambda: self._ctl("global").returncode == 0, "gobgpd answering on its API")
        for route, family in ((ROUTE4, "ipv4"), (ROUTE6, "ipv6")):
            added = self._ctl("global", "rib", "add", route, "-a", family)
            assert added.returncode == 0, added.stderr + added.stdout

    def look(self):
        return r"(?i)BGP state = (BGP_FSM_)?established", self._ctl("neighbor", "10.0.0.10").stdout


class OpenBgpd(Documented):
    def __init__(self, workdir, config, netns):
        more = f'fib-update no\nsocket "{workdir}/bgpd.ctl"\nnetwork {ROUTE4}\nnetwork {ROUTE6}\n'
        super().__init__(workdir, more + config, netns, [openbgpd.BGPD, "-d", "-v", "-f", "daemon.conf"])

    def start(self):
        self._made_home = not HOME.exists()
        HOME.mkdir(mode=0o755, exist_ok=True)
        return super().start()

    def __exit__(self, exc_type, exc, tb):
        try:
            super().__exit__(exc_type, exc, tb)
        finally:
            if self._made_home:
                with contextlib.suppress(OSError):
                    HOME.rmdir()

    def look(self):
        shown = run([paths.find("bgpctl"), "-s", self.workdir / "bgpd.ctl", "show", "neighbor", "10.0.0.10"], netns=self.netns)
        return r"BGP state = Established", shown.stdout


class ExaBgp(Documented):
    def __init__(self, workdir, config, netns):
        env = clean_env(**{"exabgp.daemon.user": "root", "exabgp.daemon.drop": "false", "exabgp.log.destination": "stderr",
                           "exabgp.log.network": "true", "exabgp.api.cli": "false"})
        super().__init__(workdir, config, netns, [paths.find("exabgp"), "daemon.conf"], env=env)

    def look(self):
        return r"connected to peer.*10\.0\.0\.10", self.output().replace("\n", " ")


KINDS = {"bird": Bird, "frr": Frr, "gobgp": GoBgp, "openbgpd": OpenBgpd, "exabgp": ExaBgp}
PROGRAMS = {"bird": "bird", "frr": frr.BGPD, "gobgp": "gobgpd", "openbgpd": openbgpd.BGPD, "exabgp": "exabgp"}


def test_the_page_has_them_all():
    assert set(blocks()) == {(daemon, kind) for daemon in DAEMONS for kind in ("ibgp", "ebgp")}


@pytest.mark.parametrize("kind", ["ibgp", "ebgp"])
@pytest.mark.parametrize("daemon", DAEMONS)
def test_configuration(workdir, certs, namespaces, daemon, kind):
    if paths.find(PROGRAMS[daemon]) is None:
        pytest.skip(f"{daemon} is not installed")
    config = blocks()[daemon, kind]
    external = ["--local-as", "64512"] if kind == "ebgp" else []
    with Net() as net:
        inventory, token = inventory_with(workdir, {"edge1": [net.router4, net.router6]})
        with Target(workdir, inventory, tls=certs.good, netns=net.target, listen=[f"{net.target4}:4443"],
                    extra=external) as target, \
                Agent(workdir, f"{net.target4}:4443", ca_file=certs.ca, token=token, netns=net.agent,
                      listen=["0.0.0.0:179", "[::]:179"]) as agent:
            agent.wait_control()
            with KINDS[daemon](workdir, config, net.router) as router:
                for address, afi, route in ((net.router4, 1, ROUTE4), (net.router6, 2, ROUTE6)):
                    target.wait_event("established", address=address)
                    target.wait_prefixes(afi, {route}, address=address)
                    assert target.events("open", address=address)[0]["asn"] == 65001
                paths_seen = {e["as_path"] for e in target.events("announce")}
                assert paths_seen == ({"65001"} if kind == "ebgp" else {""})
                pattern, shown = router.look()
                assert re.search(pattern, shown), shown
                assert len(target.events("open")) == 2, "a session was set up more than once"
