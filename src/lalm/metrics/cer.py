"""Character error rate of what was heard against the transcript, both normalised; in every language."""

from __future__ import annotations

import numpy as np

from lalm.metrics._edits import count_errors, error_rate
from lalm.metrics._text import characters, normalised
from lalm.plugins import PluginConfig
from lalm.records import Reading

HIGHER_IS_BETTER = False


class Config(PluginConfig):
    """No options."""


def count(reference: Reading, hypothesis: Reading) -> tuple[float, ...] | None:
    """(edits, characters of the reference); a blank between words is a character. None without words on both sides."""
    return count_errors(reference, hypothesis, lambda text, language: characters(normalised(text, language), language))


def reduce(counts: np.ndarray) -> np.ndarray:
    """edits / characters over the last axis."""
    return error_rate(counts)
