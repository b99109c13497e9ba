"""Slots alone: what an utterance names, answered as one line of JSON.

The answer is the end of what `slu` teaches: `{"slots": [{"size": "large"}]}`. A labelled row that names nothing teaches an
empty list; rows without any label and rows with turns are left out.
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
        'Extract the slots alone and return them as one line of JSON: {"slots": [{"<slot type>": "<value>"}, ...]}',
        min_length=1,
        description="what the model is told first",
    )


def final(raw: str) -> str:
    """An answer as `slu` has it: without an intent."""
    start = raw.find("{")
    rest = raw[start + 1 :].lstrip()
    return f'{raw[:start]}{{"intent": null, {rest}' if start >= 0 and rest.startswith('"slots"') else raw


def examples(item: Utterance, cfg: Config, rng: Random) -> list[Example]:
    """One example: spoken if the item has audio, else written."""
    if item.turns or item.frame == Frame(None):
        return []
    slots = [{slot.type: slot.value} for slot in item.frame.slots]
    return [
        Example(
            id=item.id,
            instruction=cfg.instruction,
            answer=json.dumps({"slots": slots}, ensure_ascii=False),
            text=item.text,
            audio=item.audio,
            task="slots_only",
            language=item.language,
            frame=Frame(None, item.frame.slots),
        )
    ]
