"""Intervals and paired tests from counts per utterance. One way for every metric; numpy alone.

Percentile bootstrap over utterances (Efron and Tibshirani 1993, chapter 13): it needs only that the metric is a
function of summed counts, works for ratios such as F1 alike, and is paired by drawing the same utterances for both
sides. Questions about one passage are drawn together (`by_group`). BCa intervals would need a jackknife of every metric
and differ little at the sizes of speech test sets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Reduce = Callable[[np.ndarray], np.ndarray]
MIN_GROUPS = 2  # of which an interval can be drawn at all
# of which a difference can be decided: of five that differ, all to one side, the exact sign test has p = 0.0625, of six 0.031
MIN_DIFFERING = 6
_MAX_DRAWN = 4_000_000  # numbers held at once while resampling (32 MB)


def by_group(counts: np.ndarray, groups: Sequence[str]) -> np.ndarray:
    """Counts [items, num_counts] added up by the items' groups [groups, num_counts], in the order of the groups' first items.

    What is drawn in a bootstrap of items that err together (Davison and Hinkley 1997, section 3.8: clusters are drawn whole).
    """
    places = {name: place for place, name in enumerate(dict.fromkeys(groups))}
    sums = np.zeros((len(places), *counts.shape[1:]))
    np.add.at(sums, [places[name] for name in groups], counts)
    return sums


def resampled(counts: np.ndarray, num_resamples: int, seed: int) -> np.ndarray:
    """Counts summed over each resample of the items [num_resamples, num_counts]; the same draw for the same seed."""
    num_items = len(counts)
    rng = np.random.default_rng(seed)
    odds = np.full(num_items, 1 / num_items)
    size = max(1, _MAX_DRAWN // num_items)  # resamples drawn at once, for the sake of memory; the draw is the same
    chunks = [
        rng.multinomial(num_items, odds, size=min(size, num_resamples - start)) @ counts
        for start in range(0, num_resamples, size)
    ]
    return np.concatenate(chunks)


def _percentiles(values: np.ndarray) -> tuple[float, float]:
    """2.5 % and 97.5 % of the values that are numbers; NaN where none is."""
    known = values[np.isfinite(values)]
    low, high = np.percentile(known, [2.5, 97.5]) if known.size else (math.nan, math.nan)
    return float(low), float(high)


def interval(counts: np.ndarray, reduce: Reduce, num_resamples: int, seed: int) -> tuple[float, float, float]:
    """Value, low and high (95 %) of a metric from its counts [items, num_counts]; NaN where it is not defined, as an interval
    of a single item is."""
    with np.errstate(invalid="ignore", divide="ignore"):
        value = float(reduce(counts.sum(axis=0)))
        if len(counts) < MIN_GROUPS:
            return value, math.nan, math.nan
        low, high = _percentiles(reduce(resampled(counts, num_resamples, seed)))
    return value, low, high


def paired_difference(
    first: Sequence[np.ndarray], second: Sequence[np.ndarray], reduce: Reduce, num_resamples: int = 4000, seed: int = 0
) -> dict[str, Any]:
    """`difference` first - second with its 95 % interval `low`, `high` over utterances; None where not defined. `differing` is
    the number of utterances (or groups) in which the sides are not alike.

    Each side is one or more runs (seeds) over the same utterances, as counts [items, num_counts]; a side's value is
    the mean over its runs. The same utterances are drawn for all runs, so the interval says how far other utterances
    would change the difference; the runs themselves are taken as they are.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        plain = [float(np.mean([reduce(counts.sum(axis=0)) for counts in side])) for side in (first, second)]
        drawn = [
            np.mean([reduce(resampled(counts, num_resamples, seed)) for counts in side], axis=0)
            for side in (first, second)
        ]
    low, high = _percentiles(drawn[0] - drawn[1]) if len(first[0]) >= MIN_GROUPS else (math.nan, math.nan)
    counts = [np.mean(side, axis=0) for side in (first, second)]
    differing = int(np.any(~np.isclose(counts[0], counts[1]), axis=-1).sum())
    return {"difference": known(plain[0] - plain[1]), "low": known(low), "high": known(high), "differing": differing}


def mean_interval(
    members: Sequence[np.ndarray], reduce: Reduce, num_resamples: int, seed: int
) -> tuple[float, float, float]:
    """Value, low and high (95 %) of a metric averaged over several answers to the same utterances; NaN where not defined.

    Each member is the counts [items, num_counts] of one of them (a level of noise, say). The same utterances are drawn
    for all, so the interval is that of the average, not an average of intervals.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        value = float(np.mean([reduce(counts.sum(axis=0)) for counts in members]))
        drawn = np.mean([reduce(resampled(counts, num_resamples, seed)) for counts in members], axis=0)
    return (value, *_percentiles(drawn)) if len(members[0]) >= MIN_GROUPS else (value, math.nan, math.nan)


def in_words(score: Mapping[str, Any], digits: int, sign: str = "") -> str:
    """A score as `0.6120  (0.5700 to 0.6530)`; `none` without a value, and without an interval what that means."""
    if score["value"] is None:
        return "none"
    form = f"{sign}.{digits}f"
    if score["low"] is None:
        return f"{score['value']:{form}}  (no interval)"
    return f"{score['value']:{form}}  ({score['low']:{form}} to {score['high']:{form}})"


def known(value: float) -> float | None:
    """The value, or None for NaN: what JSON can hold."""
    return value if math.isfinite(value) else None


def verdict(found: Mapping[str, Any], higher_is_better: bool) -> str:
    """`better`, `worse` or `undecided` for the first side of a `paired_difference`.

    Undecided where the interval holds 0 or is not defined, and where so few utterances differ (`MIN_DIFFERING`) that a bootstrap
    makes too little of chance.
    """
    low, high = found["low"], found["high"]
    if low is None or high is None or low <= 0 <= high or found["differing"] < MIN_DIFFERING:
        return "undecided"
    return "better" if (low > 0) == higher_is_better else "worse"
