"""The modality gap as tables: the same utterances as text, as synthetic speech and as recordings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from lalm import plugins
from lalm.errors import DataError, many
from lalm.report.folder import StudyFolder
from lalm.report.robustness import Difference, Level, named_runs, score_entry
from lalm.report.runs import RunFolder
from lalm.report.tables import Entry, Group, Table
from lalm.report.words import NONE, Metric, metric
from lalm.rundir import read_json

Modality = Literal["text", "synthetic", "recording"]
_TITLES: dict[Modality, str] = {"text": "text", "synthetic": "synthetic speech", "recording": "recordings"}
_PAIRS: tuple[tuple[Modality, Modality], ...] = (
    ("text", "synthetic"),
    ("text", "recording"),
    ("synthetic", "recording"),
)


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class Differences(_Row):
    """Paired differences a - b, by metric."""

    a: Modality
    b: Modality
    metrics: dict[str, Difference]


class Gap(_Row):
    """`scores/<set>-gap.json`."""

    set: str
    num: int
    modalities: dict[Modality, Level | None] = Field(min_length=1)
    differences: tuple[Differences, ...]
    reasons: dict[Modality, str] = {}


@dataclass(frozen=True)
class GapTable:
    """The table, and why modalities are missing in it."""

    table: Table
    notes: list[str]


def study_gap(study: StudyFolder) -> GapTable | None:
    """The runs of a study in its primary metric, a row a run; None if there are no such figures."""
    found = {}
    for name, run in named_runs(study):
        path = study.inside(f"{run}/scores/test-gap.json")
        if path is not None:
            found[name] = read_gap(path)
    one = metric(study.primary, study.results.metrics)
    rows = [[Entry(f"{name} ({_items(gap)})"), *_fields(gap, one)] for name, gap in found.items()]
    return _table(f"{one.title}, {one.unit}".capitalize(), "run", [Group("", rows)], found.values()) if rows else None


def runs_gap(runs: Sequence[RunFolder]) -> GapTable | None:
    """Runs by themselves: a group for each run and set, a row a metric; None if there are no such figures."""
    found = {
        (run.name, gap.set): gap
        for run in runs
        for gap in map(read_gap, sorted((run.root / "scores").glob("*-gap.json")))
    }
    groups = []
    for (name, set_name), gap in found.items():
        names = dict.fromkeys(one for level in gap.modalities.values() if level for one in level.metrics)
        rows = [[Entry(f"{one.title}, {one.unit}"), *_fields(gap, one)] for one in map(metric, names)]
        shown = [row for row in rows if any(entry.text != NONE for entry in row[1:])]
        groups.append(Group(f"{name}, {_items(gap)} of {set_name}", shown))
    return _table("The same items in each modality", "metric", groups, found.values()) if groups else None


def read_gap(path: Path) -> Gap:
    """The summary in a file. Raises UserError if it is none."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise DataError(f"{path}: is no summary of a modality gap: an object is needed.")
    return plugins.parse(Gap, value, str(path))


def _table(caption: str, first: str, groups: list[Group], gaps: Iterable[Gap]) -> GapTable:
    pairs = [f"{_TITLES[a]} minus {_TITLES[b]}" for a, b in _PAIRS]
    header = [Entry(name) for name in (first, *_TITLES.values(), *pairs)]
    reasons = dict.fromkeys(reason for gap in gaps for reason in gap.reasons.items())
    return GapTable(
        Table(caption, header, groups), [f"No {_TITLES[modality]}: {reason}." for modality, reason in reasons]
    )


def _items(gap: Gap) -> str:
    return many(gap.num, "item")


def _fields(gap: Gap, one: Metric) -> list[Entry]:
    """Values by modality, then differences of each two with interval and verdict."""
    entries = []
    for modality in _TITLES:
        level = gap.modalities.get(modality)
        score = level.metrics.get(one.name) if level is not None else None
        entries.append(score_entry(score, one))
    found = {(pair.a, pair.b): pair.metrics.get(one.name) for pair in gap.differences}
    for sides in _PAIRS:
        difference = found.get(sides)
        if difference is None or difference.low is None:
            entries.append(Entry(NONE))
        else:
            interval = f"{one.signed(difference.low)} to {one.signed(difference.high)}"
            entries.append(Entry(one.signed(difference.difference), f"{interval}, {difference.verdict}"))
    return entries
