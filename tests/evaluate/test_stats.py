"""Intervals against scipy's bootstrap, and paired differences on data whose truth is known."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import scipy.stats
from scipy.stats import binomtest

from lalm import plugins
from lalm.evaluate import stats

ACCURACY = plugins.load("metrics", "intent_accuracy").reduce
F1 = plugins.load("metrics", "entity_f1").reduce


def test_interval_of_a_share_is_scipys():
    rng = np.random.default_rng(1)
    right = (rng.random(150) < 0.7).astype(float)
    counts = np.stack([right, np.ones(150)], axis=1)
    value, low, high = stats.interval(counts, ACCURACY, num_resamples=20_000, seed=3)
    theirs = scipy.stats.bootstrap(
        (right,), np.mean, n_resamples=20_000, method="percentile", rng=4
    ).confidence_interval
    # standard error of a percentile of 20,000 draws with spread 0.037: sqrt(.025 * .975 / 20000) / density = 0.0009
    assert value == right.mean()
    assert low == pytest.approx(theirs.low, abs=0.005)
    assert high == pytest.approx(theirs.high, abs=0.005)


def test_interval_of_a_ratio_is_scipys():
    rng = np.random.default_rng(2)
    counts = rng.integers(0, 4, size=(120, 3)).astype(float)
    value, low, high = stats.interval(counts, F1, num_resamples=20_000, seed=3)
    columns = tuple(counts.T)

    def f1(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, axis: int) -> np.ndarray:
        return 2 * tp.sum(axis) / (2 * tp.sum(axis) + fp.sum(axis) + fn.sum(axis))

    theirs = scipy.stats.bootstrap(
        columns, f1, paired=True, vectorized=True, n_resamples=20_000, method="percentile", rng=4
    ).confidence_interval
    assert value == pytest.approx(f1(*columns, axis=0))
    assert low == pytest.approx(theirs.low, abs=0.004)
    assert high == pytest.approx(theirs.high, abs=0.004)


def _two_systems(rng: np.random.Generator, num_items: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts of two systems that are right on the same items more often than by chance; the first is better by 0.1."""
    hard = rng.random(num_items)
    first, second = (
        hard < 0.75 + 0.1 * rng.standard_normal(num_items),
        hard < 0.65 + 0.1 * rng.standard_normal(num_items),
    )
    one = np.ones(num_items)
    return np.stack([first.astype(float), one], axis=1), np.stack([second.astype(float), one], axis=1)


def test_paired_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(5)
    many = _two_systems(rng, 1_000_000)
    truth = float(ACCURACY(many[0].sum(axis=0)) - ACCURACY(many[1].sum(axis=0)))
    num_trials, covered, decided = 300, 0, 0
    for trial in range(num_trials):
        a, b = _two_systems(rng, 150)
        found = stats.paired_difference([a], [b], ACCURACY, num_resamples=400, seed=trial)
        covered += found["low"] <= truth <= found["high"]
        decided += stats.verdict(found, True) == "better"
    # 0.95 within four standard errors (0.0126) of 300 trials, and a little of the percentile method's own shortfall
    assert 0.89 < covered / num_trials <= 0.995
    assert decided / num_trials > 0.5, "a difference of 0.1 is seen most of the time"


def test_a_false_alarm_is_rare():
    rng = np.random.default_rng(6)
    alarms = 0
    for trial in range(200):
        both = (rng.random((2, 120)) < 0.6).astype(float)
        a, b = (np.stack([right, np.ones(120)], axis=1) for right in both)
        found = stats.paired_difference([a], [b], ACCURACY, num_resamples=400, seed=trial)
        alarms += stats.verdict(found, True) != "undecided"
    assert alarms / 200 < 0.11


def test_pairing_is_worth_something_and_runs_are_averaged():
    rng = np.random.default_rng(7)
    a, b = _two_systems(rng, 400)
    paired = stats.paired_difference([a], [b], ACCURACY)
    shuffled = stats.paired_difference([a], [b[rng.permutation(400)]], ACCURACY)
    assert paired["difference"] == pytest.approx(shuffled["difference"])
    assert paired["high"] - paired["low"] < 0.8 * (shuffled["high"] - shuffled["low"])
    same = stats.paired_difference([a, b], [b, a], ACCURACY)
    assert same == {"difference": 0.0, "low": 0.0, "high": 0.0, "differing": 0}
    averaged = stats.paired_difference([a, b], [b, b], ACCURACY)
    assert averaged["difference"] == pytest.approx(paired["difference"] / 2)


@pytest.mark.parametrize(
    ("low", "high", "higher_is_better", "word"),
    [
        (0.01, 0.2, True, "better"),
        (-0.2, -0.01, True, "worse"),
        (0.01, 0.2, False, "worse"),
        (-0.2, -0.01, False, "better"),
        (-0.01, 0.2, True, "undecided"),
        (0.0, 0.2, True, "undecided"),
        (-0.2, 0.0, False, "undecided"),
        (None, None, True, "undecided"),
    ],
)
def test_verdict_words(low: float | None, high: float | None, higher_is_better: bool, word: str):
    assert stats.verdict({"low": low, "high": high, "differing": 6}, higher_is_better) == word


@pytest.mark.parametrize(("num", "word"), [(5, "undecided"), (6, "better")])
def test_a_handful_of_utterances_decides_nothing(num: int, word: str):
    """All differ to one side; scipy's exact sign test has p above 0.05 for five of them, and below for six."""
    a = np.stack([np.ones(200), np.ones(200)], axis=1)
    b = a.copy()
    b[:num, 0] = 0
    found = stats.paired_difference([a], [b], ACCURACY)
    assert found["low"] > 0
    assert found["differing"] == num
    assert stats.verdict(found, True) == word
    assert (binomtest(0, num).pvalue < 0.05) == (word == "better")


def test_a_single_item_has_no_interval():
    one = np.array([[3.0, 8.0]])
    assert stats.interval(one, ACCURACY, 100, seed=0)[0] == 3 / 8
    assert np.isnan(stats.interval(one, ACCURACY, 100, seed=0)[1:]).all()
    assert stats.paired_difference([one], [one], ACCURACY) == {
        "difference": 0.0,
        "low": None,
        "high": None,
        "differing": 0,
    }
    assert stats.in_words({"value": 3 / 8, "low": None, "high": None}, 3) == "0.375  (no interval)"


def test_the_same_seed_gives_the_same_interval_and_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch):
    counts = np.random.default_rng(8).integers(0, 3, size=(50, 3)).astype(float)
    whole = stats.interval(counts, F1, 999, seed=1)
    monkeypatch.setattr(stats, "_MAX_DRAWN", 1000)
    assert stats.interval(counts, F1, 999, seed=1) == whole
    assert stats.interval(counts, F1, 999, seed=2) != whole


def test_resampling_a_large_test_set_stays_small():
    counts = np.ones((20_000, 2))
    tracemalloc.start()
    stats.interval(counts, ACCURACY, 600, seed=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 90e6, "600 x 20,000 draws at once would be 96 MB, and as much again for the product"


def test_what_is_not_defined_is_none():
    nothing = np.zeros((10, 3))
    value, low, high = stats.interval(nothing, F1, 100, seed=0)
    assert [stats.known(x) for x in (value, low, high)] == [None, None, None]
    assert stats.paired_difference([nothing], [nothing], F1) == {
        "difference": None,
        "low": None,
        "high": None,
        "differing": 0,
    }
    # one slot among many utterances: draws without it are left out
    rare = nothing.copy()
    rare[0] = (1, 0, 0)
    assert stats.interval(rare, F1, 200, seed=0) == (1.0, 1.0, 1.0)


def test_counts_of_groups_are_sums_in_the_order_of_their_first_items():
    counts = np.array([[1.0, 1.0], [0.0, 1.0], [1.0, 1.0], [3.0, 0.0]])
    assert stats.by_group(counts, ["b", "a", "b", "c"]).tolist() == [[2.0, 2.0], [0.0, 1.0], [3.0, 0.0]]
    assert stats.by_group(counts, list("wxyz")).tolist() == counts.tolist()


def test_an_interval_over_groups_is_that_of_the_variance_between_them():
    # a share over groups of equal size: its standard error is that of the groups' means (closed form)
    rng = np.random.default_rng(5)
    odds = np.repeat(rng.beta(2, 2, size=200), 10)
    right = (rng.random(2000) < odds).astype(float)
    counts = np.stack([right, np.ones(2000)], axis=1)
    _, low, high = stats.interval(
        stats.by_group(counts, [str(place // 10) for place in range(2000)]), ACCURACY, 20_000, 3
    )
    error = right.reshape(200, 10).mean(axis=1).std() / np.sqrt(200)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.04)
    assert high - low > 1.3 * (2 * 1.96 * right.std() / np.sqrt(2000))
