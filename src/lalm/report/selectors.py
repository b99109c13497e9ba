"""Which selectors beat a random draw of as many recordings, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lalm.report.rows import Curve, Point
from lalm.report.standings import Difference, Standings
from lalm.report.words import where

_VERDICTS = {
    "better": "{} beats random",
    "worse": "{} is worse than random",
    "undecided": "{} not told apart from random",
}


def against_random(standings: Standings) -> list[str]:
    """The answer in a sentence, then one for each scheme and share with the differences; empty without such comparisons."""
    found = list(_places(standings))
    if not found:
        return []
    seeds = max(len(point.seeds) for _, point, _ in found)
    averaged = f" of {seeds} seeds averaged, taken as they are" if seeds > 1 else ", of one seed"
    winners = sorted({curve.selector or "" for _, _, rivals in found for curve, d in rivals if d.verdict == "better"})
    several = len({curve.scheme for curve, _, _ in found}) > 1
    if winners:
        answer = f"Better than a random draw of as many recordings: {_list(winners)}"
        answer += "." if len(found) == 1 else ", in one place at least."
    else:
        answer = "No selector beats a random draw of as many recordings, as far as this test set can tell."
    return [
        answer,
        *(_sentence(standings, *place, several) for place in found),
        f"Differences to random are{averaged}; their intervals say what other test utterances would change.",
    ]


def _places(standings: Standings) -> Iterator[tuple[Curve, Point, list[tuple[Curve, Difference]]]]:
    """Each point of a curve drawn at random, with the curves that differ in the selector alone and their differences to it."""
    for draw in standings.study.cells:
        for point in draw.own if draw.selector == "random" else ():
            rivals = [
                (side.curve, difference)
                for side in standings.at(point.speech_share)
                if side.curve.scheme == draw.scheme and side.curve.selector not in (None, "random")
                if (difference := standings.between(side.point, point)) is not None
            ]
            if rivals:
                yield draw, point, rivals


def _sentence(
    standings: Standings, draw: Curve, point: Point, rivals: Sequence[tuple[Curve, Difference]], several: bool
) -> str:
    metric = standings.metric
    parts = []
    for curve, d in rivals:
        signed = f"{metric.signed(d.value)}, 95 % interval {metric.signed(d.low)} to {metric.signed(d.high)}"
        parts.append(f"{_VERDICTS[d.verdict].format(curve.selector)} ({signed})")
    scheme = f", {(draw.scheme or '').replace('_', ' ')}" if several else ""
    return f"At {where(point)}{scheme}, {metric.title}: {'; '.join(parts)}."


def _list(items: Sequence[str]) -> str:
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
