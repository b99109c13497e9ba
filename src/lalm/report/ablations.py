"""What several tasks gain over the one alone, and which of them carries it where a study leaves each out in turn; in words."""

from __future__ import annotations

from collections.abc import Iterator

from lalm.report.of_tasks import words
from lalm.report.rows import Curve, Point
from lalm.report.signs import alone
from lalm.report.standings import Difference, Standings
from lalm.report.words import where

_SAYS = {"better": "better than", "worse": "worse than", "undecided": "not told apart from"}


def task_gains(standings: Standings) -> list[str]:
    """A sentence for each share at which a set of tasks, part of no larger one, was run beside its own task alone."""
    curves = standings.study.cells
    whole = [curve for curve in curves if _tasks(curve) and not any(_left_out(other, curve) for other in curves)]
    return [
        _sentence(standings, curve, point, difference)
        for curve in whole
        if (single := alone(standings.study, curve)) is not None
        for point in curve.own
        if (other := _at(single, point)) is not None
        if (difference := standings.between(point, other)) is not None
    ]


def _sentence(standings: Standings, curve: Curve, point: Point, gain: Difference) -> str:
    tasks = " + ".join(words(task) for task in _tasks(curve))
    said = f"At {where(point)}, the own task with {tasks} is {_SAYS[gain.verdict]} the own task alone ({_range(standings, gain)})"
    if len(_tasks(curve)) == 1:
        return f"{said}."
    carried = [
        (standings.rank(point) - standings.rank(other), task, difference)
        for task, other in _without(standings, curve, point)
        if (difference := standings.between(point, other)) is not None
    ]
    if not carried:
        return f"{said}. Which task carries that, no run tells: none leaves one out."
    carried.sort(key=lambda one: -one[0])
    shown = "; ".join(f"{words(task)} {_range(standings, difference)}" for _, task, difference in carried)
    _, first, decisive = carried[0]
    most = f"{words(first)} carries most" if decisive.verdict == "better" else "no task is seen to carry it"
    return f"{said}. With each task less without it: {shown}; {most}."


def _without(standings: Standings, curve: Curve, point: Point) -> Iterator[tuple[str, Point]]:
    """Each task that another scheme of the study leaves out, with that scheme's point at the same share."""
    for other in standings.study.cells:
        task, there = _left_out(curve, other), _at(other, point)
        if task is not None and there is not None:
            yield task, there


def _left_out(larger: Curve, smaller: Curve) -> str | None:
    """The one task that a scheme of several tasks has and another has not, all else alike; None if it is not so."""
    extra = [task for task in _tasks(larger) if task not in _tasks(smaller)]
    if len(extra) != 1 or len(_tasks(smaller)) != len(_tasks(larger)) - 1 or larger.scheme != smaller.scheme:
        return None
    own = {
        key: value
        for key, value in larger.options.items()
        if key != "tasks" and not key.startswith(f"tasks.{extra[0]}.")
    }
    theirs = {key: value for key, value in smaller.options.items() if key != "tasks"}
    alike = (larger.selector, larger.synthetic, larger.model_extra) == (
        smaller.selector,
        smaller.synthetic,
        smaller.model_extra,
    )
    return extra[0] if own == theirs and alike else None


def _tasks(curve: Curve) -> list[str]:
    found = curve.options.get("tasks")
    return found.split("+") if isinstance(found, str) and found else []


def _at(curve: Curve, point: Point) -> Point | None:
    return next((one for one in curve.own if one.speech_share == point.speech_share), None)


def _range(standings: Standings, found: Difference) -> str:
    metric = standings.metric
    return f"{metric.signed(found.value)}, {metric.signed(found.low)} to {metric.signed(found.high)}"
