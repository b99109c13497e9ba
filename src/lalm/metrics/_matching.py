"""What counts as equal: slots are compared in lower case with single blanks, as a multiset."""

from __future__ import annotations

from collections import Counter

from lalm.records import Frame, Slot


def normal(text: str) -> str:
    """Lower case, single blanks."""
    return " ".join(text.lower().split())


def slot_counts(frame: Frame | None) -> Counter[tuple[str, str]]:
    """The frame's slots as a multiset of (type, value); none for an answer that could not be parsed."""
    slots: tuple[Slot, ...] = frame.slots if frame is not None else ()
    return Counter((slot.type, normal(slot.value)) for slot in slots)


def same_intent(reference: Frame, hypothesis: Frame | None) -> bool:
    """Whether the intent is right; an answer that could not be parsed is wrong."""
    return hypothesis is not None and (reference.intent or "") == (hypothesis.intent or "")
