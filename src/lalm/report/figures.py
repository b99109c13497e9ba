"""Figures as inline SVG: text as paths (they look the same everywhere), colours that the colour-blind can tell apart.

The axis of recordings is logarithmic above the smallest budget and starts at 0 (log(1 + n / smallest)), so that 0, 2, 5,
10 and 100 % are all legible.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from lalm.report.folder import StudyFolder
from lalm.report.gain import Curves
from lalm.report.rows import Curve, Point
from lalm.report.words import Metric, metric, share

# Okabe and Ito's palette, without its yellow; markers differ too, for print without colour
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7A5195")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_CASCADE, _ORACLE, _INK, GRID = "#333333", "#888888", "#222222", "#E3E6EA"
STYLE: dict[Any, Any] = {
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8A9099",
    "axes.labelcolor": _INK,
    "axes.axisbelow": True,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
    "figure.facecolor": "white",
}


@dataclass(frozen=True)
class _Axis:
    """Places of numbers of recordings on the axis."""

    smallest: int

    def __call__(self, num_speech: Any) -> np.ndarray:
        return np.log1p(np.asarray(num_speech, dtype=float) / self.smallest)


def _axis(study: StudyFolder) -> _Axis:
    return _Axis(min((number for number in _numbers(study) if number > 0), default=1))


def _numbers(study: StudyFolder) -> dict[int, float]:
    """All numbers of recordings, rising, and the share that each is at (the largest, of several)."""
    return dict(sorted((number, value) for value, numbers in study.shares for number in numbers))


def colours(study: StudyFolder) -> dict[str, str]:
    """The colour of each scheme's curve, by its label."""
    return {curve.label: COLOURS[i % len(COLOURS)] for i, curve in enumerate(study.cells)}


def learning_curves(study: StudyFolder) -> str:
    """The primary metric against the number of recordings: schemes with intervals, references dashed, seeds as dots."""
    one = metric(study.primary, study.results.metrics)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.0, 4.1), layout="constrained")
        axes = figure.add_subplot()
        _draw(axes, study, one, seeds=True)
        axes.set_ylabel(f"{one.title}, {one.unit}")
        axes.set_xlabel("recordings used (share of the pool)")
        columns = min(3, len(axes.get_legend_handles_labels()[0]))
        figure.legend(loc="outside upper left", ncols=columns, fontsize=9, handlelength=2.6, columnspacing=1.4)
        return svg(figure, "curves", f"{one.title} against the number of recordings, a line a scheme")


def other_metrics(study: StudyFolder) -> str | None:
    """Small panels of the metrics that are not the primary one; None if there are none."""
    names = [n for n in dict.fromkeys(n for c in study.results.cells for n in c.metrics) if n != study.primary]
    shown = [metric(name, study.results.metrics) for name in names if _has_values(study, name)]
    if not shown:
        return None
    columns = min(2, len(shown))
    rows = -(-len(shown) // columns)
    with matplotlib.rc_context({**STYLE, "font.size": 8.5}):
        figure = Figure(figsize=(6.0, 2.1 * rows), layout="constrained")
        for index, one in enumerate(shown):
            axes = figure.add_subplot(rows, columns, index + 1)
            _draw(axes, study, one, seeds=False)
            better = "" if one.higher_is_better else "\nlower is better"
            axes.set_title(f"{one.title}, {one.unit}{better}", fontsize=8.5, loc="left")
        return svg(figure, "others", "the other metrics against the number of recordings")


def _has_values(study: StudyFolder, name: str) -> bool:
    return any(cell.metrics[name].value is not None for cell in study.results.cells if name in cell.metrics)


def _draw(axes: Axes, study: StudyFolder, one: Metric, seeds: bool) -> None:
    place, palette = _axis(study), colours(study)
    width = float(place(max(_numbers(study))))
    step = 0.012 * width  # curves stand beside each other, so that intervals do not hide each other
    count = len(study.cells)
    for index, curve in enumerate(study.cells):
        shift = (index - (count - 1) / 2) * step if curve.points[-1].num_speech else 0.0
        _draw_curve(axes, curve, one, palette[curve.label], MARKERS[index % len(MARKERS)], place, shift, step, seeds)
    for curve in study.of_role("cascade"):
        _draw_reference(axes, curve, one, _CASCADE, "--", place)
    best = _oracle(study)
    if best is not None:
        _draw_reference(axes, best, one, _ORACLE, "-.", place)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    _ticks(axes, study, place, small=not seeds)
    if one.scale == 100:
        low, high = axes.get_ylim()
        room = max(0.0, 10 - (high - low)) / 2  # ten points at least, or noise looks like a trend
        axes.set_ylim(max(-1.5, low - room), max(min(101.5, high + room), high))


def _oracle(study: StudyFolder) -> Curve | None:
    """One oracle line is enough: that of the scheme measured at most shares."""
    return max(study.of_role("oracle_text"), key=lambda curve: len(curve.points), default=None)


def _scored(points: Sequence[Point], one: Metric) -> list[tuple[Point, float, float, float]]:
    """Points with value, low and high in the metric's unit."""
    found = []
    for point in points:
        score = point.metrics.get(one.name)
        if score is not None and score.value is not None:
            low = score.value if score.low is None else score.low
            high = score.value if score.high is None else score.high
            found.append((point, one.scale * score.value, one.scale * low, one.scale * high))
    return found


def _draw_curve(
    axes: Axes,
    curve: Curve,
    one: Metric,
    colour: str,
    marker: str,
    place: _Axis,
    shift: float,
    step: float,
    seeds: bool,
) -> None:
    scored = _scored(curve.points, one)
    if not scored:
        return
    x = np.array([float(place(point.num_speech)) + (0 if point.borrowed else shift) for point, *_ in scored])
    value, low, high = (np.array([row[i] for row in scored]) for i in (1, 2, 3))
    own = np.array([not point.borrowed for point, *_ in scored])
    axes.plot(x, value, color=colour, linewidth=1.8, zorder=3)
    errors = np.abs(np.stack([value - low, high - value]))[:, own]
    axes.errorbar(
        x[own], value[own], errors, color=colour, fmt=marker, markersize=5.5, elinewidth=1.2, capsize=2.5, zorder=4,
        label=curve.name,
    )  # fmt: skip
    if len(scored) == 1 and scored[0][0].num_speech == 0:
        axes.axhline(value[0], color=colour, linewidth=1.0, linestyle=":", zorder=2)
    for position, (point, *_) in zip(x, scored, strict=True) if seeds else ():
        found = [one.scale * v for v in point.seed_values.get(one.name, ()) if v is not None]
        if len(found) > 1 and not point.borrowed:
            beside = position + 1.7 * step
            axes.plot(
                [beside] * len(found), found, "o", color=colour, markersize=2.6, markerfacecolor="white", zorder=5
            )


def _draw_reference(axes: Axes, curve: Curve, one: Metric, colour: str, dashes: str, place: _Axis) -> None:
    scored = _scored(curve.points, one)
    if not scored:
        return
    x = place([point.num_speech for point, *_ in scored])
    value, low, high = (np.array([row[i] for row in scored]) for i in (1, 2, 3))
    label = "cascade" if curve.role == "cascade" else "oracle text (transcripts read)"
    if len(x) == 1:
        axes.axhline(value[0], color=colour, linestyle=dashes, linewidth=1.4, label=label, zorder=2)
        return
    axes.plot(x, value, color=colour, linestyle=dashes, linewidth=1.4, label=label, zorder=2)
    axes.fill_between(x, low, high, color=colour, alpha=0.10, linewidth=0, zorder=1)


def _ticks(axes: Axes, study: StudyFolder, place: _Axis, small: bool = False) -> None:
    """A tick a number of recordings, named by it and its share (by number alone in small panels); names that would collide
    with their left neighbour are left out."""
    numbers = _numbers(study)
    places = [float(place(number)) for number in numbers]
    labels, last, room = [], -np.inf, (0.1 if small else 0.075) * (places[-1] - places[0])
    for (number, value), position in zip(numbers.items(), places, strict=True):
        free = position - last >= room
        labels.append((f"{number}" if small else f"{number}\n{share(value)}") if free else "")
        last = position if free else last
    axes.set_xticks(places, labels)
    axes.set_xlim(places[0] - 0.05 * (places[-1] or 1), places[-1] + 0.05 * (places[-1] or 1))


def gain_curve(study: StudyFolder, curve: Curve, curves: Curves) -> str:
    """The drawn curves' middle and 95 % band with the measured points; beyond the last of them it is dashed."""
    one, place = metric(study.primary, study.results.metrics), _axis(study)
    largest = curves.largest
    inside = np.expm1(np.linspace(0, float(place(largest)), 80)) * place.smallest
    beyond = np.linspace(largest, largest * 1.5, 20)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.0, 3.2), layout="constrained")
        axes = figure.add_subplot()
        for numbers, style, label in (
            (inside, "-", "curves that fit: middle and 95 % band"),
            (beyond, "--", "beyond what was measured"),
        ):
            low, middle, high = one.scale * curves.band(numbers)
            axes.plot(place(numbers), middle, color=COLOURS[0], linestyle=style, linewidth=1.8, label=label)
            axes.fill_between(
                place(numbers), low, high, color=COLOURS[0], alpha=0.15 if style == "-" else 0.07, linewidth=0
            )
        scored = _scored(curve.points, one)
        value, low, high = (np.array([row[i] for row in scored]) for i in (1, 2, 3))
        axes.errorbar(
            place([point.num_speech for point, *_ in scored]), value, np.abs(np.stack([value - low, high - value])),
            fmt="o", color=_INK, markersize=5, elinewidth=1.2, capsize=2.5, label=f"measured: {curve.name}",
        )  # fmt: skip
        axes.grid(axis="y", color=GRID, linewidth=0.8)
        _ticks(axes, study, place)
        axes.set_xlim(right=float(place(largest * 1.5)) * 1.02)
        axes.set_ylabel(f"{one.title}, {one.unit}")
        axes.set_xlabel("recordings used (share of the pool)")
        axes.legend(fontsize=9, loc="best")
        return svg(figure, "gain", f"{one.title} that more recordings would bring, with its uncertainty")


def loss_curve(rows: Sequence[dict[str, Any]], name: str, title: str) -> str | None:
    """Loss by step from a run's log: all rows, speech and text apart, and tasks if there are several; stages are set off.

    None without losses.
    """
    lossy = [row for row in rows if "loss" in row]
    if not lossy:
        return None
    tasks = sorted({key for row in lossy for key in row if key.startswith("loss/task/")})
    shown = [("loss", "all rows", "-"), ("loss/text", "text", "-"), ("loss/speech", "speech", "-")]
    shown += [(key, key.removeprefix("loss/task/").replace("_", " "), "--") for key in tasks if len(tasks) > 1]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.0, 2.8), layout="constrained")
        axes = figure.add_subplot()
        for index, (key, label, dashes) in enumerate(shown):
            found = [(row["step"], row[key]) for row in lossy if key in row]
            if found:
                x, y = zip(*found, strict=True)
                axes.plot(
                    x, y, dashes, color=COLOURS[index % len(COLOURS)], linewidth=1.6, label=label,
                    marker=MARKERS[index % len(MARKERS)], markersize=3,
                )  # fmt: skip
        for previous, row in pairwise(lossy):
            if row["stage"] != previous["stage"]:
                axes.axvline(previous["step"], color="#8A9099", linewidth=0.8, linestyle=":")
                axes.annotate(
                    f" {row['stage']}",
                    (previous["step"], 0.97),
                    xycoords=("data", "axes fraction"),
                    fontsize=9,
                    va="top",
                )
        axes.set_yscale("log")
        for ticks in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            ticks(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.grid(axis="y", color=GRID, linewidth=0.8)
        axes.set_xlabel("optimizer step")
        axes.set_ylabel("loss a token (log scale)")
        axes.legend(fontsize=9)
        return svg(figure, name, f"training loss of {title}")


def svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an `<svg>` element for an HTML page: no prolog, no metadata, no outside names, ids of its own."""
    stream = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(?:xlink:)?href="#', f'href="#{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    viewbox = re.search(r'viewBox="[^"]*"', text)
    assert viewbox is not None
    opening = f'<svg class="figure" role="img" aria-label="{escape(description)}" {viewbox.group()}>'
    return re.sub(r"\n\s*\n+", "\n", opening + text[text.index(">") + 1 :])
