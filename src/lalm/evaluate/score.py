"""Scores of predictions, with intervals, and comparisons of runs. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from lalm import plugins
from lalm.errors import DataError
from lalm.evaluate import stats
from lalm.records import Frame, Reading
from lalm.rundir import write_json

DEFAULT_METRICS = ("intent_accuracy", "entity_f1", "slu_f1", "exact_match", "command_acceptance")


def score_rows(
    rows: Sequence[Mapping[str, Any]], metrics: Sequence[str], num_resamples: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Metrics with 95 % intervals, summed counts, and how the answers were read (docs/formats.md, Scores)."""
    values: dict[str, Any] = {}
    totals: dict[str, list[float]] = {}
    for name in metrics:
        metric = plugins.load("metrics", name)
        counts = _counts(rows, metric)
        if len(counts) == 0:
            values[name] = {"value": None, "low": None, "high": None, "n": 0}
            continue
        value, low, high = stats.interval(counts, metric.reduce, num_resamples, seed)
        values[name] = {"value": value, "low": low, "high": high, "n": len(counts)}
        totals[name] = counts.sum(axis=0).tolist()
    read = {status: sum(row["status"] == status for row in rows) for status in ("ok", "repaired", "failed")}
    return {"metrics": values, "counts": totals, "status": read}


def _counts(rows: Sequence[Mapping[str, Any]], metric: ModuleType) -> np.ndarray:
    """Counts of the rows that the metric applies to [items, num_counts]."""
    found = [metric.count(*readings(row)) for row in rows]
    return np.array([counts for counts in found if counts is not None], dtype=float)


def readings(row: Mapping[str, Any]) -> tuple[Reading, Reading]:
    """Reference and hypothesis of a predictions row."""
    answer = row["prediction"]
    return (
        Reading(Frame.from_json(row["gold"]), row.get("text")),
        Reading(Frame.from_json(answer) if answer is not None else None, row.get("heard")),
    )


def read_predictions(path: Path) -> list[dict[str, Any]]:
    """Rows of a predictions file. Raises DataError that lists every bad line."""
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    seen: dict[str, int] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}).") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            readings(row)
            if row["status"] not in ("ok", "repaired", "failed"):
                raise ValueError(f"status {row['status']!r} is none of ok, repaired, failed")
            if row["id"] in seen:
                raise ValueError(f"id {row['id']!r} stands on line {seen[row['id']]} already")
            seen[row["id"]] = number
            rows.append(row)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            what = f"field {error} is missing" if isinstance(error, KeyError) else str(error)
            problems.append(f"{path}, line {number}: {what}.")
    if problems:
        raise DataError(f"{path}: {len(problems)} bad rows.", problems)
    if not rows:
        raise DataError(f"{path}: holds no predictions.")
    return rows


def score_predictions(
    predictions: Path, metrics: Sequence[str] = DEFAULT_METRICS, out: Path | None = None, num_resamples: int = 1000
) -> dict[str, Any]:
    """Scores of a predictions file; also written to `out` if it is given."""
    scores = score_rows(read_predictions(predictions), metrics, num_resamples)
    if out is not None:
        write_json(out, scores)
    return scores


def compare_runs(first: Sequence[Path], second: Sequence[Path], metric_name: str) -> dict[str, Any]:
    """Paired difference of two sides (each one or more predictions files over the same items) in a metric.

    Raises DataError if the files do not hold the same items.
    """
    metric = plugins.load("metrics", metric_name)
    sides = []
    ids: list[str] | None = None
    for side in (first, second):
        members = []
        for path in side:
            rows = {row["id"]: row for row in read_predictions(path)}
            ids = ids if ids is not None else sorted(rows)
            if sorted(rows) != ids:
                raise DataError(f"{path}: holds other items than {first[0]}; only runs over the same items can be compared.")
            found = [metric.count(*readings(rows[key])) for key in ids]
            zero = next((tuple(0.0 for _ in counts) for counts in found if counts is not None), (0.0,))
            members.append(np.array([zero if counts is None else counts for counts in found], dtype=float))
        sides.append(members)
    result = stats.paired_difference(sides[0], sides[1], metric.reduce)
    return {**result, "verdict": stats.verdict(result["low"], result["high"], metric.HIGHER_IS_BETTER)}


def score_command(
    predictions: Path | None,
    metrics: str | None,
    out: Path | None,
    corpus: str | None,
    gold: Path | None,
    corpus_predictions: Path | None,
    gold_transcripts: bool,
) -> dict[str, Any]:
    """What `lalm score` does: a predictions file of ours, or a corpus's own files with its official rules."""
    if corpus is not None:
        from lalm.evaluate.slurp import score_slurp

        if gold is None or corpus_predictions is None:
            raise DataError("lalm score --corpus slurp needs --gold and --predictions.")
        scores = score_slurp(gold, corpus_predictions, gold_transcripts)
        if out is not None:
            write_json(out, scores)
        return scores
    if predictions is None:
        raise DataError("lalm score needs a predictions file, or --corpus slurp with --gold and --predictions.")
    names = tuple(metrics.split(",")) if metrics else DEFAULT_METRICS
    return score_predictions(predictions, names, out)


def as_text(scores: Mapping[str, Any]) -> str:
    """Scores for a person: a line a figure."""
    lines = []
    for name, value in scores.get("metrics", scores).items():
        if isinstance(value, dict) and "value" in value:
            shown = "none" if value["value"] is None else f"{value['value']:.4f}  ({value['low']:.4f} to {value['high']:.4f})"
            lines.append(f"{name:<24} {shown}  n = {value['n']}")
        elif isinstance(value, dict):
            figures = "  ".join(f"{key} {figure:.4f}" for key, figure in value.items() if figure is not None)
            lines.append(f"{name:<24} {figures}")
        else:
            lines.append(f"{name:<24} {value}")
    if "status" in scores:
        lines.append("answers: " + ", ".join(f"{count} {status}" for status, count in scores["status"].items()))
    return "\n".join(lines)
