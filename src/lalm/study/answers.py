"""The predictions of a study's runs, read once, as counts: for averages, intervals and paired tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lalm import plugins
from lalm.data.predictions import read_predictions
from lalm.evaluate import stats
from lalm.evaluate.prediction_rows import check_same_items, group, readings
from lalm.rundir import RunDir

_NUM_RESAMPLES = 1000


class Answers:
    """Answers of runs, named by their path within the study folder; every run must hold the same utterances."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
        self._counts: dict[tuple[str, str, str], np.ndarray] = {}
        self._draws: dict[tuple[str, str, str], np.ndarray] = {}
        self._judged: dict[str, list[dict[str, Any]]] = {}

    def path(self, run: str, name: str = "test") -> Path:
        """The predictions file of a run on a set."""
        return RunDir(self._out / run).predictions(name)

    def rows(self, run: str, name: str = "test") -> list[dict[str, Any]]:
        """Predictions rows by id. Raises DataError for bad rows, or other utterances than the first run's."""
        if (run, name) not in self._rows:
            path = self.path(run, name)
            rows = sorted(read_predictions(path), key=lambda row: row["id"])
            check_same_items(self._judged.setdefault(name.removesuffix("_free"), rows), rows, path)
            self._rows[run, name] = rows
        return self._rows[run, name]

    def counts(self, run: str, metric: str, name: str = "test", places: Sequence[int] | None = None) -> np.ndarray:
        """Counts of a metric [groups, num_counts] of utterances that are drawn together; zeros where it does not apply.

        Without any columns where it applies to no row at all. `places`: of these rows alone.
        """
        rows, counts = self.rows(run, name), self._by_row(run, metric, name)
        chosen = range(len(rows)) if places is None else places
        return stats.by_group(counts[list(chosen)], [group(rows[place]) for place in chosen])

    def _by_row(self, run: str, metric: str, name: str) -> np.ndarray:
        if (run, metric, name) not in self._counts:
            module = plugins.load("metrics", metric)
            found = [module.count(*readings(row)) for row in self.rows(run, name)]
            width = next((len(counts) for counts in found if counts is not None), 0)
            rows = [counts or (0.0,) * width for counts in found]
            self._counts[run, metric, name] = np.array(rows, dtype=float).reshape(len(rows), width)
        return self._counts[run, metric, name]

    def resample(self, runs: Sequence[str], metric: str, name: str = "test") -> np.ndarray:
        """Mean value over runs in each draw of utterances [resamples]; every call uses the same draws."""
        return np.mean([self._drawn(run, metric, name) for run in runs], axis=0)

    def _drawn(self, run: str, metric: str, name: str) -> np.ndarray:
        key = (run, metric, name)
        if key not in self._draws:
            reduce, counts = plugins.load("metrics", metric).reduce, self.counts(*key)
            with np.errstate(invalid="ignore", divide="ignore"):
                known = counts.shape[1] > 0
                drawn = reduce(stats.resampled(counts, _NUM_RESAMPLES, seed=0)) if known else [np.nan] * _NUM_RESAMPLES
                self._draws[key] = np.asarray(drawn)
        return self._draws[key]

    def compare(
        self,
        first: Sequence[str],
        second: Sequence[str],
        metric: str,
        names: tuple[str, str] = ("test", "test"),
        places: Sequence[int] | None = None,
    ) -> dict[str, Any]:
        """Paired difference of two sides (runs averaged), with its interval and verdict.

        `names` are the sets of the sides: the test set, answered twice. `places`: over these rows alone. Undecided where
        the metric applies to no row of a run.
        """
        module = plugins.load("metrics", metric)
        sides = [
            [self.counts(run, metric, name, places) for run in side]
            for side, name in zip((first, second), names, strict=True)
        ]
        if any(counts.shape[1] == 0 for side in sides for counts in side):
            return {"difference": None, "low": None, "high": None, "verdict": "undecided"}
        result = stats.paired_difference(sides[0], sides[1], module.reduce)
        return {**result, "verdict": stats.verdict(result, module.HIGHER_IS_BETTER)}
