# SPDX-License-Identifier: Apache-2.0
"""The program kbgp-target: its inventory commands, its server, and the JSON lines of its collector."""

import functools
import json
from pathlib import Path

from . import paths
from .agent import EMAIL
from .ports import free_port
from .proc import Program, clean_env, run
from .wait import DEADLINE, wait_for


@functools.cache
def serve_help():
    result = run([paths.kbgp_target(), "serve", "--help"])
    return result.stdout + result.stderr


class Inventory:
    """An inventory database, edited with kbgp-target's commands. Usable with and without a running server."""

    def __init__(self, db):
        self.db = Path(db)

    def run(self, *words, check=True):
        return run([paths.kbgp_target(), *map(str, words), "--db", self.db], check=check)

    def add_account(self, email=EMAIL):
        """The new account's token: what stands on stdout, and nothing else does."""
        out = self.run("account", "add", email).stdout
        assert len(out.splitlines()) == 1 and out.strip() == out.rstrip("\n") and " " not in out.strip(), repr(out)
        return out.strip()

    def add_site(self, name, number=None):
        self.run("site", "add", name, *(["--id", number] if number is not None else []))

    def add_device(self, name, *addresses, site=None, asn=None):
        words = [w for a in addresses for w in ("--address", a)]
        words += ["--site", site] if site is not None else []
        words += ["--asn", asn] if asn is not None else []
        self.run("device", "add", name, *words)

    def set_password(self, name, password):
        """The device's MD5 password (None: it goes), handed over in a file that does not stay."""
        if password is None:
            self.run("device", "set", name, "--no-md5-password")
            return
        file = self.db.parent / f"{name}.password"
        file.write_text(f"{password}\n")
        self.run("device", "set", name, "--md5-password-file", file)
        file.unlink()

    def devices(self):
        """The list of `device list --json`."""
        listed = json.loads(self.run("device", "list", "--json").stdout)
        return listed["devices"] if isinstance(listed, dict) else listed

    def device(self, name):
        found = [d for d in self.devices() if name in (d.get("name"), d.get("device_name"))]
        assert len(found) <= 1, found
        return found[0] if found else None


class Target(Program):
    """
    `kbgp-target serve` on a free port of 127.0.0.1. `backend` None: the collector, whose events `events()` reads.
    """

    def __init__(self, workdir, inventory, *, listen=None, tls=None, backend=None, extra=(), env=None, netns=None):
        self.inventory = inventory
        self.listen = listen or [f"127.0.0.1:{free_port()}"]
        self.address = self.listen[0]
        self.port = int(self.address.rsplit(":", 1)[1])
        self.metrics_port = free_port()
        self.collector_path = None
        argv = [paths.kbgp_target(), "serve", "--db", inventory.db, "--listen", ",".join(self.listen)]
        argv += ["--tls-cert", tls[0], "--tls-key", tls[1]] if tls else ["--insecure"]
        if backend is not None:
            argv += ["--backend", backend]
        else:
            self.collector_path = Path(workdir) / f"collector-{self.port}.json"
            argv += ["--backend", "collector", "--collector-json", self.collector_path]
        for flag in ("--metrics-port", "--status-port"):
            if flag in serve_help():
                argv += [flag, str(self.metrics_port)]
                break
        super().__init__("kbgp-target", argv + list(extra), workdir, netns=netns, env=clean_env(**(env or {})))

    def wait_ready(self):
        self.wait_listening(*(int(item.rsplit(":", 1)[1]) for item in self.listen))

    # the collector's events

    def events(self, event=None, **fields):
        """The JSON lines so far, of one kind of event and with these fields if given. Each line must be an object."""
        try:
            text = self.collector_path.read_text()
        except FileNotFoundError:
            return []
        lines = [json.loads(line) for line in text.split("\n")[:-1]]
        return [e for e in lines if (event is None or e["event"] == event)
                and all(e.get(k) == v for k, v in fields.items())]

    def wait_event(self, event, timeout=DEADLINE, **fields):
        what = f'collector event {event} {fields or ""}'

        def look():
            self.assert_running()
            return self.events(event, **fields)

        return wait_for(look, what, timeout)[0]

    def prefixes(self, afi, **fields):
        """The table that the events amount to, of one address family: announced and not withdrawn since."""
        table = set()
        for e in self.events(**fields):
            if e.get("afi") != afi:
                continue
            if e["event"] == "announce":
                table.update(e["prefixes"])
            elif e["event"] == "withdraw":
                table.difference_update(e["prefixes"])
        return table

    def wait_prefixes(self, afi, wanted, timeout=DEADLINE, **fields):
        """Waits until the table is exactly the set `wanted`."""

        def look():
            self.assert_running()
            return self.prefixes(afi, **fields) == wanted

        try:
            wait_for(look, "", timeout, interval=0.3)
        except AssertionError:
            have = self.prefixes(afi, **fields)
            raise AssertionError(
                f"collector table of AFI {afi}: {len(have)} prefixes after {timeout:g} s, {len(wanted - have)} of "
                f"{len(wanted)} missing, {len(have - wanted)} too many {sorted(have - wanted)[:5]}") from None
