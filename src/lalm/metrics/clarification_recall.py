"""Of the ambiguous requests, the share that was answered by asking back."""

from __future__ import annotations

import numpy as np

from lalm.metrics._asking import counts
from lalm.plugins import PluginConfig
from lalm.records import Reading

HIGHER_IS_BETTER = True


class Config(PluginConfig):
    """No options."""


def count(reference: Reading, hypothesis: Reading) -> tuple[float, ...] | None:
    """(asked, not asked); None where the question does not arise."""
    found = counts(reference, hypothesis)
    return None if found is None else (found[0], found[2])


def reduce(counts: np.ndarray) -> np.ndarray:
    """asked / ambiguous requests over the last axis; NaN where no request is ambiguous."""
    total = counts.sum(axis=-1)
    return np.where(total > 0, counts[..., 0] / np.where(total > 0, total, 1), np.nan)
