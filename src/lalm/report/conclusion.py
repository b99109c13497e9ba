"""The top of the page: what to do, what text alone reaches, what more speech buys, in a few plain sentences."""

from __future__ import annotations

from dataclasses import dataclass

from lalm.report.more import MoreSpeech, gain_words
from lalm.report.rows import Curve, Point
from lalm.report.selectors import against_random
from lalm.report.standings import Difference, Side, Standings
from lalm.report.words import recordings, share


@dataclass(frozen=True)
class Tile:
    """A figure to remember."""

    title: str
    figure: str
    detail: str


@dataclass(frozen=True)
class Conclusion:
    """A sentence to act on, the sentences behind it, and figures."""

    headline: str
    sentences: list[str]
    tiles: list[Tile]


def conclude(standings: Standings, more: MoreSpeech) -> Conclusion:
    """What the study says. Nothing that was not compared is called better."""
    ranked = standings.with_speech()
    best = Side(ranked[0], _largest(ranked[0])) if ranked else None
    text = standings.text_only(best.curve if best is not None else None)
    selectors = against_random(standings)
    sentences = [
        *selectors[1:],
        *([_text(standings, text)] if text else []),
        *([_full(standings, best, text)] if best else []),
        *_schemes(standings, ranked),
        *([_cascade(standings, best)] if best else []),
        *_gain(standings, more),
    ]
    headline = selectors[0] if selectors else _headline(standings, best, text, ranked[1:])
    return Conclusion(headline, [s for s in sentences if s], _tiles(standings, best, text, more))


def _largest(curve: Curve) -> Point:
    return max(curve.own, key=lambda point: point.num_speech)


def _shown(standings: Standings, point: Point) -> str:
    metric, score = standings.metric, point.metrics.get(standings.metric.name)
    if score is None or score.value is None:
        return "no value"
    interval = f" ({metric.range(score)})" if score.low is not None else ""
    return f"{metric.shown(score.value)}{interval}"


def _difference(standings: Standings, found: Difference) -> str:
    metric = standings.metric
    return f"{metric.signed(found.value)}, 95 % interval {metric.signed(found.low)} to {metric.signed(found.high)}"


def _headline(standings: Standings, best: Side | None, text: Side | None, rivals: list[Curve]) -> str:
    if best is None:
        return f"Text alone reaches {_shown(standings, text.point)}." if text else "No scheme has a value."
    found = standings.between(best.point, text.point) if text else None
    name, number = best.curve.name, recordings(best.point.num_speech)
    if found is None or text is None:
        equals = [side for side in _at(best.point, rivals) if not _beats(standings, best, side)]
        if equals:
            names = _list([side.curve.name for side in (best, *equals)])
            values = _list([_shown(standings, side.point) for side in (best, *equals)])
            return f"Undecided between {names}: with {number}, they reach {values}."
        return f"Adapt with {name}: it reaches {_shown(standings, best.point)} with {number}."
    if found.verdict == "better":
        gain = standings.metric.points(found.value)
        return f"Use the recordings, with {name}: {number} make the model {gain} better than text alone{_few(standings, best, text)}."
    if found.verdict == "worse":
        return f"Train on text alone: with {number}, {name} is worse."
    return f"Undecided: {number} with {name} make no difference to text alone that this test set can show."


def _at(point: Point, curves: list[Curve]) -> list[Side]:
    """These curves where they have as many recordings as the point."""
    return [Side(curve, own) for curve in curves for own in curve.own if own.speech_share == point.speech_share]


def _beats(standings: Standings, side: Side, other: Side) -> bool:
    found = standings.between(side.point, other.point)
    return found is not None and found.verdict == "better"


def _few(standings: Standings, best: Side, text: Side) -> str:
    """What the largest budget below all recordings gives already, where that is decided."""
    fewer = [point for point in best.curve.own if 0 < point.num_speech < best.point.num_speech]
    found = standings.between(fewer[-1], text.point) if fewer else None
    if found is None or found.verdict != "better":
        return ""
    return f"; {fewer[-1].num_speech} of them already {standings.metric.points(found.value)}"


def _text(standings: Standings, text: Side) -> str:
    return f"Text alone, without a single recording, reaches {_shown(standings, text.point)} {standings.metric.title}."


def _full(standings: Standings, best: Side, text: Side | None) -> str:
    start = f"With {recordings(best.point.num_speech)}, {best.curve.name} reaches {_shown(standings, best.point)}"
    found = standings.between(best.point, text.point) if text else None
    return f"{start}: {_difference(standings, found)} against text alone." if found else f"{start}."


def _schemes(standings: Standings, ranked: list[Curve]) -> list[str]:
    """Which scheme, and how sure that is, against each rival at the shares that both were run at."""
    sentences = []
    rivals = ranked[1:]
    if any(curve.selector == "random" for curve in ranked):  # against_random has said which selector
        rivals = [curve for curve in rivals if curve.scheme != ranked[0].scheme]
    for rival in rivals:
        clear: dict[str, list[str]] = {"better": [], "worse": [], "undecided": []}
        theirs = {point.speech_share: point for point in rival.own}
        for point in ranked[0].own:
            if point.num_speech and point.speech_share in theirs:
                found = standings.between(point, theirs[point.speech_share])
                if found is not None:
                    clear[found.verdict].append(share(point.speech_share))
        best = ranked[0].name
        parts = [
            *([f"clearly better at {_list(clear['better'])}"] if clear["better"] else []),
            *([f"clearly worse at {_list(clear['worse'])}"] if clear["worse"] else []),
            *([f"not told apart at {_list(clear['undecided'])}"] if clear["undecided"] else []),
        ]
        if parts:
            sentences.append(f"Against {rival.name}, {best} is {', '.join(parts)} of the recordings.")
    return sentences


def _cascade(standings: Standings, best: Side) -> str:
    there = standings.at(best.point.speech_share, "cascade")
    if not there:
        return ""
    found = standings.between(best.point, there[0].point)
    start = f"The cascade (transcribe first, then read) reaches {_shown(standings, there[0].point)} with the same recordings"
    if found is None:
        return f"{start}."
    words = {"better": "is better than it", "worse": "is worse than it", "undecided": "cannot be told apart from it"}
    return f"{start}; {best.curve.name} {words[found.verdict]} ({_difference(standings, found)})."


def _gain(standings: Standings, more: MoreSpeech) -> list[str]:
    inside = [gain for gain in more.gains if not gain.beyond]
    beyond = [gain for gain in more.gains if gain.beyond]
    sentences = []
    if inside:
        first = next(gain for gain in inside if gain.start == inside[-1].start)
        sentences.append(f"With {recordings(first.start)} in hand, {gain_words(first, standings.metric)}.")
    if beyond:
        sentences.append(f"With all {beyond[0].start}, {gain_words(beyond[-1], standings.metric)} (extrapolated).")
    return sentences or ([more.reason] if more.reason else [])


def _tiles(standings: Standings, best: Side | None, text: Side | None, more: MoreSpeech) -> list[Tile]:
    metric = standings.metric
    chosen: list[tuple[str, Point]] = [("text alone", text.point)] if text else []
    if best is not None:
        below = [point for point in best.curve.own if 0 < point.num_speech < best.point.num_speech]
        chosen += [(f"{recordings(p.num_speech)}, {best.curve.name}", p) for p in [*below[-1:], best.point]]
    tiles = []
    for title, point in chosen:
        score = point.metrics.get(metric.name)
        if score is not None and score.value is not None:
            tiles.append(Tile(title, metric.shown(score.value), metric.range(score) if score.low is not None else ""))
    inside = [gain for gain in more.gains if not gain.beyond]
    if inside:
        gain = next(gain for gain in inside if gain.start == inside[-1].start)
        figure, _, detail = gain_words(gain, metric).partition(": ")[2].partition(", ")
        tiles.append(Tile(f"{gain.more} more, with {gain.start} in hand", figure, detail))
    return tiles


def _list(items: list[str]) -> str:
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
