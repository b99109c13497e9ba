"""Accuracy under noise: a line a run, and the mean over the levels of noise beside what others published."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from lalm import plugins
from lalm.errors import DataError
from lalm.report.figures import COLOURS, GRID, MARKERS, STYLE, svg
from lalm.report.folder import StudyFolder
from lalm.report.rows import Interval
from lalm.report.runs import RunFolder
from lalm.report.tables import Entry, Group, Table
from lalm.report.words import NONE, Metric, metric, recordings
from lalm.rundir import read_json

_OTHERS = "#777777"


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class Difference(_Row):
    """A paired difference with its 95 % interval; None where nothing could be counted."""

    difference: FiniteFloat | None
    low: FiniteFloat | None
    high: FiniteFloat | None
    verdict: Literal["better", "worse", "undecided"]


class Score(Interval):
    """A metric at a level of noise, over the levels, or clean."""

    difference_to_clean: Difference | None = None


class Level(_Row):
    """Scores at one ratio of speech to noise; without one: clean, or the mean over the levels."""

    snr_db: FiniteFloat | None = None
    metrics: dict[str, Score]


class Published(_Row):
    """What others reached, as the corpus states it."""

    metric: str
    values: dict[str, FiniteFloat]
    snr_db: tuple[FiniteFloat, FiniteFloat]
    source: str
    differs: str


class Robustness(_Row):
    """`scores/<set>-robustness.json`."""

    set: str
    num: int
    noise: dict[str, Any]
    clean: Level
    levels: tuple[Level, ...] = Field(min_length=1)
    mean: Level
    published: Published | None = None


@dataclass(frozen=True)
class UnderNoise:
    """Runs on one set in one metric, by name; what others published in it."""

    set_name: str
    metric: Metric
    runs: dict[str, Robustness]
    published: Published | None

    @property
    def about(self) -> str:
        """What was answered, with which noise and how much of it."""
        found = (
            f"{one.num} recordings, noise from {one.noise.get('folder', '?')} at "
            + ", ".join(f"{level.snr_db:g}" for level in one.levels if level.snr_db is not None)
            + " dB"
            for one in self.runs.values()
        )
        return "; ".join(dict.fromkeys(found))


def study_under_noise(study: StudyFolder) -> UnderNoise | None:
    """The runs of a study whose test set was answered with noise; None if there are none."""
    found = {}
    for name, run in named_runs(study):
        path = study.inside(f"{run}/scores/test-robustness.json")
        if path is not None:
            found[name] = read_robustness(path)
    one = _under_noise("test", found, study.primary, study) if found else None
    return one if one is not None and one.runs else None  # none if they were scored in other metrics alone


def named_runs(study: StudyFolder) -> Iterator[tuple[str, str]]:
    """Every run of the study with a name for a person: scheme, recordings, and the seed where there are several."""
    for curve in (*study.cells, *study.of_role("cascade")):
        for point in curve.own:
            for run, seed in zip(point.runs, point.seeds, strict=True):
                yield f"{curve.name}, {recordings(point.num_speech)}" + (f", seed {seed}" * (len(point.runs) > 1)), run


def runs_under_noise(runs: Sequence[RunFolder]) -> list[UnderNoise]:
    """Runs by themselves: one for each set that was answered with noise."""
    by_set: dict[str, dict[str, Robustness]] = {}
    for run in runs:
        for path in sorted((run.root / "scores").glob("*-robustness.json")):
            one = read_robustness(path)
            by_set.setdefault(one.set, {})[run.name] = one
    usual = {name: next(iter(next(iter(found.values())).clean.metrics)) for name, found in by_set.items()}
    return [_under_noise(name, found, usual[name]) for name, found in by_set.items()]


def read_robustness(path: Path) -> Robustness:
    """The summary in a file. Raises UserError if it is none."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise DataError(f"{path}: is no summary of answers under noise: an object is needed.")
    return plugins.parse(Robustness, value, str(path))


def _under_noise(
    set_name: str, runs: dict[str, Robustness], usual: str, study: StudyFolder | None = None
) -> UnderNoise:
    """In the metric that others published, where it was scored, since the figure is for comparing; else the usual one."""
    stated = [one.published for one in runs.values() if one.published is not None]
    published = next((p for p in stated if any(p.metric in one.clean.metrics for one in runs.values())), None)
    name = published.metric if published is not None else usual
    kept = {run: one for run, one in runs.items() if name in one.clean.metrics}
    return UnderNoise(set_name, metric(name, study.results.metrics if study else None), kept, published)


def noise_table(found: UnderNoise) -> Table:
    """A row a run: clean, each level, their mean and what that is below clean; then the published means."""
    one = found.metric
    levels = sorted({level.snr_db for run in found.runs.values() for level in run.levels if level.snr_db is not None})
    header = [Entry("run"), Entry("clean"), *(Entry(f"{level:g} dB") for level in reversed(levels))]
    rows = []
    for name, run in found.runs.items():
        by_level = {level.snr_db: level.metrics.get(one.name) for level in run.levels}
        scores = [run.clean.metrics.get(one.name), *(by_level.get(level) for level in reversed(levels))]
        mean = run.mean.metrics.get(one.name)
        lost = mean.difference_to_clean if mean is not None else None
        entries = [score_entry(score, one) for score in (*scores, mean)]
        interval = f"{one.signed(lost.low)} to {one.signed(lost.high)}" if lost and lost.low is not None else ""
        rows.append([Entry(name), *entries, Entry(one.signed(lost.difference) if lost else NONE, interval)])
    groups = [Group("", rows)]
    if found.published is not None:
        low, high = found.published.snr_db
        empty = [Entry(NONE)] * (len(levels) + 1)
        groups.append(
            Group(
                f"Published by others, mean over {low:g} to {high:g} dB",
                [[Entry(n), *empty, Entry(one.number(v)), Entry(NONE)] for n, v in found.published.values.items()],
            )
        )
    caption = f"{one.title}, {one.unit}, on {found.set_name} with noise".capitalize()
    return Table(caption, [*header, Entry("mean of the levels"), Entry("mean minus clean")], groups)


def score_entry(score: Interval | None, one: Metric) -> Entry:
    """A value with its interval below it."""
    if score is None or score.value is None:
        return Entry(NONE)
    return Entry(one.number(score.value), one.range(score) if score.low is not None else "")


def noise_figure(found: UnderNoise, name: str = "noise") -> str:
    """The metric against the ratio of speech to noise, a line a run; beside it the means and what others published."""
    one = found.metric
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.4 if found.published else 6.0, 3.6), layout="constrained")
        if found.published is not None:
            axes, beside = figure.subplots(1, 2, width_ratios=[3, 2])
            _draw_means(beside, found, found.published)
        else:
            axes = figure.add_subplot()
        _draw_levels(axes, found)
        axes.set_ylabel(f"{one.title}, {one.unit}")
        axes.set_xlabel("speech over noise, dB")
        columns = min(2, len(found.runs))
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=columns, fontsize=9)
        return svg(figure, name, f"{one.title} against the ratio of speech to noise")


def _draw_levels(axes: Axes, found: UnderNoise) -> None:
    """Louder noise to the left, no noise at the right end, set off by a dotted line."""
    levels = sorted({level.snr_db for run in found.runs.values() for level in run.levels if level.snr_db is not None})
    step = (levels[-1] - levels[0]) / max(1, len(levels) - 1) or 6.0
    end = levels[-1] + step
    for index, (name, run) in enumerate(found.runs.items()):
        colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
        shift = (index - (len(found.runs) - 1) / 2) * step * 0.05  # so that intervals do not hide each other
        places = [(end if level.snr_db is None else level.snr_db, level) for level in (*run.levels, run.clean)]
        points = [(x + shift, level.metrics.get(found.metric.name)) for x, level in sorted(places, key=lambda p: p[0])]
        drawn = [(x, score) for x, score in points if score is not None and score.value is not None]
        x, value, errors = _with_errors(drawn, found.metric)
        axes.errorbar(
            x, value, errors, color=colour, fmt=marker, markersize=5, elinewidth=1.2, capsize=2.5, zorder=4, label=name
        )
        axes.plot(x[:-1], value[:-1], color=colour, linewidth=1.8, zorder=3)
        axes.plot(x[-2:], value[-2:], color=colour, linewidth=1.0, linestyle=":", zorder=3)
    axes.set_xticks([*levels, end], [*(f"{level:g}" for level in levels), "clean"])
    axes.grid(axis="y", color=GRID, linewidth=0.8)


def _draw_means(axes: Axes, found: UnderNoise, published: Published) -> None:
    """One dot a run, with its interval, and one (hollow) for each published figure, the highest on top."""
    one = found.metric
    rows: list[tuple[str, Interval, str | None]] = [
        (name, score, COLOURS[index % len(COLOURS)])
        for index, (name, run) in enumerate(found.runs.items())
        if (score := run.mean.metrics.get(one.name)) is not None and score.value is not None
    ]
    rows += [(name, Interval(value=value), None) for name, value in published.values.items()]
    rows.sort(key=lambda row: row[1].value or 0.0, reverse=not one.higher_is_better)
    for place, (_, mean, colour) in enumerate(rows):
        _, value, errors = _with_errors([(place, mean)], one)
        face = colour or "white"
        axes.errorbar(
            value,
            [place],
            xerr=errors,
            fmt="o",
            color=colour or _OTHERS,
            markerfacecolor=face,
            markersize=5,
            capsize=2.5,
        )
    axes.set_yticks(range(len(rows)), [name for name, *_ in rows], fontsize=8.5)
    axes.set_xlabel(f"mean over noise, {one.unit}")
    axes.grid(axis="x", color=GRID, linewidth=0.8)


def _with_errors(points: Iterable[tuple[float, Interval]], one: Metric) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places [points], values [points] and distances to the ends of their intervals [2, points], in the metric's unit."""
    rows = []
    for x, score in points:
        value = score.value if score.value is not None else np.nan
        low, high = (value if end is None else end for end in (score.low, score.high))
        rows.append((x, one.scale * value, one.scale * (value - low), one.scale * (high - value)))
    columns = np.array(rows, dtype=float).reshape(-1, 4).T
    return columns[0], columns[1], np.abs(columns[2:])
