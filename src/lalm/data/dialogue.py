"""What rows of questions and dialogues have in a manifest (docs/formats.md): turns, question, answers, clarification."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from lalm.data.fields import relative, seconds, shown, sound, whole, words
from lalm.errors import nearest
from lalm.records import UNKNOWN_FIELDS, Clarification, Example, Role, Turn, Utterance

FIELDS = ("context", "question", "turns", "answers", "clarification")
ROLES: tuple[Role, ...] = get_args(Role)
_OF_A_TURN = ("role", "text", "audio", "duration_s")
_OF_A_REPLY = ("text", "audio", "duration_s", "answers")


def parse_dialogue(value: Mapping[str, Any], folder: Path, allow_outside: bool, problems: list[str]) -> dict[str, Any]:
    """The fields of an `Utterance` that a row of a manifest has in `FIELDS`; what is wrong with them goes to `problems`."""
    num_problems = len(problems)
    given = value.get("turns")
    if given is not None and (not isinstance(given, list) or not given):
        problems.append(f"field 'turns' is {shown(given)}, a list of at least one turn is needed.")
    items = given if isinstance(given, list) else []
    turns = [_turn(item, f"turns[{index}]", folder, allow_outside, problems) for index, item in enumerate(items)]
    found = {
        "context": words(value.get("context"), "context", problems) or None,
        "question": words(value.get("question"), "question", problems) or None,
        "turns": tuple(turn for turn in turns if turn is not None),
        "answers": _answers(value.get("answers"), "answers", problems),
        "clarification": _clarification(value.get("clarification"), folder, allow_outside, problems),
    }
    if len(problems) == num_problems:
        problems += _does_not_fit(value, found)
    return found


def dialogue_to_json(row: Utterance, folder: Path) -> dict[str, Any]:
    """Inverse of `parse_dialogue`; fields that a row does not have are left out."""
    found: dict[str, Any] = {
        "context": row.context,
        "question": row.question,
        "turns": [{"role": turn.role, **_said(turn, folder)} for turn in row.turns] or None,
        "answers": list(row.answers) or None,
    }
    if row.clarification is not None:
        replies = [{**_said(turn, folder), "answers": list(answers)} for turn, answers in row.clarification.replies]
        found["clarification"] = {"question": row.clarification.question, "replies": replies}
    return {name: value for name, value in found.items() if value is not None}


def in_writing(row: Utterance) -> Utterance | None:
    """The row without its recordings; None if something of it is known as a recording alone.

    So are replies: those without words are left out, and the clarification with them if none is left.
    """
    if any(not turn.text for turn in row.turns) or not (row.text or row.turns):
        return None
    clarification = row.clarification
    if clarification is not None:
        replies = tuple((turn, answers) for turn, answers in clarification.replies if turn.text)
        clarification = replace(clarification, replies=replies) if replies else None
    return with_turns(replace(row, audio=None, source="text", clarification=clarification), _written)


def all_recordings(row: Utterance) -> tuple[Path, ...]:
    """The recordings of a row, and those of what the user may reply."""
    replies = row.clarification.replies if row.clarification is not None else ()
    return (*row.recordings, *(turn.audio for turn, _ in replies if turn.audio is not None))


def with_turns(row: Utterance, change: Callable[[Turn], Turn]) -> Utterance:
    """The row with its turns, and those that the user may reply with, as `change` makes them."""
    clarification = row.clarification
    if clarification is not None:
        replies = tuple((change(turn), answers) for turn, answers in clarification.replies)
        clarification = replace(clarification, replies=replies)
    return replace(row, turns=tuple(map(change, row.turns)), clarification=clarification)


def with_recordings(example: Example, recordings: Sequence[Path]) -> Example:
    """The example with other recordings, in the order of `example.recordings`."""
    others = iter(recordings)
    audio = next(others) if example.audio is not None else None
    turns = tuple(turn if turn.audio is None else replace(turn, audio=next(others)) for turn in example.turns)
    return replace(example, audio=audio, turns=turns)


def example_in_writing(example: Example) -> Example | None:
    """The example without its recordings; None if something of it is known as a recording alone."""
    if any(not turn.text for turn in example.turns) or not (example.text or example.turns):
        return None
    return replace(example, audio=None, turns=tuple(map(_written, example.turns)))


def heard_s(row: Utterance) -> float | None:
    """Seconds of the row's recordings, of all turns together; None where one of them is not known."""
    if not row.turns:
        return row.duration_s
    known = [turn.duration_s for turn in row.turns if turn.audio is not None]
    return None if None in known else sum(seconds for seconds in known if seconds is not None)


def is_labelled(row: Utterance) -> bool:
    """Whether the row says what is right: a frame, answers, or messages of another tool that are kept as they were."""
    frame = row.frame.intent is not None or bool(row.frame.slots)
    return frame or bool(row.answers) or row.clarification is not None or "messages" in row.meta.get(UNKNOWN_FIELDS, {})


def _written(turn: Turn) -> Turn:
    return replace(turn, audio=None, duration_s=None)


def _said(turn: Turn, folder: Path) -> dict[str, Any]:
    return {"text": turn.text, "audio": relative(turn.audio, folder), "duration_s": turn.duration_s}


def _turn(item: Any, field: str, folder: Path, allow_outside: bool, problems: list[str]) -> Turn | None:
    if not isinstance(item, dict):
        problems.append(f"field '{field}' is {shown(item)}, an object with 'role' and 'text' or 'audio' is needed.")
        return None
    if item.get("role") not in ROLES:
        problems.append(f"field '{field}.role' is {shown(item.get('role'))}; allowed: {', '.join(ROLES)}.")
    return _what_is_said(item, field, _OF_A_TURN, folder, allow_outside, problems)


def _what_is_said(
    item: Mapping[str, Any],
    field: str,
    known: tuple[str, ...],
    folder: Path,
    allow_outside: bool,
    problems: list[str],
) -> Turn:
    """The turn of an object with `text`, `audio` or both; one without a role is the user's."""
    for name in item:
        if name not in known:
            problems.append(f"field '{field}.{name}' is not known.{nearest(name, known)}")
    text = words(item.get("text"), f"{field}.text", problems)
    recording = words(item.get("audio"), f"{field}.audio", problems)
    if not item.get("text") and not item.get("audio"):
        problems.append(f"field '{field}' has neither 'text' nor 'audio'; at least one is needed.")
    return Turn(
        item.get("role", "user"),
        text or None,
        sound(recording, f"{field}.audio", folder, allow_outside, problems),
        seconds(item.get("duration_s"), f"{field}.duration_s", problems),
    )


def _answers(value: Any, field: str, problems: list[str]) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        problems.append(f"field '{field}' is {shown(value)}, a list of strings is needed.")
        return ()
    for index, answer in enumerate(value):
        if not isinstance(answer, str) or not answer.strip() or not whole(answer):
            problems.append(f"field '{field}[{index}]' is {shown(answer)}, a non-empty string is needed.")
    return tuple(value)


def _clarification(value: Any, folder: Path, allow_outside: bool, problems: list[str]) -> Clarification | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        problems.append(f"field 'clarification' is {shown(value)}, an object with 'question' and 'replies' is needed.")
        return None
    for name in value:
        if name not in ("question", "replies"):
            problems.append(f"field 'clarification.{name}' is not known.{nearest(name, ('question', 'replies'))}")
    question, replies = value.get("question"), value.get("replies")
    if not isinstance(question, str) or not question.strip() or not whole(question):
        problems.append(f"field 'clarification.question' is {shown(question)}, a non-empty string is needed.")
    if not isinstance(replies, list) or not replies:
        problems.append(f"field 'clarification.replies' is {shown(replies)}, a list of at least one reply is needed.")
        replies = []
    found = []
    for index, reply in enumerate(replies):
        field = f"clarification.replies[{index}]"
        if not isinstance(reply, dict):
            problems.append(f"field '{field}' is {shown(reply)}, an object with 'text' or 'audio' is needed.")
            continue
        turn = _what_is_said(reply, field, _OF_A_REPLY, folder, allow_outside, problems)
        answers = _answers(reply.get("answers"), f"{field}.answers", problems)
        if reply.get("answers") is None or reply["answers"] == []:
            problems.append(f"field '{field}.answers' is missing; what is right after this reply is needed.")
        found.append((turn, answers))
    return Clarification(str(question), tuple(found))


def _does_not_fit(value: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """What is wrong with fields that are right each by itself."""
    problems = []
    turns = found["turns"]
    for name in ("text", "audio"):
        if turns and value.get(name):
            problems.append(f"field '{name}' is {shown(value[name])}, and a row with 'turns' has none of its own.")
    if found["clarification"] is not None and not turns:
        problems.append(
            "field 'clarification' stands there without 'turns'; there is no request to be asked back about."
        )
    asked = found["question"] or (turns and turns[-1].role == "user")
    if turns and (found["answers"] or found["clarification"]) and not asked:
        problems.append(
            f"field 'turns' ends with a turn of the {turns[-1].role} and there is no 'question', so nothing is asked; "
            "a last turn of the user or a 'question' is needed."
        )
    return problems
