"""Examples of errors: what was said, what was meant, what the model heard and answered, with the recording inside."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lalm.evaluate.prediction_rows import readings
from lalm.metrics import squad_em
from lalm.metrics._matching import normal
from lalm.records import Frame
from lalm.report.folder import StudyFolder
from lalm.report.rows import Example
from lalm.report.words import recordings

MAX_CLIP_BYTES = 500_000
_WHY = {
    "best_wrong": "still wrong with the most recordings",
    "text_only_wrong": "wrong with text alone, right with recordings",
}


@dataclass(frozen=True)
class Mark:
    """A piece of an answer and whether it is right: `right`, `wrong`, or `missing` (labelled and not answered)."""

    text: str
    state: str


@dataclass(frozen=True)
class Answer:
    """What one run made of the utterance."""

    name: str
    heard: str | None
    intent: Mark
    slots: list[Mark]
    raw: str | None


@dataclass(frozen=True)
class Shown:
    """An example ready to be shown. `audio` is a data URI; `reason` says why there is none."""

    id: str
    why: str
    said: str | None
    intent: str
    slots: list[str]
    answers: list[Answer]
    audio: str | None
    reason: str | None


def shown_examples(study: StudyFolder) -> tuple[list[Shown], str | None]:
    """The examples kept in the study folder, and what to say where there are none or they are not all there."""
    if not study.results.examples:
        return (
            [],
            "The results name no examples of errors (there were none, or the study was gathered by another version).",
        )
    rows = {run: study.predictions(run) for example in study.results.examples for run in example.runs}
    found = [_shown(study, example, rows) for example in study.results.examples]
    complete = [example for example in found if example is not None]
    lost = len(found) - len(complete)
    note = f"{lost} examples cannot be shown: their predictions are not in the folder." if lost else None
    return complete, note


def _shown(study: StudyFolder, example: Example, rows: Mapping[str, Mapping[str, Any]]) -> Shown | None:
    answered = [(run, rows[run][example.id]) for run in example.runs if example.id in rows[run]]
    if not answered:
        return None
    first = answered[0][1]
    gold = Frame.from_json(first["gold"])
    question = "answers" in first
    make = _reply if question else _answer
    audio, reason = _audio(study, example)
    return Shown(
        id=example.id,
        why=_WHY.get(example.why, example.why),
        said=_request(first) if question else first.get("text"),
        intent=" / ".join(dict.fromkeys(first["answers"])) or "to ask back" if question else gold.intent or "no intent",
        slots=[f"{slot.type}: {slot.value}" for slot in gold.slots],
        answers=[make(_name(study, run), row, gold) for run, row in answered],
        audio=audio,
        reason=reason,
    )


def _request(row: Mapping[str, Any]) -> str | None:
    """What was asked: the last turn of a dialogue."""
    turns = row.get("turns", [])
    return turns[-1].get("text") if turns else row.get("text")


def _reply(name: str, row: Mapping[str, Any], gold: Frame) -> Answer:
    """An answer in words: right if it is one of the right ones, or asks back where that is due."""
    right, given = readings(row)
    found = squad_em.count(right, given)
    same = given.asks == right.asks if found is None else bool(found[0])
    return Answer(name, row.get("heard"), Mark(row["raw"][:400] or "nothing", "right" if same else "wrong"), [], None)


def _name(study: StudyFolder, run: str) -> str:
    for curve in study.cells:
        for point in curve.own:
            if run in point.runs:
                return f"{curve.name}, {recordings(point.num_speech)}"
    return run


def _answer(name: str, row: Mapping[str, Any], gold: Frame) -> Answer:
    """The answer against the label: slots are compared as the metrics do, lower case and as a multiset."""
    if row["prediction"] is None:
        return Answer(name, row.get("heard"), Mark("could not be read", "wrong"), [], str(row.get("raw", ""))[:400])
    found = Frame.from_json(row["prediction"])
    wanted = Counter((slot.type, normal(slot.value)) for slot in gold.slots)
    marks = []
    for slot in found.slots:
        key = (slot.type, normal(slot.value))
        marks.append(Mark(f"{slot.type}: {slot.value}", "right" if wanted[key] > 0 else "wrong"))
        wanted[key] -= 1
    for slot in gold.slots:
        key = (slot.type, normal(slot.value))
        if wanted[key] > 0:
            marks.append(Mark(f"{slot.type}: {slot.value}", "missing"))
            wanted[key] -= 1
    same = (found.intent or "") == (gold.intent or "")
    return Answer(name, row.get("heard"), Mark(found.intent or "no intent", "right" if same else "wrong"), marks, None)


def _audio(study: StudyFolder, example: Example) -> tuple[str | None, str | None]:
    """The recording as a data URI, or why there is none."""
    if example.audio is None:
        return None, example.reason or "no recording was kept"
    path = study.inside(example.audio)
    if path is None or not path.is_file():
        return None, f"the recording {example.audio} is not in the folder"
    if path.stat().st_size > MAX_CLIP_BYTES:
        return None, f"the recording {example.audio} is too large to be put into the page"
    return "data:audio/mpeg;base64," + base64.b64encode(path.read_bytes()).decode("ascii"), None
