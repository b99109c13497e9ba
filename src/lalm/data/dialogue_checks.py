"""What turns must be to make a dialogue: speakers in an order that can be, answers that were heard, voices that differ."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from lalm.data.dialogue import ROLES
from lalm.data.fields import shown
from lalm.errors import nearest
from lalm.records import Turn, Utterance


def dialogue_problems(row: Utterance) -> list[str]:
    """What is wrong with a row of a question or a dialogue, in words that go on from its name."""
    if not row.turns:
        return ["has no 'turns'; a passage and a request are needed."]
    problems = _order(row)
    if not row.answers and row.clarification is None:
        problems.append("has neither 'answers' nor a 'clarification', so no reply to its request is known to be right.")
    if row.meta.get("span"):
        problems += _unheard(row)
    return problems + _voices(row.meta.get("voices"))


def stands_in(words: str, passage: str) -> bool:
    """Whether words stand in a passage one after another, whatever their case and the space between them."""
    found = r"\s+".join(re.escape(part) for part in words.split())
    return re.search(rf"(?<!\w){found}(?!\w)", passage, re.IGNORECASE) is not None


def _order(row: Utterance) -> list[str]:
    """The narrator first; then user and assistant in turn, the user first; the request last, spoken or written."""
    problems = []
    before: Turn | None = None
    for index, turn in enumerate(row.turns):
        role, last = turn.role, before.role if before is not None else "narrator"
        if role == "narrator" and last != "narrator":
            problems.append(f"'turns[{index}]' is the narrator's, after the dialogue has begun.")
        elif role == "assistant" and last == "narrator":
            problems.append(
                f"'turns[{index}]' is the assistant's, and nobody has asked: a turn of the user is missing."
            )
        elif role == last and role != "narrator":
            other = "assistant" if role == "user" else "user"
            problems.append(f"'turns[{index}]' is the {role}'s like the one before: a turn of the {other} is missing.")
        before = turn
    assert before is not None
    if before.role != "user" and not row.question:
        problems.append(f"ends with a turn of the {before.role} and has no 'question': the user's request is missing.")
    return problems


def _unheard(row: Utterance) -> list[str]:
    """Answers that are to be spans of what is known, and are not; nothing where that is not all written."""
    known = [turn.text for turn in row.turns if turn.role == "narrator"] + ([row.context] if row.context else [])
    if not all(known):
        return []
    passage = " ".join(str(text) for text in known)
    wanted: list[tuple[str, Sequence[str]]] = [("answers", row.answers)] if row.answers else []
    if row.clarification is not None:
        replies = enumerate(row.clarification.replies)
        wanted += [(f"clarification.replies[{index}].answers", answers) for index, (_, answers) in replies]
    return [
        f"'{field}' is {shown(list(answers))}, and none of it stands in the passage, though it is said to be a span."
        for field, answers in wanted
        if not any(stands_in(answer, passage) for answer in answers)
    ]


def _voices(voices: object) -> list[str]:
    """What is wrong with `meta.voices`, which names a voice for a role: `{"user": "flite/slt"}`."""
    if voices is None:
        return []
    if not isinstance(voices, Mapping) or not all(isinstance(voice, str) for voice in voices.values()):
        return [f"'meta.voices' is {shown(voices)}; a role and the name of a voice each is needed."]
    problems = [f"'meta.voices' names a role '{role}'.{nearest(role, ROLES)}" for role in voices if role not in ROLES]
    first: dict[str, str] = {}
    for role, voice in voices.items():
        if voice in first:
            problems.append(f"'meta.voices' gives {first[voice]} and {role} the same voice '{voice}'.")
        first.setdefault(voice, role)
    return problems
