"""Word error rate of what was heard against the transcript; characters in languages without blanks between words.

Both sides are normalised (`_text`): lower case, punctuation aside. `wer_orthographic` counts the same without that.
"""

from __future__ import annotations

import numpy as np

from lalm.metrics._edits import count_errors, error_rate
from lalm.metrics._text import normalised, units
from lalm.plugins import PluginConfig
from lalm.records import Reading

HIGHER_IS_BETTER = False


class Config(PluginConfig):
    """No options."""


def count(reference: Reading, hypothesis: Reading) -> tuple[float, ...] | None:
    """(edits, units of the reference); None without words on both sides."""
    return count_errors(reference, hypothesis, lambda text, language: units(normalised(text, language), language))


def reduce(counts: np.ndarray) -> np.ndarray:
    """edits / units over the last axis."""
    return error_rate(counts)
