"""Micro F1 of slots: type and value must be right (lower case, single blanks); an unparsed answer has none."""

from __future__ import annotations

import numpy as np

from lalm.metrics._matching import slot_counts
from lalm.plugins import PluginConfig
from lalm.records import Reading

HIGHER_IS_BETTER = True


class Config(PluginConfig):
    """No options."""


def count(reference: Reading, hypothesis: Reading) -> tuple[float, ...] | None:
    """(true positives, false positives, false negatives)."""
    if reference.frame is None:
        return None
    gold, found = slot_counts(reference.frame), slot_counts(hypothesis.frame)
    return float((gold & found).total()), float((found - gold).total()), float((gold - found).total())


def reduce(counts: np.ndarray) -> np.ndarray:
    """2 tp / (2 tp + fp + fn) over the last axis; NaN where there is no slot, neither labelled nor answered."""
    total = 2 * counts[..., 0] + counts[..., 1] + counts[..., 2]
    return np.where(total > 0, 2 * counts[..., 0] / np.where(total > 0, total, 1), np.nan)
