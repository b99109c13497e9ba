"""Languages in a study: what was trained on, what each test language reaches, and what recordings of one are worth in another.

From the results file alone (`by_language`). What recordings in the language that is tested are worth is read from the curve
of the other language's recordings, the same text and synthetic speech given: straight lines between its measured points, raised
where they fall, so that more recordings are never worth less. On both sides the best way of training at each number counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lalm.languages import name
from lalm.report.folder import StudyFolder
from lalm.report.rows import LanguagePoint
from lalm.report.tables import Entry, Group, Table
from lalm.report.words import NONE, Metric, metric, recordings, share

Texts = tuple[tuple[str, int, int], ...]  # language, rows of text, synthetic recordings


@dataclass(frozen=True)
class Line:
    """One way of training: its name, what it was trained on in words, and its points by (language, modality)."""

    label: str
    trained: str
    cells: Mapping[tuple[str, str], LanguagePoint]


@dataclass(frozen=True)
class Worth:
    """Recordings in the tested language, and how many of the other one reach as much; None: more than `measured` ones."""

    language: str
    num: int
    other: str
    equal: int | None
    low: int | None
    high: int | None
    measured: int
    value: float


def lines(study: StudyFolder) -> list[Line]:
    """A line a way of training, in the order of the results; none where all is in one language."""
    found: dict[tuple[str, ...], dict[tuple[str, str], LanguagePoint]] = {}
    for point in study.results.by_language.points:
        found.setdefault(point.runs, {})[point.language, point.modality] = point
    names = [next(iter(cells.values())) for cells in found.values()]
    several = {one.title for one in names if sum(other.title == one.title for other in names) > 1}
    return [
        Line(
            one.title + (f", {share(one.speech_share)} speech" if one.title in several else ""),
            trained_words(one),
            cells,
        )
        for one, cells in zip(names, found.values(), strict=True)
    ]


def trained_words(point: LanguagePoint) -> str:
    """`English: 800 texts, 80 recordings; French: 115 texts`."""
    parts = []
    for language, numbers in point.trained_on.items():
        said = [
            f"{numbers.get(key, 0)} {word}"
            for key, word in (("num_text", "texts"), ("num_speech", "recordings"), ("num_synthetic", "synthetic"))
            if numbers.get(key, 0)
        ]
        parts.append(f"{name(language)}: {', '.join(said) or 'nothing'}")
    return "; ".join(parts) or "not stated"


def columns(found: Sequence[Line]) -> list[tuple[str, str]]:
    """(language, modality) of all points, what is heard first."""
    keys = {key for line in found for key in line.cells}
    return sorted(keys, key=lambda key: (key[1] != "speech", key[0]))


def language_table(study: StudyFolder) -> Table | None:
    """Train by test: a row a way of training, a column a test language and modality; None where all is in one language."""
    found = lines(study)
    if not found:
        return None
    one = metric(study.primary, study.results.metrics)
    keys = columns(found)
    rows = []
    for line in found:
        entries = [_entry(line.cells.get(key), one) for key in keys]
        rows.append([Entry(line.label, line.trained), *entries])
    header = [Entry("trained on"), *(Entry(f"{name(language)}, {_HOW[modality]}") for language, modality in keys)]
    return Table(f"{one.title}, {one.unit}, by language".capitalize(), header, [Group("", rows)])


_HOW = {"speech": "heard", "text": "read"}


def _entry(point: LanguagePoint | None, one: Metric) -> Entry:
    if point is None or point.value is None:
        return Entry(NONE)
    interval = "" if point.low is None else f"{one.number(point.low)} to {one.number(point.high)}"
    return Entry(one.number(point.value), interval)


def language_comparison_table(study: StudyFolder) -> Table | None:
    """The paired comparisons in each test language by itself; None where the test set has one language."""
    groups: dict[str, list[list[Entry]]] = {}
    for found in study.results.by_language.comparisons:
        one = metric(found.metric, study.results.metrics)
        interval = NONE if found.low is None else f"{one.signed(found.low)} to {one.signed(found.high)}"
        title = f"{found.a.replace('_', ' ')} against {found.b.replace('_', ' ')}"
        row = [Entry(title), Entry(one.signed(found.difference)), Entry(interval), Entry(found.verdict)]
        groups.setdefault(found.language, []).append(row)
    header = [Entry("first against second"), Entry("difference"), Entry("95 % interval"), Entry("the first is")]
    shown = [Group(name(language), rows) for language, rows in groups.items()]
    return Table("Paired comparisons by language", header, shown) if shown else None


def worth(study: StudyFolder) -> list[Worth]:
    """For every test language that is heard: its recordings, in recordings of one other language, the same text given."""
    one = metric(study.primary, study.results.metrics)
    heard = [p for p in study.results.by_language.points if p.modality == "speech" and p.value is not None]
    result: list[Worth] = []
    for language in sorted({point.language for point in heard}):
        own = [point for point in heard if point.language == language]
        for texts in sorted({_texts(point) for point in own}):
            result += _worth([point for point in own if _texts(point) == texts], language, one.higher_is_better)
    return result


def _texts(point: LanguagePoint) -> Texts:
    given = ((code, n.get("num_text", 0), n.get("num_synthetic", 0)) for code, n in point.trained_on.items())
    return tuple(sorted(one for one in given if any(one[1:])))


def _spoken(point: LanguagePoint, language: str) -> int:
    return point.trained_on.get(language, {}).get("num_speech", 0)


def _worth(points: Sequence[LanguagePoint], language: str, higher_is_better: bool) -> Iterator[Worth]:
    """Recordings of `language` against those of every other that was measured at two numbers at least, none included."""
    others = sorted(
        {code for point in points for code in point.trained_on if code != language and _spoken(point, code)}
    )
    sign = 1 if higher_is_better else -1
    for other in others:
        alone = [
            p for p in points if all(not _spoken(p, code) for code in p.trained_on if code not in (other, language))
        ]
        curve = _best([p for p in alone if not _spoken(p, language)], other, sign)
        if len(curve) < 2 or min(curve) != 0:
            continue
        numbers = np.array(sorted(curve))
        values = np.maximum.accumulate([sign * (curve[number].value or 0) for number in numbers])
        own = [point for point in alone if _spoken(point, language) and _spoken(point, other) == 0]
        for number, point in sorted(_best(own, language, sign).items()):
            ends = sorted(sign * v for v in (point.low, point.high) if v is not None) or [sign * (point.value or 0)]
            low, equal, high = (
                _reached(value, numbers, values) for value in (ends[0], sign * (point.value or 0), ends[-1])
            )
            yield Worth(language, number, other, equal, low, high, int(numbers[-1]), point.value or 0)


def _best(points: Sequence[LanguagePoint], spoken: str, sign: int) -> dict[int, LanguagePoint]:
    """The best way of training at each number of recordings of a language."""
    best: dict[int, LanguagePoint] = {}
    for point in points:
        known = best.get(_spoken(point, spoken))
        if known is None or sign * (point.value or 0) > sign * (known.value or 0):
            best[_spoken(point, spoken)] = point
    return best


def _reached(value: float, numbers: np.ndarray, values: np.ndarray) -> int | None:
    """The fewest recordings at which the curve reaches a value, 0 where it starts above it; None if it never does."""
    if value > values[-1]:
        return None
    right = int(np.searchsorted(values, value))
    if right == 0:
        return int(numbers[0])
    part = (value - values[right - 1]) / (values[right] - values[right - 1])
    return round(float(numbers[right - 1] + part * (numbers[right] - numbers[right - 1])))


def worth_words(found: Worth, one: Metric) -> str:
    """`115 recordings in French are worth as much as about 430 recordings in English (120 to more than 800), ...`."""
    begin = f"{recordings(found.num)} in {name(found.language)} {'is' if found.num == 1 else 'are'} worth "
    many = f"more than all {found.measured} recordings in {name(found.other)} that were measured"
    if found.equal is None:
        said = many
    elif found.equal == 0:
        said = f"no recordings in {name(found.other)}"
    else:
        said = f"as much as about {recordings(found.equal)} in {name(found.other)}"
    said += f" ({_number(found.low, found.measured)} to {_number(found.high, found.measured)})"
    return f"{begin}{said}: with the same text, {one.title} on {name(found.language)} is {one.shown(found.value)}."


def _number(value: int | None, measured: int) -> str:
    return f"more than {measured}" if value is None else str(value)
