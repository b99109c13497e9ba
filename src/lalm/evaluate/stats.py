"""Intervals and paired tests from counts per utterance. One way for every metric; numpy alone.

Percentile bootstrap over utterances (Efron and Tibshirani 1993, chapter 13): it needs only that the metric is a
function of summed counts, works for ratios such as F1 alike, and is paired by drawing the same utterances for both
sides. BCa intervals would need a jackknife of every metric and differ little at the sizes of speech test sets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Reduce = Callable[[np.ndarray], np.ndarray]


def _weights(num_items: int, num_resamples: int, seed: int) -> np.ndarray:
    """How often each item is drawn in each resample [num_resamples, num_items]."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(num_items, np.full(num_items, 1 / num_items), size=num_resamples)


def interval(counts: np.ndarray, reduce: Reduce, num_resamples: int, seed: int) -> tuple[float, float, float]:
    """Value, low and high (95 %) of a metric from its counts [items, num_counts]."""
    value = float(reduce(counts.sum(axis=0)))
    with np.errstate(invalid="ignore", divide="ignore"):
        resampled = reduce(_weights(len(counts), num_resamples, seed) @ counts)
    low, high = np.nanpercentile(resampled, [2.5, 97.5])
    return value, float(low), float(high)


def paired_difference(
    first: Sequence[np.ndarray], second: Sequence[np.ndarray], reduce: Reduce, num_resamples: int = 4000, seed: int = 0
) -> dict[str, Any]:
    """Difference first - second with its 95 % interval over utterances.

    Each side is one or more runs (seeds) over the same utterances, as counts [items, num_counts]; a side's value is
    the mean over its runs. The same utterances are drawn for all runs, so the interval says how far other utterances
    would change the difference; the runs themselves are taken as they are.
    """
    weights = _weights(len(first[0]), num_resamples, seed)
    with np.errstate(invalid="ignore", divide="ignore"):
        sides = [np.mean([reduce(weights @ counts) for counts in side], axis=0) for side in (first, second)]
    plain = [float(np.mean([reduce(counts.sum(axis=0)) for counts in side])) for side in (first, second)]
    low, high = (float(x) for x in np.nanpercentile(sides[0] - sides[1], [2.5, 97.5]))
    return {"difference": plain[0] - plain[1], "low": low, "high": high}


def verdict(low: float, high: float, higher_is_better: bool) -> str:
    """`better`, `worse` or `undecided` for the first side of a difference."""
    if low > 0:
        return "better" if higher_is_better else "worse"
    if high < 0:
        return "worse" if higher_is_better else "better"
    return "undecided"
