"""Spoken question answering: passage or dialogue, a question, and its answer (a span of what is said, or free text).

The question is the row's written `question`, else the user's last turn. An ambiguous row has no one answer; it gives one
example a reply instead, in which the clarifying question was asked and answered. Rows without answers are left out.
"""

from __future__ import annotations

from random import Random

from pydantic import Field

from lalm.plugins import PluginConfig
from lalm.records import Example, Turn, Utterance
from lalm.tasks._turns import asked, clarified, numbered

SPAN = "Answer the last question with the shortest span of what is said."
FREE = "Answer the last question about what is said."


class Config(PluginConfig):
    """Options of the task."""

    span: bool = Field(True, description="answers are words of the passage (false: free text)")
    instruction: str | None = Field(
        None, min_length=1, description="what the model is told first (none: as `span` says)"
    )


def examples(item: Utterance, cfg: Config, rng: Random) -> list[Example]:
    """One example of a clear question; of an ambiguous one as many as there are replies."""
    if item.clarification is not None:
        known = clarified(item)
    else:
        known = [(asked(item), item.answers)] if asked(item) and item.answers else []
    made = [
        Example(
            id=item.id,
            instruction=cfg.instruction or (SPAN if cfg.span else FREE),
            answer=_taught(turns, answers) if cfg.span else answers[0],
            task="answer",
            language=item.language,
            turns=turns,
            answers=answers,
        )
        for turns, answers in known
    ]
    return numbered(made, item)


def _taught(turns: tuple[Turn, ...], answers: tuple[str, ...]) -> str:
    """Of several right answers the first that is said, so that a span is taught; the first of all if none is."""
    said = " ".join(turn.text or "" for turn in turns[:-1]).casefold()
    return next((answer for answer in answers if answer.casefold() in said), answers[0])
