"""Figures of the data page: lengths of recordings and sentences, levels, intents; in the style of the other pages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from lalm.data.findings import Findings
from lalm.report.figures import COLOURS, GRID, STYLE, svg

_BINS = 40
_ALL = "#8A9099"
_LABELS = 20  # intents and slot types that are drawn; the page says how many there are
_LONGEST = 30  # characters of a name


def distributions(found: Findings) -> str | None:
    """Histograms, one beside the other: seconds of recordings, words of sentences, peak levels. None if all are empty."""
    drawn: list[tuple[str, dict[str, Counter[float]]]] = []
    by_split = found.splits.items()
    seconds = {name: Counter(one.durations_s) for name, one in by_split if one.durations_s}
    words: dict[str, Counter[float]] = {
        name: Counter({float(k): n for k, n in one.words.items()}) for name, one in by_split if one.words
    }
    peaks: dict[str, Counter[float]] = (
        {"all splits": Counter({float(k): n for k, n in found.peaks_db.items()})} if found.peaks_db else {}
    )
    for title, values in (
        ("length of recordings, s", seconds),
        ("words in a sentence", words),
        ("peak level, dB", peaks),
    ):
        if values:
            drawn.append((title, values))
    if not drawn:
        return None
    with matplotlib.rc_context({**STYLE, "font.size": 8.5}):
        figure = Figure(figsize=(7.4, 2.3), layout="constrained")
        for axes, (title, values) in zip(np.atleast_1d(figure.subplots(1, len(drawn))), drawn, strict=True):
            _histogram(axes, values)
            axes.set_title(title, fontsize=8.5, loc="left")
        figure.axes[0].set_ylabel("rows")
        _legend(figure, found)
        return svg(figure, "distributions", "how long recordings and sentences are")


def _histogram(axes: Axes, values: Mapping[str, Counter[float]]) -> None:
    """Stacked by split; what is beyond the 99.5th percentile, or three times the 90th, stands in the last bar."""
    total: Counter[float] = Counter()
    for one in values.values():
        total.update(one)
    ordered = np.array(sorted(total))
    share = np.cumsum([total[value] for value in ordered]) / sum(total.values())

    def below(part: float) -> float:
        return float(ordered[min(int(np.searchsorted(share, part)), len(ordered) - 1)])

    low, high = float(ordered[0]), below(0.995)
    if low >= 0:
        high = min(high, 3 * below(0.9))
    whole = all(value == int(value) for value in total)
    step = max(1.0, np.ceil((high - low + 1) / _BINS)) if whole else max((high - low) / _BINS, 0.1)
    edges = np.arange(low - (step / 2 if whole else 0), high + step, step)
    edges = edges if len(edges) > 1 else np.array([low - step, low + step])
    names = list(values)
    axes.hist(
        [np.minimum(np.array(list(values[name])), edges[-1] - step / 4) for name in names],
        bins=edges.tolist(),
        weights=[np.array(list(values[name].values()), dtype=float) for name in names],
        stacked=True,
        color=[_colour(name) for name in names],
        label=names,
    )
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=whole))


def _legend(figure: Figure, found: Findings) -> None:
    """The colours of the splits, above the figure, where there are several."""
    if len(found.splits) > 1:
        patches = [Patch(color=_colour(name), label=name) for name in found.splits]
        figure.legend(handles=patches, loc="outside upper right", ncols=3, fontsize=8.5, handlelength=1.0)


def _colour(name: str) -> str:
    order = ("train", "dev", "test")
    return COLOURS[order.index(name)] if name in order else _ALL


def labels(found: Findings) -> str | None:
    """Intents and slot types with the most rows, a bar each, splits side by side in it. None if there are none."""
    kinds = [("intents", "intents"), ("slot types", "slot_types")]
    drawn = [(title, {n: getattr(one, kind) for n, one in found.splits.items()}) for title, kind in kinds]
    drawn = [(title, values) for title, values in drawn if any(values.values())]
    if not drawn:
        return None
    longest = max(min(_LABELS, len(_names(values))) for _, values in drawn)
    with matplotlib.rc_context({**STYLE, "font.size": 8.5}):
        figure = Figure(figsize=(7.4, 0.7 + 0.19 * longest), layout="constrained")
        for axes, (title, values) in zip(np.atleast_1d(figure.subplots(1, len(drawn))), drawn, strict=True):
            _bars(axes, values, longest)
            number = len(_names(values))
            axes.set_title(
                f"{title}: {f'the first {_LABELS} of ' if number > _LABELS else ''}{number}", fontsize=8.5, loc="left"
            )
        _legend(figure, found)
        return svg(figure, "labels", "how often intents and slot types stand in rows")


def _names(values: Mapping[str, Counter[str]]) -> list[str]:
    total: Counter[str] = Counter()
    for one in values.values():
        total.update(one)
    return [name for name, _ in total.most_common()]


def _bars(axes: Axes, values: Mapping[str, Counter[str]], longest: int) -> None:
    names = _names(values)[:_LABELS]
    places = np.arange(len(names))
    left = np.zeros(len(names))
    for split, one in values.items():
        width = np.array([one[name] for name in names], dtype=float)
        if width.any():
            axes.barh(places, width, left=left, height=0.72, color=_colour(split), label=split)
            left += width
    shown = [name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…" for name in names]
    axes.set_yticks(places, shown)
    axes.set_ylim(longest - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
