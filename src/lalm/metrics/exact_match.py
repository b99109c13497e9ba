"""Share of utterances with the right intent and exactly the labelled slots, as a multiset."""

from __future__ import annotations

import numpy as np

from lalm.metrics._matching import same_intent, slot_counts
from lalm.plugins import PluginConfig
from lalm.records import Reading

HIGHER_IS_BETTER = True


class Config(PluginConfig):
    """No options."""


def count(reference: Reading, hypothesis: Reading) -> tuple[float, ...] | None:
    """(right, 1)."""
    if reference.frame is None:
        return None
    right = same_intent(reference.frame, hypothesis.frame)
    return float(right and slot_counts(reference.frame) == slot_counts(hypothesis.frame)), 1.0


def reduce(counts: np.ndarray) -> np.ndarray:
    """right / utterances over the last axis."""
    return counts[..., 0] / counts[..., 1]
