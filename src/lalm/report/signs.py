"""Signs that several tasks or little data do harm: tasks against each other, learning by heart, hearing that loses.

The signs are those that come with data-centric multi-task learning (arXiv 2412.15995); when one is worth a remark is ours.
All of it comes from the files of run folders.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lalm.report.folder import StudyFolder
from lalm.report.of_tasks import Stage, several, signed, stages, words
from lalm.report.rows import Curve, Interval
from lalm.report.runs import RunFolder, read_log
from lalm.report.standings import Standings
from lalm.report.words import Metric, metric, where

CONFLICT = -0.05  # cosines nearer to zero are taken for none
FAR = 0.1  # ten points
FALLEN = 0.02  # of a dev metric, since its best
MANY_TIMES = 3.0  # a dev loss over the training loss


def study_signs(standings: Standings) -> list[str]:
    """Remarks on a study's runs."""
    study = standings.study
    logs = {run: read_log(path)[0] for run in study.runs() if (path := study.inside(f"{run}/log.jsonl")) is not None}
    return [
        *_conflicts((f"{curve.name} at {where(point)}", stage) for curve, point, stage in several(study)),
        *_worse_than_one_task(standings),
        *_by_heart((run.removeprefix("runs/"), log) for run, log in logs.items()),
        *_lost_in_hearing(_heard_and_read(study, standings.metric), standings.metric),
    ]


def run_signs(runs: Sequence[RunFolder]) -> list[str]:
    """Remarks on runs by themselves; how much hearing loses in the first metric of the test set's scores."""
    result = [
        *_conflicts((run.name, found[-1]) for run in runs if (found := stages(run.log))),
        *_by_heart((run.name, run.log) for run in runs),
    ]
    for run in runs:
        if "test" in run.scores and "oracle_text" in run.scores:
            read = run.scores["oracle_text"].metrics
            name = next((one for one in run.scores["test"].metrics if one in read), None)
            if name is not None:
                pair = (run.name, run.scores["test"].metrics[name], read[name])
                result += _lost_in_hearing([pair], metric(name))
    return result


def _conflicts(ends: Iterable[tuple[str, Stage]]) -> list[str]:
    """Tasks whose gradient points away from that of the recipe's own task."""
    found = []
    for name, stage in ends:
        for task in stage.tasks[1:]:
            value = stage.cosines.get((stage.tasks[0], task))
            if value is not None and value < CONFLICT:
                found.append((value, f"{words(task)} and {words(stage.tasks[0])}, {signed(value)} ({name})"))
    if not found:
        return []
    found.sort(key=lambda one: one[0])
    return [
        f"Tasks pull the weights in opposite directions at the end of training, by the cosine of their gradients: "
        f"{_first(found)}. Lower the weight of such a task, leave it out, or set task_tags."
    ]


def _worse_than_one_task(standings: Standings) -> list[str]:
    """Schemes of several tasks that the paired test finds worse than their base scheme alone."""
    found = []
    for curve in standings.study.cells:
        single = alone(standings.study, curve)
        for point in curve.own if single is not None else ():
            other = next((one for one in single.own if one.speech_share == point.speech_share), None)  # type: ignore[union-attr]
            difference = standings.between(point, other) if other is not None else None
            if difference is not None and difference.verdict == "worse":
                shown = f"{curve.name} at {where(point)}, {standings.metric.signed(difference.value)}"
                found.append((-abs(difference.value), shown))
    found.sort(key=lambda one: one[0])
    return [
        f"Several tasks are worse than the one alone: {_first(found)}. The auxiliary tasks may be too hard or too far from it."
    ] if found else []  # fmt: skip


def alone(study: StudyFolder, curve: Curve) -> Curve | None:
    """The curve of the scheme that a multi-task scheme is over, with the same options and all else alike."""
    base = curve.options.get("base")
    own = {name.removeprefix("base."): value for name, value in curve.options.items() if name.startswith("base.")}
    return next(
        (
            one
            for one in study.cells
            if base is not None and one.scheme == base and one.options == own
            and (one.selector, one.synthetic, one.model_extra) == (curve.selector, curve.synthetic, curve.model_extra)
        ),
        None,
    )  # fmt: skip


def _by_heart(logs: Iterable[tuple[str, Sequence[Mapping[str, Any]]]]) -> list[str]:
    """Runs whose dev metric fell while the training loss fell on, or whose dev loss is a multiple of the training loss."""
    found = []
    for name, log in logs:
        losses = [(row["step"], row["loss"]) for row in log if "loss" in row]
        for key in dict.fromkeys(key for row in log for key in row if key.startswith("dev/")):
            values = [(row["step"], row[key]) for row in log if isinstance(row.get(key), int | float)]
            if not values:
                continue
            step, last = values[-1]
            now = _at(losses, step)
            if key == "dev/loss":
                if now is not None and last > MANY_TIMES * now:
                    found.append((-last / max(now, 1e-9), f"{name}, loss {last:.2g} on dev and {now:.2g} in training"))
                continue
            one = metric(key.removeprefix("dev/"))
            best_step, best = (max if one.higher_is_better else min)(values, key=lambda value: value[1])
            then, fallen = _at(losses, best_step), abs(best - last)
            if now is not None and then is not None and now < then and fallen >= FALLEN * 100 / one.scale:
                shown = f"{name}, {one.title} on dev from {one.shown(best)} at step {best_step} to {one.shown(last)} at {step}"
                found.append((-fallen, shown))
    found.sort(key=lambda one: one[0])
    return [
        f"Training rows are learnt by heart: {_first(found)}. Fewer epochs, train.metric_for_best_model or more rows help."
    ] if found else []  # fmt: skip


def _at(losses: Sequence[tuple[int, float]], step: int) -> float | None:
    """The last training loss up to a step."""
    return next((loss for at, loss in reversed(losses) if at <= step), None)


def _heard_and_read(study: StudyFolder, one: Metric) -> Iterable[tuple[str, Interval, Interval]]:
    """Points with their score on recordings and that of the same runs on transcripts."""
    read = {point.runs: point for curve in study.of_role("oracle_text") for point in curve.own}
    for curve in study.cells:
        for point in curve.own:
            other = read.get(point.runs)
            if other is not None and one.name in point.metrics and one.name in other.metrics:
                yield f"{curve.name} at {where(point)}", point.metrics[one.name], other.metrics[one.name]


def _lost_in_hearing(pairs: Iterable[tuple[str, Interval, Interval]], one: Metric) -> list[str]:
    """Where transcripts are read far better than recordings are heard, beyond both intervals."""
    found = []
    for name, heard, read in pairs:
        if None in (heard.value, heard.low, heard.high, read.value, read.low, read.high):
            continue
        gain = (read.value - heard.value) * (1 if one.higher_is_better else -1)  # type: ignore[operator]
        apart = read.low > heard.high or read.high < heard.low  # type: ignore[operator]
        if apart and gain >= FAR * 100 / one.scale:
            found.append((-gain, f"{name}, {one.shown(read.value)} read and {one.shown(heard.value)} heard"))
    found.sort(key=lambda pair: pair[0])
    return [
        f"Much is lost in hearing, by {one.title} on transcripts and on recordings: {_first(found)}. Speech and text are "
        "poorly aligned: train the connector as well, or make synthetic speech of the text."
    ] if found else []  # fmt: skip


def _first(found: Sequence[tuple[float, str]], number: int = 3) -> str:
    more = f"; and {len(found) - number} more" if len(found) > number else ""
    return "; ".join(text for _, text in found[:number]) + more
