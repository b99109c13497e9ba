"""Intent alone: which intent an utterance has, answered as one line of JSON.

The answer is the beginning of what `slu` teaches, `{"intent": "orderDrink"}`, so the two do not pull against each other.
Rows without an intent and rows with turns are left out.
"""

from __future__ import annotations

import json
from random import Random

from pydantic import Field

from lalm.plugins import PluginConfig
from lalm.records import Example, Frame, Utterance


class Config(PluginConfig):
    """Options of the task."""

    instruction: str = Field(
        'Extract the intent alone and return it as one line of JSON: {"intent": "<string>"}',
        min_length=1,
        description="what the model is told first",
    )


def final(raw: str) -> str:
    """An answer as `slu` has it: without slots."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return raw
    return (
        json.dumps({**value, "slots": []}, ensure_ascii=False)
        if isinstance(value, dict) and set(value) == {"intent"}
        else raw
    )


def examples(item: Utterance, cfg: Config, rng: Random) -> list[Example]:
    """One example: spoken if the item has audio, else written."""
    if item.frame.intent is None or item.turns:
        return []
    return [
        Example(
            id=item.id,
            instruction=cfg.instruction,
            answer=json.dumps({"intent": item.frame.intent}, ensure_ascii=False),
            text=item.text,
            audio=item.audio,
            task="intent_only",
            language=item.language,
            frame=Frame(item.frame.intent),
        )
    ]
