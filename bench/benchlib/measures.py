"""What is measured of a chain."""

from pathlib import Path

from .children import wait_quiet

BULK = (("up", 1), ("up", 10), ("up", 100), ("down", 10))
PATH_SESSIONS = (1, 10, 100)
PINGERS = 100
PACED_MS = 20
PACED_SECONDS = 4
FAIR_SECONDS = 4
BURST = 512
# Opened and kept: few enough for all of it to be over before connections without sessions are closed.
OPENED = 2000


class Effort:
    """How long and how much."""

    def __init__(self, bytes_, sessions, idle_seconds, trips, path_seconds):
        self.bytes, self.sessions, self.idle_seconds = bytes_, sessions, idle_seconds
        self.trips, self.path_seconds = trips, path_seconds


# What is measured side by side: the chains of all contestants are up, and each step is taken by one after the other, so that
# what else happens on the machine hits all of them. A step: the load through one chain; returns figures by their row's key.


def warm(chain, _effort):
    """The first session through a new chain: connections are made, and it is seen to work."""
    chain.load("ping", sessions=1, rounds=20)
    return {}


def _bulk(direction, sessions):
    def step(chain, effort):
        got = chain.load(direction, sessions=sessions, bytes=effort.bytes)
        key, gb = f"{direction}.{sessions}", got["bytes"] / 1e9
        figures = {f"bulk.{key}": got["gbit_s"]}
        if chain.agent:
            figures[f"agent_cpu.{key}"] = got["agent_cpu"] / gb
            figures[f"target_cpu.{key}"] = got["target_cpu"] / gb
        return figures

    return step


def _trips(key, mode, **options):
    def step(chain, effort):
        rounds = max(1, effort.trips // PINGERS)  # of pings; the others go by time
        got = chain.load(mode, sessions=PINGERS, rounds=rounds, **options)
        figures = {f"{key}.p50": got["p50_us"], f"{key}.p99": got["p99_us"]}
        if chain.agent:
            figures[f"{key}.cpu"] = got["agent_cpu"] / got["round_trips"] * 1e6
        return figures

    return step


def _fair(bulk):
    def step(chain, _effort):
        got = chain.load("mixed", sessions=PINGERS, bulk=bulk, seconds=FAIR_SECONDS)
        return {f"fair.{bulk}.p50": got["p50_us"] / 1000, f"fair.{bulk}.p99": got["p99_us"] / 1000,
                f"fair.{bulk}.gbit_s": got["gbit_s"]}

    return step


def _setup(key, mode, most=None, **options):
    def step(chain, effort):
        sessions = min(most or effort.sessions, effort.sessions)
        got = chain.load(mode, sessions=sessions, **options)
        figures = {f"setup.{key}": got["per_second"]}
        if chain.agent:
            figures[f"setup.{key}_cpu"] = got["agent_cpu"] / sessions * 1e6
        return figures

    return step


STEPS = {
    "bulk": [warm] + [_bulk(direction, sessions) for direction, sessions in BULK],
    "ping": [warm, _trips("ping", "ping", at_once=1),
             _trips("paced", "mixed", bulk="none", interval=PACED_MS, seconds=PACED_SECONDS),
             _trips("crowd", "ping", at_once=PINGERS)],
    "fair": [warm] + [_fair(bulk) for bulk in ("up", "down", "both")],
    # Without warm: the devices are unknown the first time, and there are no connections for them.
    "setup": [_setup("first", "open", OPENED), _setup("again", "open", OPENED), _setup("turnover", "setup"),
              _setup("burst", "setup", at_once=BURST)],
}

# What has the machine for itself: each function makes the chain and returns figures.


def idle(make, effort):
    with make() as chain:
        wait_quiet(sum(chain.pids(), []))
        got = chain.load("idle", sessions=effort.sessions, seconds=effort.idle_seconds,
                         seconds_at_most=effort.idle_seconds + 180)
    figures = {"idle.cpu": got["agent_cpu"] / got["seconds"] * 100}
    for side in ("agent", "target"):
        before, after = got[f"{side}_memory"]
        figures[f"idle.{side}_memory"] = (after - before) / effort.sessions
    return figures


def path(make, effort, line):
    """Over a long line, a new one each time. By time, not by bytes: how long a line takes to fill is a matter of its own."""
    figures = {}
    for sessions in PATH_SESSIONS:
        with line() as way, make() as chain:
            # Two seconds for TCP and the chain to find out how much fits on the line.
            got = chain.load("up", sessions=sessions, seconds=effort.path_seconds, warmup=2)
            figures[f"path.{sessions}"] = got["gbit_s"]
        if way.carried:
            figures[f"path.{sessions}.dropped"] = sum(w["dropped"] + w["device_dropped"] for w in way.carried)
    return figures


def disk(kind, place):
    files = kind.programs(place)
    return {"disk": sum(Path(f).stat().st_size for f in files) / 1e6} if files else {}
