"""What more speech would buy, in words, from the best scheme's points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lalm.report.gain import Curves, Gain, draw_curves, increments
from lalm.report.rows import Curve, Point
from lalm.report.standings import Standings
from lalm.report.tables import Entry, Group, Table
from lalm.report.words import NONE, Metric, capital, duration, recordings


@dataclass(frozen=True)
class MoreSpeech:
    """Gains of the best scheme, or the reason why nothing can be said."""

    curve: Curve | None
    curves: Curves | None
    gains: tuple[Gain, ...]
    reason: str | None


def more_speech(standings: Standings) -> MoreSpeech:
    """Curves through the points of the best scheme (text only at 0 included), and gains from its budgets."""
    candidates = standings.with_speech()
    if not candidates:
        return MoreSpeech(None, None, (), "No scheme was run with recordings.")
    best = candidates[0]
    metric = standings.metric
    points = [point for point in best.points if standings.value(point) is not None]
    numbers = [point.num_speech for point in points]
    measured = len(set(numbers))
    if measured < 3:
        reason = (
            f"{capital(best.name)} was measured at {measured} number{'s' if measured > 1 else ''} of recordings; "
            "at least three are needed to tell how the curve bends. Add shares to the study."
        )
        return MoreSpeech(best, None, (), reason)
    drawn = draw_curves(
        numbers,
        [standings.value(point) or 0.0 for point in points],
        _covariance(best, points, metric),
        metric.higher_is_better,
    )
    if drawn is None:
        reason = (
            f"The measured values of {best.name} do not grow with the recordings, so no gain can be read from them."
        )
        return MoreSpeech(best, None, (), reason)
    largest = max(numbers)
    starts = [number for number in numbers if 0 < number < largest][-3:]
    gains = [
        drawn.gain(start, more) for start in [*starts, largest] for more in increments(largest)
        if start == largest or start + more <= largest
    ]  # fmt: skip
    return MoreSpeech(best, drawn, tuple(gains), None)


def _covariance(curve: Curve, points: list[Point], metric: Metric) -> np.ndarray:
    """What the results say; else the points' own intervals, as if their errors were independent.

    No error is taken to be smaller than one utterance of the test set: where all answers are right, a bootstrap sees none.
    """
    scores = [point.metrics[metric.name] for point in points]
    if curve.covariance is not None and len(points) == len(curve.points):
        known = np.array(curve.covariance)
    else:
        halves = [(s.high - s.low) / 2 if s.high is not None and s.low is not None else 0.1 for s in scores]
        known = np.diag(np.square(halves) / 1.96**2)
    smallest = np.array([1 / max(score.n, 1) if score.n else 0.0 for score in scores])
    return known + np.diag(np.maximum(0.0, smallest**2 - np.diag(known)))


def gain_words(gain: Gain, metric: Metric) -> str:
    """`20 more recordings: +4 points, between 1 and 7`."""
    scale, unit = (100.0, "points") if metric.scale == 100 else (1.0, metric.unit)
    largest = max(abs(scale * value) for value in (gain.value, gain.low, gain.high))
    if scale == 100 and largest < 0.5:
        return f"{gain.more} more recordings: next to nothing, less than half a point"
    digits = 0 if scale == 100 and largest >= 3 else 1 if scale == 100 else 2

    def shown(value: float, sign: str = "") -> str:
        text = f"{scale * value:{sign}.{digits}f}"
        return (f"{0:.{digits}f}" if float(text) == 0 else text).replace("-", "−")

    low, high = sorted((gain.low, gain.high), key=abs)
    unit = "point" if unit == "points" and shown(gain.value, "+") in ("+1", "−1") else unit
    return f"{gain.more} more recordings: {shown(gain.value, '+')} {unit}, between {shown(low)} and {shown(high)}"


def effort(standings: Standings, more: int) -> str | None:
    """How much speech so many recordings are, from the pool's mean length: `about 1.3 min of speech`."""
    pool = standings.study.results.pool
    number, seconds = pool.get("num_speech"), pool.get("speech_s")
    if not number or not seconds:
        return None
    return f"about {duration(more * seconds / number)} of speech"


def gain_table(standings: Standings, more: MoreSpeech) -> Table | None:
    """Gains in words: a row a number of recordings in hand, a column a number of further ones; None without gains."""
    steps = sorted({gain.more for gain in more.gains})
    rows = []
    for start in dict.fromkeys(gain.start for gain in more.gains):
        found = {gain.more: gain for gain in more.gains if gain.start == start}
        beyond = any(gain.beyond for gain in found.values())
        words = [gain_words(found[s], standings.metric).partition(": ")[2] if s in found else NONE for s in steps]
        rows.append([Entry(recordings(start) + (", extrapolated" if beyond else "")), *map(Entry, words)])
    header = [Entry("with"), *(Entry(f"{step} more", effort(standings, step) or "") for step in steps)]
    caption = f"Gain in {standings.metric.title} from more recordings, and the range that holds with 95 %"
    return Table(caption, header, [Group("", rows)], words=True) if rows else None
