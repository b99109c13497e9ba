"""Word error rate of the text as it is written, case and punctuation included; characters where no blanks part words."""

from __future__ import annotations

import numpy as np

from lalm.metrics._edits import edit_distance
from lalm.metrics._text import orthographic, units
from lalm.plugins import PluginConfig
from lalm.records import Reading

HIGHER_IS_BETTER = False


class Config(PluginConfig):
    """No options."""


def count(reference: Reading, hypothesis: Reading) -> tuple[float, ...] | None:
    """(edits, units of the reference); None without words on both sides."""
    if reference.text is None or hypothesis.text is None:
        return None
    language = reference.language
    gold, heard = (units(orthographic(text), language) for text in (reference.text, hypothesis.text))
    return (float(edit_distance(gold, heard)), float(len(gold))) if gold else None


def reduce(counts: np.ndarray) -> np.ndarray:
    """edits / units over the last axis."""
    return counts[..., 0] / counts[..., 1]
