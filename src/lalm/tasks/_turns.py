"""What the tasks over turns share: what a row gives to hear or to read, and what is right once a request is made clear."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from lalm.records import Example, Turn, Utterance

WORD = re.compile(r"\w[\w'’-]*")
_LONG_ENOUGH = 4  # letters: shorter words are mostly grammar, and say little about whether one has listened


def tells(word: str) -> bool:
    """Whether a word is worth asking for: of four letters at least, or with a digit."""
    return len(word) >= _LONG_ENOUGH or any(letter.isdigit() for letter in word)


def heard(item: Utterance) -> tuple[Turn, ...]:
    """What is said in a row, piece by piece; a written context stands first, as the narrator's words.

    A single utterance is one turn of the user.
    """
    if item.turns:
        return (*([Turn("narrator", item.context)] if item.context else []), *item.turns)
    if item.text is None and item.audio is None:
        return ()
    return (Turn("user", item.text, item.audio, item.duration_s),)


def asked(item: Utterance) -> tuple[Turn, ...]:
    """The turns of a question or a dialogue up to its request: a written question, else the user's last words.

    Nothing for rows without turns, and for those in which the user asks nothing.
    """
    turns = heard(item) if item.turns else ()
    if turns and item.question:
        turns = (*turns, Turn("user", item.question))
    return turns if turns and turns[-1].role == "user" else ()


def clarified(item: Utterance) -> list[tuple[tuple[Turn, ...], tuple[str, ...]]]:
    """An ambiguous row made clear: the question asked back, each of the user's replies, and the answers right then."""
    turns = asked(item)
    if not turns or item.clarification is None:
        return []
    back = Turn("assistant", item.clarification.question)
    return [((*turns, back, reply), answers) for reply, answers in item.clarification.replies if answers]


def about(
    item: Utterance, turns: tuple[Turn, ...], questions: Iterable[tuple[str, str]], instruction: str, task: str
) -> list[Example]:
    """One example a question and its answer: the turns, then the question as the user's words."""
    made = [
        Example(
            id=item.id,
            instruction=instruction,
            answer=answer,
            task=task,
            language=item.language,
            turns=(*turns, Turn("user", question)),
            answers=(answer,),
        )
        for question, answer in questions
    ]
    return numbered(made, item)


def numbered(made: Sequence[Example], item: Utterance) -> list[Example]:
    """The examples of a row with names of their own: the row's where there is one, else `<row>/<task>/<number>`."""
    if len(made) == 1:
        return [replace(made[0], id=item.id)]
    return [replace(one, id=f"{item.id}/{one.task}/{number}") for number, one in enumerate(made)]
