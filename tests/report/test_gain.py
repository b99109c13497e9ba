"""Gains are held against curves that are known."""

from __future__ import annotations

import numpy as np
import pytest

from lalm.report.gain import draw_curves, increments

NUMBERS = [0, 4, 11, 22, 219]


def truth(n, a, b, c, d):
    return a - b * (1 + np.asarray(n, dtype=float) / c) ** -d


def shared_errors(utterances=0.03, correlation=0.6, seeds=0.01):
    """Points measured on the same utterances err together; seeds do not."""
    size = len(NUMBERS)
    together = correlation * np.ones((size, size)) + (1 - correlation) * np.eye(size)
    return utterances**2 * together + seeds**2 * np.eye(size)


@pytest.mark.parametrize(
    "curve", [(0.93, 0.33, 12, 0.7), (0.8, 0.2, 60, 1.0), (0.95, 0.35, 3, 0.3), (0.7, 0.02, 20, 0.5)]
)
def test_the_range_holds_the_true_gain_as_often_as_it_says(curve):
    errors = shared_errors()
    root = np.linalg.cholesky(errors)
    rng = np.random.default_rng(1)
    asked = [(4, 20), (22, 20), (22, 50)]
    inside = np.zeros(len(asked))
    repeats = 100
    for repeat in range(repeats):
        measured = truth(NUMBERS, *curve) + root @ rng.standard_normal(len(NUMBERS))
        curves = draw_curves(NUMBERS, measured, errors, num_curves=600, seed=repeat)
        for index, (start, more) in enumerate(asked):
            gain = curves.gain(start, more)
            true = truth(start + more, *curve) - truth(start, *curve)
            inside[index] += gain.low <= true <= gain.high
    assert (inside / repeats >= 0.9).all()


def test_ranges_are_no_wider_than_the_errors_ask_for():
    """With almost no error the gain between measured points is known; with more error the range widens."""
    exact = truth(NUMBERS, 0.93, 0.33, 12, 0.7)
    widths = []
    for error in (0.001, 0.01, 0.04):
        gain = draw_curves(NUMBERS, exact, error**2 * np.eye(5)).gain(11, 11)
        widths.append(gain.high - gain.low)
    true = truth(22, 0.93, 0.33, 12, 0.7) - truth(11, 0.93, 0.33, 12, 0.7)
    sharp = draw_curves(NUMBERS, exact, 0.001**2 * np.eye(5)).gain(11, 11)
    assert sharp.value == pytest.approx(true, abs=0.005)
    assert widths == sorted(widths)
    assert widths[0] < 0.015


def test_errors_in_common_leave_the_gain_sharper_than_errors_apart():
    exact = truth(NUMBERS, 0.93, 0.33, 12, 0.7)
    common, apart = (
        draw_curves(NUMBERS, exact, shared_errors(correlation=correlation)).gain(22, 20) for correlation in (0.9, 0.0)
    )
    assert common.high - common.low < apart.high - apart.low


def test_curves_never_fall_and_stay_below_the_best_value():
    curves = draw_curves(NUMBERS, [0.5, 0.62, 0.6, 0.7, 0.9], 0.03**2 * np.eye(5))
    drawn = curves.at(np.arange(0, 2000, 7))
    assert (np.diff(drawn, axis=1) >= 0).all()
    assert drawn.max() <= 1
    assert draw_curves([0, 10, 100], [0.0, 0.0, 0.02], 0.1**2 * np.eye(3)).at([0]).min() >= 0
    gains = [curves.gain(22, more) for more in (5, 20, 50, 150)]
    assert [gain.value for gain in gains] == sorted(gain.value for gain in gains)
    assert all(0 <= gain.low <= gain.value <= gain.high for gain in gains)
    low, middle, high = curves.band([0, 10, 300])
    assert (low <= middle).all()
    assert (middle <= high).all()


def test_the_same_seed_draws_the_same_curves():
    values, errors = truth(NUMBERS, 0.9, 0.3, 10, 1), shared_errors()
    first, again, other = (draw_curves(NUMBERS, values, errors, seed=seed).gain(22, 20) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert first.value == pytest.approx(other.value, abs=0.004)


def test_lower_is_better_turns_the_curve_round():
    values = truth(NUMBERS, 0.9, 0.3, 10, 1)
    errors = shared_errors()
    up = draw_curves(NUMBERS, values, errors).gain(22, 20)
    down = draw_curves(NUMBERS, 1 - values, errors, higher_is_better=False).gain(22, 20)
    assert down.value == pytest.approx(-up.value, abs=1e-9)
    assert (down.low, down.high) == pytest.approx((-up.high, -up.low), abs=1e-9)


def test_too_few_points_or_falling_ones_give_nothing():
    assert draw_curves([0, 10], [0.5, 0.7], 0.01**2 * np.eye(2)) is None
    assert draw_curves([0, 10, 100], [0.8, 0.6, 0.4], 0.01**2 * np.eye(3)) is None


def test_what_lies_beyond_the_measured_numbers_is_said_to():
    curves = draw_curves([0, 10, 100], [0.5, 0.7, 0.8], 0.02**2 * np.eye(3))
    assert not curves.gain(50, 50).beyond
    assert curves.gain(100, 1).beyond


@pytest.mark.parametrize(
    ("pool", "steps"), [(219, (20, 50)), (1500, (200, 500)), (40, (5, 10)), (3, (1, 2)), (11514, (1000, 2000))]
)
def test_increments_are_round_and_suit_the_pool(pool, steps):
    assert increments(pool) == steps
