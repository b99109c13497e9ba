"""Slots in the answer that the label does not have, per answer that could be parsed."""

from __future__ import annotations

import numpy as np

from lalm.metrics._matching import slot_counts
from lalm.plugins import PluginConfig
from lalm.records import Reading

HIGHER_IS_BETTER = False


class Config(PluginConfig):
    """No options."""


def count(reference: Reading, hypothesis: Reading) -> tuple[float, ...] | None:
    """(extra slots, 1); None for an answer that could not be parsed, which must not look like one without extras."""
    if reference.frame is None or hypothesis.frame is None:
        return None
    extra = slot_counts(hypothesis.frame) - slot_counts(reference.frame)
    return float(sum(extra.values())), 1.0


def reduce(counts: np.ndarray) -> np.ndarray:
    """extra slots / answers over the last axis."""
    return counts[..., 0] / counts[..., 1]
