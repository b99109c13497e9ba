"""From the model's answer to a frame, never guessing: `ok` as it stands, `repaired` by a stated rule, or `failed`.

Rules of repair: text around the first object is dropped; an answer that was cut off is closed after its last finished
part, so an unfinished intent fails and an unfinished slot is dropped; slots given as one object, as `type` and `value`
(or SLURP's `filler`), or under the study's keys `scenario`, `action`, `entities`, are read as what they mean; numbers
and truth values among the slots are taken as written, and what is no slot there is dropped, if any slot is left.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from lalm.records import Frame, Slot, Status

_MAX_CUTS = 64  # finished parts that are tried, the last first
_MAX_DEPTH = 8  # an answer has three brackets open at most


def parse_answer(raw: str) -> tuple[Frame | None, Status]:
    """The frame of an answer and how it was read; None and `failed` if it holds no frame. Never raises."""
    value = _json(raw)
    frame = _strict(value)
    if frame is not None:
        return frame, "ok"
    candidates = [value] if isinstance(value, dict) else (_json(text) for text in _candidates(raw))
    repaired = next((frame for frame in map(_lenient, candidates) if frame is not None), None)
    return (repaired, "repaired") if repaired is not None else (None, "failed")


def asks_back(raw: str) -> bool:
    """Whether an answer in words asks back: it ends with a question mark, quotes and brackets behind it aside.

    So do the annotated clarifications of Abg-CoQA and its like. Other scripts' question marks count as well.
    """
    return raw.rstrip(" \t\r\n\"'\u201d\u2019\u00bb)]*_").endswith(("?", "\uff1f", "\u061f"))


def _json(text: str) -> Any:
    """The value of JSON text; None if it is none, names a key twice, or holds halves of characters."""
    try:
        value = json.loads(text, object_pairs_hook=_distinct)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key stands twice")
    return value


def _strict(value: Any) -> Frame | None:
    """Exactly the keys `intent` and `slots`, every slot an object of one pair of strings."""
    if not isinstance(value, dict) or set(value) != {"intent", "slots"} or not isinstance(value["slots"], list):
        return None
    if value["intent"] is not None and not isinstance(value["intent"], str):
        return None
    slots = []
    for item in value["slots"]:
        if not isinstance(item, dict) or len(item) != 1:
            return None
        ((name, content),) = item.items()
        if not isinstance(content, str):
            return None
        slots.append(Slot(name, content))
    return Frame(value["intent"], tuple(slots))


def _lenient(value: Any) -> Frame | None:
    if not isinstance(value, dict):
        return None
    intent = value.get("intent")
    if intent is None and isinstance(value.get("scenario"), str) and isinstance(value.get("action"), str):
        intent = f"{value['scenario']}_{value['action']}"
    if not isinstance(intent, str):
        return None
    given = value.get("slots", value.get("entities", []))
    items = [_slots(item) for item in (given if isinstance(given, list) else [given])]
    slots = tuple(slot for found in items for slot in found or ())
    if (
        any(found is None for found in items) and not slots
    ):  # what was named cannot be read; to name nothing may be right
        return None
    return Frame(intent, slots)


def _slots(item: Any) -> list[Slot] | None:
    """The slots of one object: `{"type": ..., "value": ...}`, or a pair a slot; None for what is neither."""
    if not isinstance(item, dict):
        return None
    name, content = item.get("type"), item.get("value", item.get("filler"))
    if len(item) == 2 and isinstance(name, str) and isinstance(content, str):
        return [Slot(name, content)]
    if not all(isinstance(content, str | int | float) for content in item.values()):
        return None
    return [Slot(name, content if isinstance(content, str) else json.dumps(content)) for name, content in item.items()]


def _candidates(raw: str) -> Iterator[str]:
    """The first object of `raw`; if it does not end, its beginnings up to each finished part, closed, longest first."""
    start = raw.find("{")
    if start < 0:
        return
    cuts: list[tuple[int, str]] = []  # end of a finished part, the brackets that close it there
    closing: list[str] = []
    in_string = escaped = False
    for position, character in enumerate(raw[start:], start):
        if in_string:
            in_string = escaped or character != '"'
            escaped = character == "\\" and not escaped
            if in_string:
                continue
        elif character == '"':
            in_string = True
            continue
        elif character in "{[":
            closing.append("}" if character == "{" else "]")
            if len(closing) > _MAX_DEPTH:
                break
        elif character in "}]":
            if closing.pop() != character:  # not cut off, but wrong
                return
            if not closing:
                yield raw[start : position + 1]
                return
        elif character != ",":
            continue
        end = position if character == "," else position + 1
        cuts.append((end, "".join(reversed(closing))))
    for end, ending in reversed(cuts[-_MAX_CUTS:]):
        yield raw[start:end] + ending
