"""Spoken language understanding: intent and slots of an utterance, answered as one line of JSON.

The instruction is short and holds no label list, as in the study (arXiv 2509.15389): labels are learned from the text.
"""

from __future__ import annotations

from random import Random

from pydantic import Field

from lalm.data.labels import answer_text
from lalm.plugins import PluginConfig
from lalm.records import Example, Utterance

INSTRUCTION = 'Extract the intent and the slots and return them as one line of JSON: {"intent": "<string>", "slots": [{"<slot type>": "<value>"}, ...]}'


class Config(PluginConfig):
    """Options of the task."""

    instruction: str = Field(INSTRUCTION, min_length=1, description="what the model is told, before it hears or reads")


def examples(item: Utterance, cfg: Config, rng: Random) -> list[Example]:
    """One example: spoken if the item has audio, else written; none of a row with turns."""
    if item.turns:
        return []
    return [
        Example(
            id=item.id,
            instruction=cfg.instruction,
            answer=answer_text(item.frame),
            text=item.text,
            audio=item.audio,
            task="slu",
            language=item.language,
            frame=item.frame,
        )
    ]
