"""Of the requests that were answered by asking back, the share that is ambiguous."""

from __future__ import annotations

import numpy as np

from lalm.metrics._asking import counts
from lalm.plugins import PluginConfig
from lalm.records import Reading

HIGHER_IS_BETTER = True


class Config(PluginConfig):
    """No options."""


def count(reference: Reading, hypothesis: Reading) -> tuple[float, ...] | None:
    """(asked rightly, asked wrongly); None where the question does not arise."""
    found = counts(reference, hypothesis)
    return None if found is None else (found[0], found[1])


def reduce(counts: np.ndarray) -> np.ndarray:
    """asked rightly / asked over the last axis; NaN where nothing was asked."""
    total = counts.sum(axis=-1)
    return np.where(total > 0, counts[..., 0] / np.where(total > 0, total, 1), np.nan)
