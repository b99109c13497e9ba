"""Dialogues: questions about short passages, about half of them ambiguous, written for this project; comes with the package.

Licence Apache-2.0; what is in it and how it was made stands in data/dialogues/README.md. Layout: `dialogues.jsonl`, one passage a
line with the turns of conversations about it. A turn with a `history`, the numbers of earlier turns, is a request and makes a
row. A folder that `lalm data synth` made of it is read as well:

    lalm data synth --corpus dialogues --engine flite --engine espeak_ng --out speech
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lalm.corpora._dialogues import MANIFEST, as_question, checked, spoken_rows, turns_of
from lalm.data.fields import shown, whole
from lalm.data.manifest import json_lines
from lalm.data.problems import Problems
from lalm.errors import DataError, nearest
from lalm.plugins import PluginConfig
from lalm.records import Clarification, Turn, Utterance
from lalm.rundir import write_jsonl

LICENCE = "Apache-2.0"
FOLDER = Path(__file__).with_name("data") / "dialogues"
FILE = "dialogues.jsonl"
NUM_REQUESTS = {"train": 244, "dev": 35, "test": 131}
SPLITS = tuple(NUM_REQUESTS)
_OF_A_PASSAGE = ("id", "split", "topic", "story", "turns")
_OF_A_TURN = ("turn_id", "history", "question", "answers", "clarification", "span")


class Config(PluginConfig):
    """The corpus has no options."""


def read(root: Path, split: str, cfg: Config) -> Iterator[Utterance]:
    """The requests of a split: written ones from `dialogues.jsonl`, spoken ones from a folder with a manifest.

    Raises DataError that lists every passage and turn which is malformed: fields that are missing, a history that refers to its
    own turn, to a later one or to one that is not there, answers that are said to be spans and are not.
    """
    if (root / MANIFEST).is_file():
        yield from spoken_rows(root / MANIFEST, split, allow_outside=False)
        return
    path = root / FILE
    if not path.is_file():
        raise DataError(f"{path}: there is no such file. The corpus 'dialogues' comes with the package, in {FOLDER}.")
    problems = Problems()
    lines: dict[str, int] = {}
    found: list[Utterance] = []
    for line, value in json_lines(path, problems):
        where = f"{path}, line {line}"
        try:
            rows = rows_of(value)
        except DataError as error:
            for problem in error.problems:
                problems.append(f"{where}: {problem}")
            continue
        if value["id"] in lines:
            problems.append(
                f"{where}: row '{value['id']}' stands on line {lines[value['id']]} already; ids must differ."
            )
        lines.setdefault(value["id"], line)
        found += [row for row in rows if row.split == split]
    problems.check(path)
    if root == FOLDER and len(found) != NUM_REQUESTS[split]:
        raise DataError(
            f"{path}: holds {len(found)} requests for {split}, {NUM_REQUESTS[split]} came with the package."
        )
    yield from found


def rows_of(value: Any) -> list[Utterance]:
    """The requests of a passage. Raises DataError with all of its problems, each of which names its row."""
    problems = _problems(value)
    if problems:
        raise DataError("A passage cannot be used.", problems)
    earlier: dict[int, tuple[str, str]] = {}
    rows = []
    for turn in value["turns"]:
        answers, clarification = tuple(turn.get("answers", ())), turn.get("clarification")
        if answers:
            earlier[turn["turn_id"]] = (turn["question"], answers[0])
        if "history" not in turn:
            continue
        name = f"{value['id']}-{turn['turn_id']}"
        row = Utterance(
            id=name,
            split=value["split"],
            turns=turns_of(value["story"], [earlier[number] for number in turn["history"]], turn["question"]),
            answers=answers,
            clarification=_asked(clarification) if clarification else None,
            meta={"passage": value["id"], "topic": value["topic"], "span": turn.get("span", True)},
        )
        try:
            rows.append(checked(row))
        except DataError as error:
            problems.append(f"row '{name}' {error}")
    if problems:
        raise DataError("A passage cannot be used.", problems)
    return rows


def _asked(value: dict[str, Any]) -> Clarification:
    replies = ((Turn("user", reply["text"]), tuple(reply["answers"])) for reply in value["replies"])
    return Clarification(as_question(value["question"]), tuple(replies))


def _problems(value: Any) -> list[str]:
    """What is wrong with the fields of a passage and with the numbers of its turns."""
    if not isinstance(value, dict):
        return [f"is {shown(value)}, an object is needed."]
    name = f"row {shown(value.get('id'))}"
    problems = [f"{name} has no field '{field}'." for field in _OF_A_PASSAGE if field not in value]
    problems += [f"{name} has a field '{f}'.{nearest(f, _OF_A_PASSAGE)}" for f in value if f not in _OF_A_PASSAGE]
    problems += [
        f"{name}: field '{f}' {_NO_TEXT}" for f in ("id", "topic", "story") if f in value and not _is_text(value[f])
    ]
    if value.get("split", "train") not in SPLITS:
        problems.append(f"{name}: field 'split' is {shown(value['split'])}; allowed: {', '.join(SPLITS)}.")
    turns = value.get("turns", [])
    if not isinstance(turns, list) or ("turns" in value and not turns):
        return [*problems, f"{name}: field 'turns' is {shown(turns)}, a list of at least one turn is needed."]
    answered: dict[int, bool] = {}
    for index, turn in enumerate(turns):
        found = _turn_problems(turn) or _history_problems(turn, answered)
        number = turn.get("turn_id") if isinstance(turn, dict) else None
        problems += [f"row '{value.get('id')}-{number}' (turns[{index}]) {problem}" for problem in found]
        if isinstance(number, int):
            answered[number] = bool(turn.get("answers"))
    return problems


_NO_TEXT = "is no string, or empty, where words are needed."


def _turn_problems(turn: Any) -> list[str]:
    if not isinstance(turn, dict):
        return [f"is {shown(turn)}, an object is needed: the turn is missing."]
    problems = [f"has a field '{field}'.{nearest(field, _OF_A_TURN)}" for field in turn if field not in _OF_A_TURN]
    if isinstance(turn.get("turn_id"), bool) or not isinstance(turn.get("turn_id"), int):
        problems.append(f"has 'turn_id' {shown(turn.get('turn_id'))}, a whole number is needed.")
    if not _is_text(turn.get("question")):
        problems.append(f"field 'question' {_NO_TEXT}")
    if not isinstance(turn.get("span", True), bool):
        problems.append(f"has 'span' {shown(turn['span'])}, true or false is needed.")
    if ("answers" in turn) == ("clarification" in turn):
        problems.append("has both 'answers' and 'clarification', or neither; one of them is needed.")
    elif "answers" in turn:
        problems += [] if _are_texts(turn["answers"]) else [f"field 'answers' {_NO_TEXT}"]
    else:
        problems += _clarification_problems(turn["clarification"])
    return problems


def _clarification_problems(value: Any) -> list[str]:
    if not isinstance(value, dict) or not _is_text(value.get("question")):
        return [f"field 'clarification.question' {_NO_TEXT}"]
    replies = value.get("replies")
    if not isinstance(replies, list) or len(replies) < 2:
        return [f"field 'clarification.replies' is {shown(replies)}; an ambiguous request has at least two of them."]
    return [
        f"field 'clarification.replies[{index}]' is {shown(reply)}, an object with 'text' and 'answers' is needed."
        for index, reply in enumerate(replies)
        if not isinstance(reply, dict) or not _is_text(reply.get("text")) or not _are_texts(reply.get("answers"))
    ]


def _history_problems(turn: dict[str, Any], answered: dict[int, bool]) -> list[str]:
    """A dialogue goes forward: a history holds earlier turns alone, in their order, each once, and answered ones."""
    own, history = turn["turn_id"], turn.get("history", [])
    problems = [f"has the number {own}, which stands there already."] if own in answered else []
    if not isinstance(history, list):
        return [*problems, f"has 'history' {shown(history)}, a list of numbers of turns is needed."]
    for place, number in enumerate(history):
        if number == own:
            problems.append(f"has a history that refers to turn {number}, which is the request itself.")
        elif number not in answered:
            problems.append(
                f"has a history that refers to turn {shown(number)}, which is not among the turns before it."
            )
        elif not answered[number]:
            problems.append(
                f"has a history that refers to turn {number}, which has no answer before the user is asked back."
            )
        elif number in history[:place] or (place and history[place - 1] > number):
            problems.append(f"has the history {shown(history)}, which does not go forward.")
    return problems


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and whole(value)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_text, value))


def make_tiny(root: Path, seed: int) -> None:
    """Three passages, one a split, with two requests each; no sound."""
    rows = []
    for split, name in zip(SPLITS, ("Ann", "Bea", "Eve"), strict=True):
        cats = [{"text": f"The {c} one.", "answers": [n]} for c, n in (("black", "Tom"), ("white", "Kit"))]
        turns = [
            {"turn_id": 1, "question": "Who has cats?", "answers": [name]},
            {"turn_id": 2, "history": [1], "question": "How many are there?", "answers": ["two", "two cats"]},
            {
                "turn_id": 3,
                "history": [1, 2],
                "question": "What is it called?",
                "clarification": {"question": "Which cat do you mean?", "replies": cats},
            },
        ]
        story = f"{name} has two cats. The black cat is called Tom and the white cat is called Kit."
        rows.append({"id": f"cats-{split}-{seed}", "split": split, "topic": "animals", "story": story, "turns": turns})
    write_jsonl(root / FILE, rows)
