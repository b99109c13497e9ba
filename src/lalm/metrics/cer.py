"""Character error rate of what was heard against the transcript, both normalised; in every language."""

from __future__ import annotations

import numpy as np

from lalm.metrics._edits import edit_distance
from lalm.metrics._text import characters, normalised
from lalm.plugins import PluginConfig
from lalm.records import Reading

HIGHER_IS_BETTER = False


class Config(PluginConfig):
    """No options."""


def count(reference: Reading, hypothesis: Reading) -> tuple[float, ...] | None:
    """(edits, characters of the reference); a blank between words is a character. None without words on both sides."""
    if reference.text is None or hypothesis.text is None:
        return None
    language = reference.language
    gold, heard = (characters(normalised(text, language), language) for text in (reference.text, hypothesis.text))
    return (float(edit_distance(gold, heard)), float(len(gold))) if gold else None


def reduce(counts: np.ndarray) -> np.ndarray:
    """edits / characters over the last axis."""
    return counts[..., 0] / counts[..., 1]
