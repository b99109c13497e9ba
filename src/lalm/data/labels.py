"""How a frame is written as the model's answer: one line of JSON, the same in training, evaluation and serving."""

from __future__ import annotations

import json

from lalm.records import Frame


def answer_text(frame: Frame) -> str:
    """`{"intent": "orderDrink", "slots": [{"size": "large"}]}`: slots in the order of the label, values as written.

    The layout follows the study's prompt (arXiv 2509.15389: entities as a list of one-pair objects), with the intent
    in one field because corpora name intents in ways that do not always split into scenario and action.
    """
    return json.dumps(
        {"intent": frame.intent, "slots": [{slot.type: slot.value} for slot in frame.slots]}, ensure_ascii=False
    )
