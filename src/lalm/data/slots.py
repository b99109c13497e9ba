"""The ways people write slots, turned into the one that this project uses."""

from __future__ import annotations

import json
from typing import Any

from lalm.records import Slot

ALLOWED = '{"type": "value"}, {"type": ["value", "value"]}, [{"type": "value"}] or [{"type": "TYPE", "value": "VALUE"}]'


def parse_slots(value: Any) -> tuple[Slot, ...]:
    """Slots from an object of values (or lists of values) by type, or from a list of slots; None is no slots.

    Raises ValueError with what is wrong and what would be right.
    """
    if value is None:
        return ()
    if isinstance(value, dict):
        return tuple(slot for kind, given in value.items() for slot in _of_type(kind, given))
    if isinstance(value, list):
        return tuple(slot for item in value for slot in _of_item(item))
    raise ValueError(f"is {_shown(value)}; slots are written {ALLOWED}")


def slots_from_text(cell: str) -> tuple[Slot, ...]:
    """Slots from a cell that holds JSON; an empty cell is no slots. Raises ValueError like `parse_slots`."""
    if not cell:
        return ()
    try:
        value = json.loads(cell)
    except (ValueError, RecursionError):
        raise ValueError(f"is {_shown(cell)}, which is not JSON; slots are written {ALLOWED}") from None
    return parse_slots(value)


def _of_type(kind: str, given: Any) -> list[Slot]:
    values = given if isinstance(given, list) else [given]
    if not kind or not all(isinstance(one, str) for one in values):
        raise ValueError(f"has {_shown({kind: given})}; a slot's type and value are strings")
    return [Slot(kind, one) for one in values]


def _of_item(item: Any) -> list[Slot]:
    if isinstance(item, dict) and set(item) == {"type", "value"}:
        return _of_type(item["type"], item["value"]) if isinstance(item["type"], str) else _wrong(item)
    if isinstance(item, dict) and len(item) == 1:
        return [slot for kind, given in item.items() for slot in _of_type(kind, given)]
    return _wrong(item)


def _wrong(item: Any) -> list[Slot]:
    raise ValueError(f"has {_shown(item)}; slots are written {ALLOWED}")


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
