"""The rows of a comparison, and what kbgp is to reach in each: against the others in the same run, or as a number."""

from .stats import median

HAPROXY = ("haproxy", "haproxy64")


class Row:
    """
    `more`: whether more is better. Goals: `best`: a factor to the best peer, `grpc_go`, `haproxy` (the better of the two) likewise;
    `number`: a bound. A row without any is for reading. `limit`: which of the machine's limits it is to be seen against.
    """

    def __init__(self, key, title, unit, more, digits, *, best=None, grpc_go=None, haproxy=None, number=None, limit=None):
        self.key, self.title, self.unit, self.more, self.digits = key, title, unit, more, digits
        self.best, self.grpc_go, self.haproxy, self.number, self.limit = best, grpc_go, haproxy, number, limit

    def wanted(self):
        sign = "≥" if self.more else "≤"
        words = [f"{sign} {factor:g} × {name}" for factor, name in
                 ((self.best, "best"), (self.haproxy, "HAProxy"), (self.grpc_go, "grpc-go")) if factor]
        if self.number is not None:
            words.append(f"{sign} {self.number:,g}")
        return ", ".join(words)


ROWS = (
    Row("bulk.up.1", "bulk up, 1 session", "Gbit/s", True, 2, best=1, grpc_go=2),
    Row("bulk.up.10", "bulk up, 10 sessions", "Gbit/s", True, 2, best=1, grpc_go=2),
    Row("bulk.up.100", "bulk up, 100 sessions", "Gbit/s", True, 2, best=1, grpc_go=2),
    Row("bulk.down.10", "bulk down, 10 sessions", "Gbit/s", True, 2, best=1, grpc_go=2),
    Row("agent_cpu.up.1", "agent CPU, up, 1 session", "s/GB", False, 2, limit="encrypt"),
    Row("agent_cpu.up.10", "agent CPU, up, 10 sessions", "s/GB", False, 2, best=1, limit="encrypt"),
    Row("agent_cpu.up.100", "agent CPU, up, 100 sessions", "s/GB", False, 2, limit="encrypt"),
    Row("agent_cpu.down.10", "agent CPU, down, 10 sessions", "s/GB", False, 2, best=1, limit="decrypt"),
    Row("target_cpu.up.1", "target CPU, up, 1 session", "s/GB", False, 2, limit="decrypt"),
    Row("target_cpu.up.10", "target CPU, up, 10 sessions", "s/GB", False, 2, best=1, limit="decrypt"),
    Row("target_cpu.up.100", "target CPU, up, 100 sessions", "s/GB", False, 2, limit="decrypt"),
    Row("target_cpu.down.10", "target CPU, down, 10 sessions", "s/GB", False, 2, limit="encrypt"),
    Row("path.1", "20 ms round trip, up, 1 session", "Gbit/s", True, 2, haproxy=1),
    Row("path.10", "20 ms round trip, up, 10 sessions", "Gbit/s", True, 2, haproxy=1),
    Row("path.100", "20 ms round trip, up, 100 sessions", "Gbit/s", True, 2, haproxy=1),
    Row("path.1.dropped", "packets that the line dropped, 1 session", "", False, 0),
    Row("path.10.dropped", "packets that the line dropped, 10 sessions", "", False, 0),
    Row("path.100.dropped", "packets that the line dropped, 100 sessions", "", False, 0),
    Row("ping.p50", "round trip p50, one message at a time", "µs", False, 0, best=1),
    Row("ping.p99", "round trip p99, one message at a time", "µs", False, 0, best=1),
    Row("ping.cpu", "agent CPU a round trip, one at a time", "µs", False, 1, number=50),
    Row("paced.p50", "round trip p50, 100 sessions", "µs", False, 0, best=1),
    Row("paced.p99", "round trip p99, 100 sessions", "µs", False, 0, best=1),
    Row("paced.cpu", "agent CPU a KEEPALIVE round trip", "µs", False, 1, number=50),
    Row("crowd.p50", "round trip p50, 100 at once", "µs", False, 0),
    Row("crowd.p99", "round trip p99, 100 at once", "µs", False, 0),
    Row("crowd.cpu", "agent CPU a round trip, 100 at once", "µs", False, 1),
    Row("fair.up.p50", "KEEPALIVE beside bulk up, p50", "ms", False, 1),
    Row("fair.up.p99", "KEEPALIVE beside bulk up, p99", "ms", False, 1, best=1),
    Row("fair.up.gbit_s", "bulk up meanwhile", "Gbit/s", True, 2),
    Row("fair.down.p50", "KEEPALIVE beside bulk down, p50", "ms", False, 1),
    Row("fair.down.p99", "KEEPALIVE beside bulk down, p99", "ms", False, 1, best=1),
    Row("fair.down.gbit_s", "bulk down meanwhile", "Gbit/s", True, 2),
    Row("fair.both.p50", "KEEPALIVE beside bulk both ways, p50", "ms", False, 1),
    Row("fair.both.p99", "KEEPALIVE beside bulk both ways, p99", "ms", False, 1, best=1),
    Row("fair.both.gbit_s", "bulk both ways meanwhile, in sum", "Gbit/s", True, 2),
    Row("idle.agent_memory", "agent memory an idle session", "KiB", False, 1, number=6),
    Row("idle.target_memory", "target memory an idle session", "KiB", False, 1),
    Row("idle.cpu", "agent CPU, idle sessions", "% of a core", False, 2, number=1.5),
    Row("setup.first", "sessions set up, device unknown, no connections", "1/s", True, 0, number=8000),
    Row("setup.again", "sessions set up, device known", "1/s", True, 0, number=8000),
    Row("setup.again_cpu", "agent CPU a session set up", "µs", False, 0),
    Row("setup.turnover", "sessions set up and closed", "1/s", True, 0, number=8000),
    Row("setup.turnover_cpu", "agent CPU a session set up and closed", "µs", False, 0),
    Row("setup.burst", "sessions set up and closed, 512 at a time", "1/s", True, 0, number=8000),
    Row("disk", "the agent's program on disk", "MB", False, 2, number=1),
)


NO_PEERS = ("kbgp", "kbgp-openssl", "direct")


class Result:
    """A row with this run's values: {contestant: [one a round]}."""

    def __init__(self, row, values, limits):
        self.row = row
        self.medians = {name: median(v) for name, v in values.items() if v}
        self.values = values
        self.limit = median(limits[row.limit]) if row.limit and limits.get(row.limit) else None
        self.peers = {n: m for n, m in self.medians.items() if n not in NO_PEERS}
        self.best = self._strongest(self.peers)
        self.haproxy = self._strongest(n for n in HAPROXY if n in self.peers)

    def _strongest(self, names):
        """Of these peers the one beside whom kbgp looks worst; where there are no ratios, the one with the best median."""
        names = list(names)
        comparable = [n for n in names if self.ratio(n) is not None]
        if comparable:
            return (min if self.row.more else max)(comparable, key=self.ratio)
        return (max if self.row.more else min)(names, key=self.peers.get, default=None)

    def ratio(self, name):
        """
        kbgp to another one, None where there is none. Of the rounds' ratios the median: within a round each step is taken by
        one after the other, so the machine's slow minutes hit both. Where one of them failed in a round, medians to medians.
        """
        if "kbgp" not in self.medians or not self.medians.get(name):
            return None
        kbgp, other = self.values["kbgp"], self.values[name]
        if len(kbgp) != len(other) or not all(other):
            return self.medians["kbgp"] / self.medians[name]
        return median([k / o for k, o in zip(kbgp, other)])

    def met(self):
        """True, False, or None: no goal, or nothing to judge by."""
        row, kbgp, reached = self.row, self.medians.get("kbgp"), []
        for factor, name in ((row.best, self.best), (row.haproxy, self.haproxy), (row.grpc_go, "grpc-go")):
            if factor:
                ratio = self.ratio(name)
                reached.append(None if ratio is None else ratio / factor)
        if row.number is not None:
            reached.append(None if kbgp is None else kbgp / row.number)
        if not reached or None in reached:
            return None
        return all(r >= 1 if row.more else r <= 1 for r in reached)


def results(samples, limits):
    """For each row that was measured at all. `samples`: {key: {contestant: [values]}}"""
    return [Result(row, samples[row.key], limits) for row in ROWS if samples.get(row.key)]
