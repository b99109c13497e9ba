"""Scores of predictions, with intervals, and comparisons of runs. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from lalm import languages, plugins
from lalm.data.predictions import STATUSES, read_predictions
from lalm.errors import DataError
from lalm.evaluate import stats
from lalm.evaluate.prediction_rows import by_language, check_same_items, group, readings
from lalm.rundir import check_target, write_json

DEFAULT_METRICS = (
    "intent_accuracy",
    "entity_f1",
    "slu_f1",
    "exact_match",
    "command_acceptance",
    "extra_slots",
    "wer",
    "wer_orthographic",
    "cer",
)


def score_rows(
    rows: Sequence[Mapping[str, Any]], metrics: Sequence[str], num_resamples: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Metrics with 95 % intervals, summed counts, and how the answers were read (docs/formats.md, Scores).

    A metric that no row can be counted for, or that is not defined (F1 without a single slot), has the value None. Rows of
    several languages are scored together and, under `by_language`, each language by itself.
    """
    together = _scores(rows, metrics, num_resamples, seed)
    parts = by_language(rows)
    if len(parts) < 2:
        return together
    own = {language: _scores(part, metrics, num_resamples, seed) for language, part in parts.items()}
    return {**together, "by_language": own}


def _scores(rows: Sequence[Mapping[str, Any]], metrics: Sequence[str], num_resamples: int, seed: int) -> dict[str, Any]:
    values: dict[str, Any] = {}
    totals: dict[str, list[float]] = {}
    for name in metrics:
        metric = plugins.load("metrics", name)
        counted = [(row, counts) for row, counts in zip(rows, _counts(rows, metric), strict=True) if counts is not None]
        value = low = high = None
        if counted:
            counts = stats.by_group(
                np.array([one for _, one in counted], dtype=float), [group(row) for row, _ in counted]
            )
            value, low, high = map(stats.known, stats.interval(counts, metric.reduce, num_resamples, seed))
            totals[name] = counts.sum(axis=0).tolist()
        values[name] = {"value": value, "low": low, "high": high, "n": len(counted)}
    read = {status: sum(row["status"] == status for row in rows) for status in STATUSES}
    return {"metrics": values, "counts": totals, "status": read}


def _counts(rows: Iterable[Mapping[str, Any]], metric: ModuleType) -> list[tuple[float, ...] | None]:
    """Counts of each row; None where the metric does not apply."""
    return [metric.count(*readings(row)) for row in rows]


def grouped_counts(rows: Sequence[Mapping[str, Any]], metric: ModuleType, groups: Sequence[str]) -> np.ndarray:
    """Counts [groups, num_counts] of rows that are drawn together (`group` of each), zeros where the metric does not apply.

    [groups, 0] where it applies to none.
    """
    found = _counts(rows, metric)
    width = max((len(counts) for counts in found if counts is not None), default=0)
    counts = np.array([(0.0,) * width if one is None else one for one in found], dtype=float)
    return stats.by_group(counts, groups)


def score_predictions(
    predictions: Path,
    metrics: Sequence[str] = DEFAULT_METRICS,
    out: Path | None = None,
    num_resamples: int = 1000,
    by: str | None = None,
) -> dict[str, Any]:
    """Scores of a predictions file; also written to `out` if it is given. `by` "language" parts even a single language."""
    if out is not None:
        check_target(out, (".json",), predictions)
    rows = read_predictions(predictions)
    scores = score_rows(rows, metrics, num_resamples)
    if by is not None and "by_language" not in scores:
        scores = {**scores, "by_language": {language: dict(scores) for language in by_language(rows)}}
    if out is not None:
        write_json(out, scores)
    return scores


def compare_runs(first: Sequence[Path], second: Sequence[Path], metric_name: str) -> dict[str, Any]:
    """Paired difference of two sides (each one or more predictions files over the same items) in a metric.

    Undecided, without figures, where the metric has nothing to count on one of the sides.
    Raises DataError if the files do not hold the same items, with the same right answers.
    """
    judged: list[dict[str, Any]] | None = None
    sides: list[list[list[dict[str, Any]]]] = []
    for side in (first, second):
        members = []
        for path in side:
            rows = sorted(read_predictions(path), key=lambda row: str(row["id"]))
            judged = judged if judged is not None else rows
            check_same_items(judged, rows, path)
            members.append(rows)
        sides.append(members)
    return compare_rows(sides[0], sides[1], metric_name)


def compare_rows(
    first: Sequence[Sequence[Mapping[str, Any]]], second: Sequence[Sequence[Mapping[str, Any]]], metric_name: str
) -> dict[str, Any]:
    """`compare_runs` for predictions rows: each side one or more lists of rows of the same items in the same order."""
    metric = plugins.load("metrics", metric_name)
    groups = [group(row) for row in first[0]]  # of one side for both, so that the same rows are drawn
    sides = [[grouped_counts(rows, metric, groups) for rows in side] for side in (first, second)]
    if any(counts.shape[1] == 0 for side in sides for counts in side):
        return {"difference": None, "low": None, "high": None, "verdict": "undecided"}
    result = stats.paired_difference(sides[0], sides[1], metric.reduce)
    return {**result, "verdict": stats.verdict(result, metric.HIGHER_IS_BETTER)}


def score_command(
    predictions: Path | None,
    metrics: str | None,
    out: Path | None,
    corpus: str | None,
    gold: Path | None,
    corpus_predictions: Path | None,
    gold_transcripts: bool,
    by: str | None = None,
) -> dict[str, Any]:
    """What `lalm score` does: a predictions file of ours, or a corpus's own files with its official rules."""
    if corpus is not None:
        from lalm.evaluate.slurp import score_slurp

        if gold is None or corpus_predictions is None:
            raise DataError("lalm score --corpus slurp needs --gold and --predictions.")
        if by is not None:
            raise DataError(
                "--by language parts a predictions file of ours; the files of --corpus slurp name no language."
            )
        scores = score_slurp(gold, corpus_predictions, gold_transcripts)
        if out is not None:
            write_json(out, scores)
        return scores
    unused = {"--gold": gold, "--predictions": corpus_predictions, "--gold-transcripts": gold_transcripts}
    if given := [name for name, value in unused.items() if value]:
        raise DataError(f"lalm score: {' and '.join(given)} belong to --corpus, which is missing.")
    if predictions is None:
        raise DataError("lalm score needs a predictions file, or --corpus slurp with --gold and --predictions.")
    names = tuple(name.strip() for name in metrics.split(",")) if metrics else DEFAULT_METRICS
    return score_predictions(predictions, names, out, by=by)


def as_text(scores: Mapping[str, Any]) -> str:
    """Scores for a person: a line a figure."""
    lines = []
    for title, value in scores.get("metrics", scores).items():
        if isinstance(value, dict) and "value" in value:
            lines.append(f"{title:<24} {stats.in_words(value, 4)}  n = {value['n']}")
        elif isinstance(value, dict):
            figures = "  ".join(f"{key} {figure:.4f}" for key, figure in value.items() if figure is not None)
            lines.append(f"{title:<24} {figures}")
        else:
            lines.append(f"{title:<24} {value}")
    if "status" in scores:
        lines.append("answers: " + ", ".join(f"{count} {status}" for status, count in scores["status"].items()))
    for language, own in scores.get("by_language", {}).items():
        lines += ["", f"{languages.name(language)} ({language})", as_text(own)]
    return "\n".join(lines)
