"""A local language model as the user of `lalm converse`: it says what an annotated reply means in words that fit the question.

What the user means stays the annotation's, or nothing would be known to be right afterwards: the model is told it, and its words
are taken only if they hold one that sets this reply apart from the row's other replies; else the annotated reply is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lalm.records import Turn, Utterance
from lalm.tasks._turns import WORD
from lalm.write.texts import Write, first_line

_TOKENS = 32


@dataclass(frozen=True)
class Question:
    """The model's question to the ambiguous request of `row`, and which of the annotated replies the user means."""

    row: Utterance
    asked: str
    reply: int


def replies(questions: Sequence[Question], write: Write) -> list[tuple[Turn, bool]]:
    """The user's turn for each question, and whether it is the model's (else the annotation's, with its recording).

    A reply in the model's words is a written turn. Annotated replies that are known as recordings alone are given as they are.
    """
    texts = write([_prompt(one) for one in questions], _TOKENS, "user")
    found = []
    for one, text in zip(questions, texts, strict=True):
        meant, _ = _replies(one.row)[one.reply]
        said = first_line(text).strip('"')
        own = bool(meant.text) and bool(_words(said) & _telling(one))
        found.append((Turn("user", said) if own else meant, own))
    return found


def _prompt(one: Question) -> str:
    row = one.row
    meant, _ = _replies(row)[one.reply]
    passage = " ".join(turn.text for turn in row.turns if turn.role == "narrator" and turn.text)
    request = row.question or row.turns[-1].text or ""
    return (
        f'You talk to an assistant about this text: {passage}\nYou asked: "{request}"\nThe assistant asks back: "{one.asked}"\n'
        f'You mean this: "{meant.text or ""}"\nAnswer the assistant in one short sentence. Write only that sentence.'
    )


def _telling(one: Question) -> set[str]:
    """Words that stand in this reply and in none of the others."""
    every = [_words(turn.text or "") for turn, _ in _replies(one.row)]
    return every[one.reply].difference(*(words for number, words in enumerate(every) if number != one.reply))


def _replies(row: Utterance) -> tuple[tuple[Turn, tuple[str, ...]], ...]:
    assert row.clarification is not None, "only ambiguous requests have replies"
    return row.clarification.replies


def _words(text: str) -> set[str]:
    return set(WORD.findall(text.casefold()))
