"""Mean F1 of the words of answers, as SQuAD counts it (lower case, no punctuation, no articles)."""

from __future__ import annotations

import numpy as np

from lalm.metrics import _squad
from lalm.plugins import PluginConfig
from lalm.records import Reading

HIGHER_IS_BETTER = True


class Config(PluginConfig):
    """No options."""


def count(reference: Reading, hypothesis: Reading) -> tuple[float, ...] | None:
    """(F1, 1), with the right answer that gives most; None where no answer is due."""
    found = _squad.answers(reference, hypothesis)
    return None if found is None else (max(_squad.f1(right, found[1]) for right in found[0]), 1.0)


def reduce(counts: np.ndarray) -> np.ndarray:
    """Sum / questions over the last axis."""
    return counts[..., 0] / counts[..., 1]
