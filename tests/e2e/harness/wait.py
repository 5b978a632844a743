# SPDX-License-Identifier: Apache-2.0
"""Waiting for an event with a deadline. No test sleeps for a fixed time: a slow machine only makes it slower."""

import time

DEADLINE = 60.0


def wait_for(predicate, what, timeout=DEADLINE, interval=0.05):
    """Returns the first true value of `predicate()`; fails naming `what` when the deadline has passed."""
    end = time.monotonic() + timeout
    pause = min(0.002, interval)  # most events are there at once
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() >= end:
            raise AssertionError(f"not within {timeout:g} s: {what}")
        time.sleep(pause)
        pause = min(2 * pause, interval)


def wait_settled(measure, what, quiet=2.0, timeout=DEADLINE):
    """
    Returns `measure()` once it has not changed for `quiet` seconds. For backpressure only: that something came to a halt
    shows in no event. A test must go on to prove that it really halted (by an upper bound, then by resuming).
    """
    end = time.monotonic() + timeout
    last, since = measure(), time.monotonic()
    while True:
        time.sleep(0.05)
        now = measure()
        if now != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since >= quiet:
            return now
        if time.monotonic() >= end:
            raise AssertionError(f"still changing after {timeout:g} s: {what}")
