"""Builds: the programs of a tree, and the tools that lie beside this folder."""

import fcntl
import os
import subprocess
from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent
ROOT = BENCH.parent


class BenchError(Exception):
    """What stops a benchmark, in words for its user."""


def run(command, **more):
    """Runs a command quietly; its output is shown when it fails."""
    done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                          **more)
    if done.returncode != 0:
        raise BenchError(f"{' '.join(str(c) for c in command)} failed:\n{done.stdout[-4000:]}")
    return done.stdout


def release(build, tree=ROOT, options=(), targets=("kbgp", "kbgp-target")):
    """Builds programs of `tree` with optimisation in the folder `build`; only what has changed. Returns the folder."""
    build = Path(build)
    build.mkdir(parents=True, exist_ok=True)
    with open(build / ".lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # As users build it (README.md).
        flags, noted = ["--buildtype=release", "-Db_lto=true"], build / ".flags"
        words = " ".join([*flags, *options])
        if not (build / "build.ninja").exists():
            run(["meson", "setup", build, tree, *flags, *options])
        elif not noted.exists() or noted.read_text(encoding="utf-8") != words:  # made by an earlier revision
            run(["meson", "configure", build, *flags])
            run(["meson", "configure", build, *options])  # apart: a build type sets other options, whatever stands beside it
        noted.write_text(words, encoding="utf-8")
        run(["ninja", "-C", build, *targets])
    return build


def tool(name, folder):
    """Compiles bench/NAME.c into `folder`. Returns the program."""
    program = Path(folder) / name
    run([os.environ.get("CC", "cc"), "-O2", "-D_GNU_SOURCE", BENCH / f"{name}.c", "-o", program, "-pthread"])
    return program
