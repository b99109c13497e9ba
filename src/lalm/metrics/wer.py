"""Word error rate of what was heard against the transcript; characters in languages without blanks between words.

Both sides are normalised (`_text`): lower case, punctuation aside. `wer_orthographic` counts the same without that.
"""

from __future__ import annotations

import numpy as np

from lalm.metrics._edits import edit_distance
from lalm.metrics._text import normalised, units
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
    gold, heard = (units(normalised(text, language), language) for text in (reference.text, hypothesis.text))
    return (float(edit_distance(gold, heard)), float(len(gold))) if gold else None


def reduce(counts: np.ndarray) -> np.ndarray:
    """edits / units over the last axis."""
    return counts[..., 0] / counts[..., 1]
