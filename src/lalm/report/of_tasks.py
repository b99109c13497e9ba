"""Several tasks in a report: their losses, and whether their gradients point the same way, from the logs of runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from lalm.report.folder import StudyFolder
from lalm.report.rows import Curve, Point
from lalm.report.runs import RunFolder, read_log
from lalm.report.tables import Entry, Group, Table
from lalm.report.words import NONE, where

_LOSS, _COSINE = "loss/task/", "cosine/"


@dataclass(frozen=True)
class Stage:
    """The end of a stage of several tasks: the loss of each a token, and cosines by pair of tasks (of one task: its halves).

    The first task is the recipe's own.
    """

    name: str
    losses: Mapping[str, float]
    cosines: Mapping[tuple[str, str], float]

    @property
    def tasks(self) -> list[str]:
        """The tasks with a cosine first, in the order in which they were measured."""
        return list(dict.fromkeys([*(task for pair in self.cosines for task in pair), *self.losses]))


def stages(log: Sequence[Mapping[str, Any]]) -> list[Stage]:
    """The stages of a log that trained more than one task: each task's last loss, and the cosines at the end."""
    found = []
    for name in dict.fromkeys(row["stage"] for row in log):
        losses: dict[str, float] = {}
        cosines: dict[tuple[str, str], float] = {}
        for row in log:
            if row["stage"] != name:
                continue
            for key, value in row.items():
                if not isinstance(value, int | float):
                    continue
                if key.startswith(_LOSS):
                    losses[key.removeprefix(_LOSS)] = float(value)
                elif key.startswith(_COSINE) and key.count("/") == 2:
                    a, b = key.removeprefix(_COSINE).split("/")
                    cosines[a, b] = float(value)
        if len(losses) > 1:
            found.append(Stage(name, losses, cosines))
    return found


def last_stage(study: StudyFolder, point: Point) -> Stage | None:
    """The last stage of several tasks of a point's runs, averaged over the seeds; None if there is none."""
    logs = [path for run in point.runs if (path := study.inside(f"{run}/log.jsonl")) is not None]
    ends = [found[-1] for path in logs if (found := stages(read_log(path)[0]))]
    if not ends:
        return None
    return Stage(ends[0].name, _means([end.losses for end in ends]), _means([end.cosines for end in ends]))


def _means(values: Iterable[Mapping[Any, float]]) -> dict[Any, float]:
    gathered: dict[Any, list[float]] = {}
    for one in values:
        for key, value in one.items():
            gathered.setdefault(key, []).append(value)
    return {key: mean(found) for key, found in gathered.items()}


def study_tasks(study: StudyFolder) -> Table | None:
    """The last stage of every scheme that trains several tasks, a group a share; None if no scheme does."""
    groups = [(f"{curve.name}, {where(point)}", stage) for curve, point, stage in several(study)]
    return _table(groups)


def several(study: StudyFolder) -> list[tuple[Curve, Point, Stage]]:
    """Schemes and shares whose runs trained several tasks, with the last stage."""
    return [
        (curve, point, stage)
        for curve in study.cells
        for point in curve.own
        if (stage := last_stage(study, point)) is not None
    ]


def runs_tasks(runs: Sequence[RunFolder]) -> Table | None:
    """Every stage of several tasks of runs by themselves; None if there is none."""
    return _table([(f"{run.name}, stage {stage.name}", stage) for run in runs for stage in stages(run.log)])


def _table(groups: Sequence[tuple[str, Stage]]) -> Table | None:
    """A row a task: its loss, and the cosine of its gradient with that of each task."""
    tasks = list(dict.fromkeys(task for _, stage in groups for task in stage.tasks))
    if not tasks:
        return None
    header = [Entry("task"), Entry("loss a token"), *(Entry(words(task)) for task in tasks)]
    return Table(
        "Tasks: loss, and cosine of the gradient with that of each task",
        header,
        [Group(title, [_row(task, stage, tasks) for task in stage.tasks]) for title, stage in groups],
    )


def _row(task: str, stage: Stage, tasks: Sequence[str]) -> list[Entry]:
    loss = stage.losses.get(task)
    cosines = [stage.cosines.get((task, other), stage.cosines.get((other, task))) for other in tasks]
    return [
        Entry(words(task)),
        Entry(NONE if loss is None else f"{loss:.3g}"),
        *(Entry(signed(one)) for one in cosines),
    ]


def signed(value: float | None) -> str:
    """A cosine: `0.31`, `−0.12`."""
    return NONE if value is None else f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−")


def words(task: str) -> str:
    """A task's name as a person reads it."""
    return task.replace("_", " ")
