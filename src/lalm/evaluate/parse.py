"""From the model's answer to a frame, never guessing: `ok` as it stands, `repaired` by a stated rule, or `failed`.

Rules of repair, in order: text around the outermost braces is dropped; brackets and quotes that are missing at the end
are closed (an unfinished slot is dropped); slots given as one object, or under the paper's keys `scenario`, `action`,
`entities`, are read as what they mean.
"""

from __future__ import annotations

import json
from typing import Any

from lalm.records import Frame, Slot, Status


def parse_answer(raw: str) -> tuple[Frame | None, Status]:
    """The frame of an answer and how it was read. Never raises."""
    value = _json(raw.strip())
    if isinstance(value, dict):
        frame = _strict(value)
        if frame is not None:
            return frame, "ok"
        frame = _lenient(value)
        return (frame, "repaired") if frame is not None else (None, "failed")
    for candidate in _candidates(raw):
        value = _json(candidate)
        frame = _lenient(value) if isinstance(value, dict) else None
        if frame is not None:
            return frame, "repaired"
    return None, "failed"


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _strict(value: dict[str, Any]) -> Frame | None:
    """Exactly the keys `intent` and `slots`, every slot an object of one pair of strings."""
    if set(value) != {"intent", "slots"} or not isinstance(value["slots"], list):
        return None
    if value["intent"] is not None and not isinstance(value["intent"], str):
        return None
    slots = []
    for item in value["slots"]:
        if not isinstance(item, dict) or len(item) != 1:
            return None
        (name, content), *_ = item.items()
        if not isinstance(content, str):
            return None
        slots.append(Slot(name, content))
    return Frame(value["intent"], tuple(slots))


def _lenient(value: dict[str, Any]) -> Frame | None:
    intent = value.get("intent")
    if intent is None and isinstance(value.get("scenario"), str) and isinstance(value.get("action"), str):
        intent = f"{value['scenario']}_{value['action']}"
    if not isinstance(intent, str):
        return None
    given = value.get("slots", value.get("entities", []))
    items = given if isinstance(given, list) else [given]
    slots: list[Slot] = []
    for item in items:
        if not isinstance(item, dict):
            continue
        if isinstance(item.get("type"), str) and isinstance(item.get("value"), str):
            slots.append(Slot(item["type"], item["value"]))
            continue
        slots += [Slot(name, str(content)) for name, content in item.items() if isinstance(content, str | int | float)]
    return Frame(intent, tuple(slots))


def _candidates(raw: str) -> list[str]:
    """The stretch between the outermost braces, then the text from the first brace on, closed at its end."""
    start, end = raw.find("{"), raw.rfind("}")
    if start < 0:
        return []
    found = [raw[start : end + 1]] if end > start else []
    cut = raw[start:]
    for _ in range(64):
        found.append(_close(cut))
        shorter = max(cut.rfind(","), cut.rfind("{"))
        if shorter <= 0:
            break
        cut = cut[:shorter]
    return found


def _close(text: str) -> str:
    """`text` with the quotes and brackets that are open at its end closed."""
    stack: list[str] = []
    quoted = escaped = False
    for character in text:
        if quoted:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                quoted = False
        elif character == '"':
            quoted = True
        elif character in "{[":
            stack.append("}" if character == "{" else "]")
        elif character in "}]" and stack:
            stack.pop()
    return text + ('"' if quoted else "") + "".join(reversed(stack))
