"""Dialogues that went on as the model led them, as tables: a row a run, with the levels of noise where there are any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lalm import plugins
from lalm.errors import DataError, many
from lalm.report.folder import StudyFolder
from lalm.report.robustness import Level, named_runs, score_entry
from lalm.report.runs import RunFolder
from lalm.report.tables import Entry, Group, Table
from lalm.report.words import Metric, metric
from lalm.rundir import read_json

_TITLES = {
    "turn_em": "EM, turns",
    "turn_f1": "F1, turns",
    "trajectory_em": "EM, dialogues",
    "trajectory_f1": "F1, dialogues",
    "clarification_recall": "asks when ambiguous",
    "asks_when_clear": "asks when clear",
    "clarification_precision": "of its questions needed",
    "question_overlap": "words as annotated, F1",
}
_CLEAN = "without noise"


class Dialogues(Level):
    """`scores/<set>-dialogue.json`."""

    set: str
    num: int
    num_ambiguous: int
    max_turns: int
    levels: tuple[Level, ...] = ()


def study_dialogues(study: StudyFolder) -> list[Table]:
    """The runs of a study that were let talk about its test set; none if there are no such figures."""
    found = {}
    for name, run in named_runs(study):
        path = study.inside(f"{run}/scores/test-dialogue.json")
        if path is not None:
            found[name] = read_dialogues(path)
    return [_table(found)] if found else []


def runs_dialogues(runs: Sequence[RunFolder]) -> list[Table]:
    """Runs by themselves: a table for each set that was talked about."""
    by_set: dict[str, dict[str, Dialogues]] = {}
    for run in runs:
        for path in sorted((run.root / "scores").glob("*-dialogue.json")):
            one = read_dialogues(path)
            by_set.setdefault(one.set, {})[run.name] = one
    return [_table(found) for found in by_set.values()]


def read_dialogues(path: Path) -> Dialogues:
    """The summary in a file. Raises UserError if it is none."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise DataError(f"{path}: is no summary of dialogues: an object is needed.")
    return plugins.parse(Dialogues, value, str(path))


def _table(found: Mapping[str, Dialogues]) -> Table:
    first = next(iter(found.values()))
    metrics = [metric(name) for name in first.metrics if name in _TITLES]
    best = _best(found, metrics)
    groups = [Group(_CLEAN, [_row(name, one, metrics, best) for name, one in found.items()])]
    levels = {level.snr_db for one in found.values() for level in one.levels if level.snr_db is not None}
    for snr_db in sorted(levels, reverse=True):
        rows = [
            _row(name, level, metrics, {})
            for name, one in found.items()
            for level in one.levels
            if level.snr_db == snr_db
        ]
        groups.append(Group(f"{snr_db:g} dB", rows))
    if len(groups) == 1:
        groups = [Group("", groups[0].rows)]
    header = [Entry("run"), *(Entry(f"{_TITLES[one.name]}, %") for one in metrics)]
    about = f"{many(first.num, 'dialogue')}, {first.num_ambiguous} ambiguous"
    return Table(f"Dialogues on {first.set} ({about})", header, groups)


def _row(name: str, level: Level, metrics: Sequence[Metric], best: Mapping[str, float]) -> list[Entry]:
    entries = [Entry(name)]
    for one in metrics:
        score = level.metrics.get(one.name)
        entry = score_entry(score, one)
        leads = score is not None and score.value is not None and score.value == best.get(one.name)
        entries.append(Entry(entry.text, entry.detail, leads))
    return entries


def _best(found: Mapping[str, Dialogues], metrics: Sequence[Metric]) -> dict[str, float]:
    """The best value of each figure among several runs; how far words are the annotation's is nothing to be best in."""
    if len(found) < 2:
        return {}
    best = {}
    for one in metrics:
        scores = [level.metrics.get(one.name) for level in found.values()]
        known = [score.value for score in scores if score is not None and score.value is not None]
        if known and one.name != "question_overlap":
            best[one.name] = (max if one.higher_is_better else min)(known)
    return best
