"""How a frame is written as the model's answer: one line of JSON, the same in training, evaluation and serving."""

from __future__ import annotations

import json
from typing import Any

from lalm.data.slots import parse_slots
from lalm.records import Frame, Slot


def answer_text(frame: Frame) -> str:
    """`{"intent": "orderDrink", "slots": [{"size": "large"}]}`: slots in the order of the label, values as written.

    The layout follows the study's prompt (arXiv 2509.15389: entities as a list of one-pair objects), with the intent
    in one field because corpora name intents in ways that do not always split into scenario and action.
    """
    return json.dumps(
        {"intent": frame.intent, "slots": [{slot.type: slot.value} for slot in frame.slots]}, ensure_ascii=False
    )


def read_answer(text: str) -> Frame | None:
    """The frame of an answer that is one JSON object with an intent or slots, else None.

    Besides the layout of `answer_text`, `scenario`, `action` and `entities` are read, which SLURP's users teach.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    try:
        if isinstance(value.get("scenario"), str) and isinstance(value.get("action"), str):
            return Frame(f"{value['scenario']}_{value['action']}", _entities(value.get("entities")))
        intent = value.get("intent")
        if not {"intent", "slots"} & set(value) or not (intent is None or isinstance(intent, str)):
            return None
        return Frame(intent, parse_slots(value.get("slots")))
    except ValueError:
        return None


def _entities(value: Any) -> tuple[Slot, ...]:
    if isinstance(value, list) and all(isinstance(one, dict) and {"type", "filler"} <= set(one) for one in value):
        value = [{"type": one["type"], "value": one["filler"]} for one in value]
    return parse_slots(value)
