"""What more recordings would buy: growing, saturating curves through the measured points, with their uncertainty.

The family is v(n) = a - b (1 + n/c)^-d with b >= 0: it never falls, levels off at a, and holds both slow (nearly
logarithmic) and quick growth. Four parameters are more than a handful of points can fix, so no single best curve is
taken: curves are drawn from all of them, each as often as the points allow (the posterior under flat priors on the
values at the two outer points, on log c and over the exponents d). A range is the middle 95 % of the drawn curves.
Power laws fit learning curves of many learners best (Viering and Loog 2021, The shape of learning curves).

The points' errors are normal with the covariance that is given: points measured on the same test set err together, so
differences between them are known better than the points themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_EXPONENTS = (0.25, 0.5, 1.0, 2.0)
_NUM_SCALES = 25
_SMALLEST_ERROR = 0.002  # standard error below which no point is believed


@dataclass(frozen=True)
class Gain:
    """What `more` recordings beyond `start` add to the value: the middle of the drawn curves and their 95 % range.

    `beyond` says that start + more lies above the largest number of recordings that was measured.
    """

    start: int
    more: int
    value: float
    low: float
    high: float
    beyond: bool


@dataclass(frozen=True)
class Curves:
    """Drawn curves: limits a, drops b, scales c (recordings) and exponents d, each [num_curves]."""

    limit: np.ndarray
    drop: np.ndarray
    scale: np.ndarray
    exponent: np.ndarray
    sign: float
    largest: int

    def at(self, num_speech: Sequence[float] | np.ndarray) -> np.ndarray:
        """Values [num_curves, points] at numbers of recordings."""
        n = np.asarray(num_speech, dtype=float)[None, :]
        limit, drop, scale, exponent = (
            column[:, None] for column in (self.limit, self.drop, self.scale, self.exponent)
        )
        return np.asarray(self.sign * (limit - drop * (1 + n / scale) ** -exponent))

    def gain(self, start: int, more: int) -> Gain:
        """What `more` recordings add when `start` are there."""
        values = self.at([start, start + more])
        low, middle, high = np.percentile(values[:, 1] - values[:, 0], [2.5, 50, 97.5])
        return Gain(start, more, float(middle), float(low), float(high), start + more > self.largest)

    def band(self, num_speech: Sequence[float] | np.ndarray) -> np.ndarray:
        """Low, middle and high value [3, points] of the drawn curves."""
        return np.percentile(self.at(num_speech), [2.5, 50, 97.5], axis=0)


def draw_curves(
    num_speech: Sequence[int],
    values: Sequence[float],
    covariance: np.ndarray | Sequence[Sequence[float]],
    higher_is_better: bool = True,
    best: float | None = None,
    num_curves: int = 2000,
    seed: int = 0,
) -> Curves | None:
    """Curves through points (numbers of recordings ascending, values [points], covariance [points, points]).

    `best` is the best value that the metric can have (default 1, or 0 where lower is better); no curve passes it, nor
    falls below 0. None if there are fewer
    than three points, or if the values fall so clearly that no growing curve passes through them.
    """
    n = np.asarray(num_speech, dtype=float)
    if len(n) < 3 or n[-1] <= 0:
        return None
    sign = 1.0 if higher_is_better else -1.0
    best = sign * ((1.0 if higher_is_better else 0.0) if best is None else best)
    worst = 0.0 if higher_is_better else -np.inf
    y = sign * np.asarray(values, dtype=float)
    error = np.asarray(covariance, dtype=float) + _SMALLEST_ERROR**2 * np.eye(len(n))
    scales = np.geomspace(n[n > 0][0] / 4, 10 * n[-1], _NUM_SCALES)
    scale, exponent = (grid.ravel() for grid in np.meshgrid(scales, _EXPONENTS))

    # growth between the outer points, 0 at the first and 1 at the last [shapes, points]
    fall = (1 + n[None, :] / scale[:, None]) ** -exponent[:, None]
    growth = (fall[:, :1] - fall) / (fall[:, :1] - fall[:, -1:])
    design = np.stack([1 - growth, growth], axis=2)

    # generalised least squares of the values at the outer points, for every shape at once
    weighted = np.linalg.solve(error, design)
    precision = np.einsum("spi,spj->sij", design, weighted)
    ends = np.linalg.solve(precision, np.einsum("spi,p->si", weighted, y)[..., None])[..., 0]
    left = y - np.einsum("spi,si->sp", design, ends)
    misfit = np.einsum("sp,sp->s", left, np.linalg.solve(error, left.T).T)
    inflation = max(1.0, misfit.min() / max(1, len(n) - 3))  # points that scatter more than their errors say
    evidence = -0.5 * misfit / inflation - 0.5 * np.linalg.slogdet(precision / inflation)[1]
    weight = np.exp(evidence - evidence.max())

    rng = np.random.default_rng(seed)
    root = np.linalg.cholesky(np.linalg.inv(precision) * inflation)
    kept: list[np.ndarray] = []
    for _ in range(50):
        shape = rng.choice(len(weight), size=num_curves, p=weight / weight.sum())
        first, last = (ends[shape] + np.einsum("sij,sj->si", root[shape], rng.standard_normal((num_curves, 2)))).T
        drop = (last - first) / (fall[shape, 0] - fall[shape, -1])
        limit = first + drop * fall[shape, 0]
        allowed = (drop >= 0) & (limit <= best) & (limit - drop >= worst)
        kept.append(np.stack([limit, drop, scale[shape], exponent[shape]])[:, allowed])
        if sum(part.shape[1] for part in kept) >= num_curves:
            break
    drawn = np.concatenate(kept, axis=1)[:, :num_curves]
    if drawn.shape[1] < num_curves // 4:
        return None
    limit, drop, scale, exponent = drawn
    return Curves(limit, drop, scale, exponent, sign, int(n[-1]))


def increments(pool: int) -> tuple[int, int]:
    """Two round numbers of further recordings that suit a pool: about a tenth and a quarter of it (219: 20 and 50)."""
    small, large = _round(pool / 10), _round(pool / 4)
    return small, large if large > small else 2 * small


def _round(number: float) -> int:
    """The nearest of 1, 2, 5, 10, 20, 50, ..."""
    steps = [base * 10**power for power in range(9) for base in (1, 2, 5)]
    return min(steps, key=lambda step: abs(np.log(step / max(number, 1))))
