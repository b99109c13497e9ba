"""Of the requests that are not ambiguous, the share that was answered by asking back; lower is better."""

from __future__ import annotations

import numpy as np

from lalm.metrics._asking import counts
from lalm.plugins import PluginConfig
from lalm.records import Reading

HIGHER_IS_BETTER = False


class Config(PluginConfig):
    """No options."""


def count(reference: Reading, hypothesis: Reading) -> tuple[float, ...] | None:
    """(asked, not asked); None where the question does not arise."""
    found = counts(reference, hypothesis)
    return None if found is None else (found[1], found[3])


def reduce(counts: np.ndarray) -> np.ndarray:
    """asked / clear requests over the last axis; NaN where all requests are ambiguous."""
    total = counts.sum(axis=-1)
    return np.where(total > 0, counts[..., 0] / np.where(total > 0, total, 1), np.nan)
