"""What a few repeated measurements say, and what they do not."""

import itertools
import statistics


def median(values):
    return statistics.median(values)


def spread(values, digits=2):
    """`median (lowest–highest)`"""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def mann_whitney(a, b):
    """
    The two-sided Mann-Whitney U test, exact: how likely two samples of the same thing differ in their ranks at least as much as
    `a` and `b` do. For small samples only: it counts all ways to deal the ranks.
    """
    ranks = _ranks(list(a) + list(b))
    n = len(a)
    expected = sum(ranks) * n / len(ranks)
    seen = abs(sum(ranks[:n]) - expected)
    hits = total = 0
    for chosen in itertools.combinations(ranks, n):
        total += 1
        hits += abs(sum(chosen) - expected) >= seen - 1e-9
    return hits / total


def _ranks(values):
    """Ranks from 1; equal values share the middle of theirs."""
    order = sorted(values)
    return [order.index(v) + (order.count(v) + 1) / 2 for v in values]


# What is taken for a difference: this unlikely by chance, and this large.
CHANCE = 0.05
SMALLEST = 0.01


def verdict(old, new, smaller_is_better):
    """`faster`, `slower` or `no difference`, and how sure: the probability that chance alone did it."""
    p = mann_whitney(old, new)
    change = median(new) / median(old) - 1 if median(old) else 0
    if p > CHANCE or abs(change) < SMALLEST:
        return "no difference", p
    return ("faster" if (change < 0) == smaller_is_better else "slower"), p
