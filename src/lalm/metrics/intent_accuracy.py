"""Share of utterances whose intent is right; an answer that could not be parsed is wrong."""

from __future__ import annotations

import numpy as np

from lalm.metrics._matching import same_intent
from lalm.plugins import PluginConfig
from lalm.records import Reading

HIGHER_IS_BETTER = True


class Config(PluginConfig):
    """No options."""


def count(reference: Reading, hypothesis: Reading) -> tuple[float, ...] | None:
    """(right, 1); None for an utterance without a labelled intent."""
    if reference.frame is None or reference.frame.intent is None:
        return None
    return float(same_intent(reference.frame, hypothesis.frame)), 1.0


def reduce(counts: np.ndarray) -> np.ndarray:
    """right / utterances over the last axis."""
    return counts[..., 0] / counts[..., 1]
