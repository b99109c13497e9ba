"""Where slot values stand in a sentence: what formats that mark them within the text need."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lalm.errors import DataError
from lalm.records import Slot


def place_slots(text: str, slots: Sequence[Slot]) -> list[tuple[int, int, Slot]]:
    """Start, end and slot, in the order of the text: each value where it stands first and no other slot does.

    Whole words are preferred, case does not matter. Raises DataError for values that do not stand there.
    """
    taken: list[tuple[int, int, Slot]] = []
    for slot in slots:
        span = next((span for span in _places(text, slot.value) if _is_free(span, taken)), None)
        if span is None:
            raise DataError(f"slot '{slot.type}': {slot.value!r} does not stand in {text!r}, where it must be marked.")
        taken.append((*span, slot))
    return sorted(taken, key=lambda one: one[0])


def _places(text: str, value: str) -> list[tuple[int, int]]:
    if not value.strip():
        return []
    found = [match.span() for match in re.finditer(re.escape(value), text, re.IGNORECASE)]
    whole = [span for span in found if not re.match(r"\w\w", text[max(0, span[0] - 1) : span[0] + 1])]
    whole = [span for span in whole if not re.match(r"\w\w", text[span[1] - 1 : span[1] + 1])]
    return whole + [span for span in found if span not in whole]


def _is_free(span: tuple[int, int], taken: Sequence[tuple[int, int, Slot]]) -> bool:
    return all(span[1] <= start or span[0] >= end for start, end, _ in taken)
