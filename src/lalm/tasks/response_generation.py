"""The assistant's next turn: the answer, or a question back where the request is ambiguous.

Source: the task of arXiv 2412.15995 that produces the response, and its dialogues in which the model may ask back; how the
two kinds of response are told apart is not stated there. Here asking back is an answer that ends with a question mark. An
ambiguous row gives further examples in which the user has replied, so that the model also learns to go on.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

from pydantic import Field

from lalm.plugins import PluginConfig
from lalm.records import Example, Utterance
from lalm.tasks._turns import asked, clarified


class Config(PluginConfig):
    """Options of the task."""

    instruction: str = Field(
        "Answer the user's last request. If it is ambiguous, ask a question back instead.",
        min_length=1,
        description="what the model is told first",
    )
    after_reply: bool = Field(True, description="also make examples in which the user has replied to a question back")


def examples(item: Utterance, cfg: Config, rng: Random) -> list[Example]:
    """The response of a row under the row's name; those after a reply are `<row>/response_generation/<number>`."""
    turns = asked(item)
    clarification = item.clarification
    if not turns or (clarification is None and not item.answers):
        return []
    answers = item.answers if clarification is None else (as_question(clarification.question),)
    first = Example(
        id=item.id,
        instruction=cfg.instruction,
        answer=answers[0],
        task="response_generation",
        language=item.language,
        turns=turns,
        answers=answers,
        ambiguous=clarification is not None,
    )
    later = [
        replace(
            first,
            id=f"{item.id}/response_generation/{number}",
            answer=right[0],
            turns=longer,
            answers=right,
            ambiguous=False,
        )
        for number, (longer, right) in enumerate(clarified(item) if cfg.after_reply else [], 1)
    ]
    return [first, *later]


def as_question(text: str) -> str:
    """The words with the question mark by which asking back is known."""
    return text if text.rstrip().endswith(("?", "\uff1f", "\u061f")) else text.rstrip(" .!") + "?"
