"""Word error rate of the text as it is written, case and punctuation included; characters where no blanks part words."""

from __future__ import annotations

import numpy as np

from lalm.metrics._edits import count_errors, error_rate
from lalm.metrics._text import orthographic, units
from lalm.plugins import PluginConfig
from lalm.records import Reading

HIGHER_IS_BETTER = False


class Config(PluginConfig):
    """No options."""


def count(reference: Reading, hypothesis: Reading) -> tuple[float, ...] | None:
    """(edits, units of the reference); None without words on both sides."""
    return count_errors(reference, hypothesis, lambda text, language: units(orthographic(text), language))


def reduce(counts: np.ndarray) -> np.ndarray:
    """edits / units over the last axis."""
    return error_rate(counts)
