"""Transcribe: the words of an utterance, as they stand in the transcript.

A written row is given in the connector's own tongue (phones, or words with what the ear confuses), so turning it into
words is worth learning with the connectors that have one; with the others it is copying. Rows without a transcript and
rows with turns are left out.
"""

from __future__ import annotations

from random import Random

from pydantic import Field

from lalm.plugins import PluginConfig
from lalm.records import Example, Utterance


class Config(PluginConfig):
    """Options of the task."""

    instruction: str = Field(
        "Write down what is said, word for word.", min_length=1, description="what the model is told first"
    )
    written: bool = Field(True, description="make examples of written rows, too")


def examples(item: Utterance, cfg: Config, rng: Random) -> list[Example]:
    """One example, whose answer is the transcript."""
    if not item.text or item.turns or (item.audio is None and not cfg.written):
        return []
    return [
        Example(
            id=item.id,
            instruction=cfg.instruction,
            answer=item.text,
            text=item.text,
            audio=item.audio,
            task="transcribe",
            language=item.language,
            answers=(item.text,),
        )
    ]
