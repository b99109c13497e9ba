"""Share of commands with the right intent and every labelled slot right; extra slots do not count against it.

The rule of Picovoice's speech-to-intent benchmark. How many slots were added is the metric `extra_slots`.
"""

from __future__ import annotations

import numpy as np

from lalm.metrics._matching import same_intent, slot_counts
from lalm.plugins import PluginConfig
from lalm.records import Reading

HIGHER_IS_BETTER = True


class Config(PluginConfig):
    """No options."""


def count(reference: Reading, hypothesis: Reading) -> tuple[float, ...] | None:
    """(accepted, 1)."""
    if reference.frame is None:
        return None
    missing = slot_counts(reference.frame) - slot_counts(hypothesis.frame)
    return float(same_intent(reference.frame, hypothesis.frame) and not missing), 1.0


def reduce(counts: np.ndarray) -> np.ndarray:
    """accepted / commands over the last axis."""
    return counts[..., 0] / counts[..., 1]
