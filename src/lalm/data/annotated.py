"""Sentences with slots marked in them as MASSIVE and SLURP mark them: `wake me at [time : nine am]`."""

from __future__ import annotations

import re

from lalm.records import Slot

_SLOT = re.compile(r"\[\s*([^\[\]:]+?)\s*:\s*([^\[\]]*?)\s*\]")


def parse_annotated(text: str) -> tuple[str, tuple[Slot, ...]]:
    """The plain sentence and its slots, in their order. Raises ValueError for brackets that mark nothing."""
    slots = tuple(Slot(match[1], match[2]) for match in _SLOT.finditer(text) if match[2])
    plain = _SLOT.sub(lambda match: match[2], text)
    if "[" in plain or "]" in plain:
        raise ValueError(f"is {text!r:.80}; a slot is marked [type : value]")
    return plain, slots
