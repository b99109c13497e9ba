"""Run folders read and checked: scores, log, and paired comparisons where runs answered the same utterances."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from lalm import plugins
from lalm.data.predictions import read_predictions
from lalm.errors import UserError
from lalm.evaluate.prediction_rows import item
from lalm.evaluate.score import compare_runs, score_rows
from lalm.report.rows import Interval
from lalm.report.tables import Entry, Group, Table
from lalm.report.words import NONE, metric
from lalm.rundir import RunDir, read_json

_NUM_RESAMPLES = 1000


class Scores(BaseModel):
    """`scores/<set>.json`."""

    model_config = ConfigDict(frozen=True, extra="allow")

    metrics: dict[str, Interval]
    status: dict[str, int] = {}


@dataclass(frozen=True)
class RunFolder:
    """A run: its name on the page, what it says of itself, scores by set, log rows, and how many log lines were damaged."""

    root: Path
    name: str
    info: Mapping[str, Any]
    scores: Mapping[str, Scores]
    log: Sequence[dict[str, Any]]
    num_bad_lines: int

    def predictions(self, name: str) -> Path:
        """The predictions file of a set."""
        return RunDir(self.root).predictions(name)


@dataclass(frozen=True)
class Compared:
    """Two runs on a set: differences by metric, or the reason why they cannot be compared."""

    a: str
    b: str
    set_name: str
    differences: Mapping[str, Mapping[str, Any]]
    reason: str | None = None


def load_runs(folders: Sequence[Path]) -> list[RunFolder]:
    """The runs of folders. Raises UserError for a folder that holds no finished run, and for damaged files."""
    roots = list(dict.fromkeys(folder.resolve() for folder in folders))
    names = _names(roots)
    return [_load(folder, name) for folder, name in zip(roots, names, strict=True)]


def _names(roots: Sequence[Path]) -> list[str]:
    """Folder names, with their parents where the names alone are not different."""
    short = [root.name for root in roots]
    return short if len(set(short)) == len(short) else [f"{root.parent.name}/{root.name}" for root in roots]


def _load(folder: Path, name: str) -> RunFolder:
    run = RunDir(folder)
    if not run.recipe.is_file() and not run.info.is_file():
        raise UserError(f"{folder}: holds neither a study (results.json) nor a run (recipe.yaml and run.json).")
    run.require()
    info = read_json(run.info)
    if not isinstance(info, dict):
        raise UserError(f"{run.info}: is no run.json: an object is needed, this is a {type(info).__name__}.")
    sets = run.sets()
    scores = {one: _scores(run.scores(one)) for one in sets if run.scores(one).is_file()}
    for one in sets:
        if one not in scores:
            path = run.predictions(one)
            found = score_rows(read_predictions(path), _metrics(scores), _NUM_RESAMPLES)
            scores[one] = plugins.parse(Scores, found, str(path))
    log, bad = read_log(run.log)
    return RunFolder(folder, name, info, scores, log, bad)


def _scores(path: Path) -> Scores:
    value = read_json(path)
    if not isinstance(value, dict):
        raise UserError(f"{path}: is no scores file: an object is needed, this is a {type(value).__name__}.")
    return plugins.parse(Scores, value, str(path))


def _metrics(scores: Mapping[str, Scores]) -> Sequence[str]:
    """For predictions that were not scored yet: the metrics of the run's other sets, else the usual ones."""
    from lalm.evaluate.score import DEFAULT_METRICS

    return next((list(one.metrics) for one in scores.values()), DEFAULT_METRICS)


def read_log(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Log rows by step; where a resumed run logged a step twice, the last row counts. A killed run may leave half a line."""
    rows: dict[tuple[int, bool], dict[str, Any]] = {}
    bad = 0
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
            rows[int(row["step"]), "loss" in row] = {**row, "stage": str(row["stage"])}
        except (ValueError, KeyError, TypeError):
            bad += 1
    return [rows[key] for key in sorted(rows)], bad


def comparisons(runs: Sequence[RunFolder]) -> list[Compared]:
    """Every two runs on every set that both have answered, in every metric that both were scored in."""
    return [found for a, b in combinations(runs, 2) for found in _compare(a, b)]


def _compare(a: RunFolder, b: RunFolder) -> Iterator[Compared]:
    for name in a.scores:
        if name not in b.scores or not (a.predictions(name).is_file() and b.predictions(name).is_file()):
            continue
        files = ([a.predictions(name)], [b.predictions(name)])
        items = [set(map(item, read_predictions(side[0]))) for side in files]
        if items[0] != items[1]:
            reason = f"they answered different utterances ({len(items[0] & items[1])} are in both)"
            yield Compared(a.name, b.name, name, {}, reason)
            continue
        known = plugins.names("metrics")
        shared = [one for one in a.scores[name].metrics if one in b.scores[name].metrics and one in known]
        yield Compared(a.name, b.name, name, {one: compare_runs(*files, one) for one in shared})


def run_tables(runs: Sequence[RunFolder]) -> list[Table]:
    """Scores, a table a set: metrics by run. Then the comparisons."""
    sets = sorted({name for run in runs for name in run.scores}, key=lambda name: (name != "test", name))
    tables = [_scores_table(runs, name) for name in sets]
    compared = [one for one in comparisons(runs) if one.differences]
    return [*tables, *([_difference_table(compared)] if compared else [])]


def _scores_table(runs: Sequence[RunFolder], set_name: str) -> Table:
    scored = [run for run in runs if set_name in run.scores]
    names = dict.fromkeys(name for run in scored for name in run.scores[set_name].metrics)
    rows = []
    for one in (metric(name) for name in names):
        values = [run.scores[set_name].metrics.get(one.name) for run in scored]
        known = [value.value for value in values if value is not None and value.value is not None]
        if not known:
            continue
        best = (max if one.higher_is_better else min)(known, default=None) if len(known) > 1 else None
        entries = [
            Entry(NONE) if v is None or v.value is None
            else Entry(one.number(v.value), one.range(v) if v.low is not None else "", v.value == best)
            for v in values
        ]  # fmt: skip
        rows.append([Entry(f"{one.title}, {one.unit}"), *entries])
    for word in ("ok", "repaired", "failed"):
        rows.append(
            [Entry(f"answers {word}"), *(Entry(str(run.scores[set_name].status.get(word, NONE))) for run in scored)]
        )
    return Table(f"Scores on {set_name}", [Entry("metric"), *(Entry(run.name) for run in scored)], [Group("", rows)])


def _difference_table(compared: Sequence[Compared]) -> Table:
    header = [Entry("metric"), Entry("difference"), Entry("95 % interval"), Entry("verdict")]
    groups = []
    for pair in compared:
        rows = []
        for name, found in pair.differences.items():
            if found["difference"] is None:
                continue
            one = metric(name)
            interval = (
                f"{one.signed(found['low'])} to {one.signed(found['high'])}" if found["low"] is not None else NONE
            )
            fields = [one.title, one.signed(found["difference"]), interval, found["verdict"]]
            rows.append([Entry(field) for field in fields])
        groups.append(Group(f"{pair.a} minus {pair.b}, on {pair.set_name}", rows))
    return Table("Paired comparisons", header, groups)
