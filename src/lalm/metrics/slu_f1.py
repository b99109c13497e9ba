"""SLU-F1 of SLURP: entity F1 in which a wrong wording costs its distance, in words and in characters.

Source: Bastianelli et al. 2020 (SLURP), section 4.2; counts as in its released scorer, over (type, value) in lower case.
"""

from __future__ import annotations

import numpy as np

from lalm.metrics._matching import normal
from lalm.metrics._slurp import distance_counts
from lalm.plugins import PluginConfig
from lalm.records import Frame, Reading

HIGHER_IS_BETTER = True


class Config(PluginConfig):
    """No options."""


def count(reference: Reading, hypothesis: Reading) -> tuple[float, ...] | None:
    """(true positives, false positives, false negatives), word and character distances added up."""
    if reference.frame is None:
        return None
    gold, found = _entities(reference.frame), _entities(hypothesis.frame)
    by_word, by_char = distance_counts(gold, found, "word"), distance_counts(gold, found, "char")
    return by_word[0] + by_char[0], by_word[1] + by_char[1], by_word[2] + by_char[2]


def reduce(counts: np.ndarray) -> np.ndarray:
    """2 tp / (2 tp + fp + fn) over the last axis; NaN where there is no entity, neither labelled nor answered."""
    total = 2 * counts[..., 0] + counts[..., 1] + counts[..., 2]
    return np.where(total > 0, 2 * counts[..., 0] / np.where(total > 0, total, 1), np.nan)


def _entities(frame: Frame | None) -> list[tuple[str, str]]:
    return [(slot.type, normal(slot.value)) for slot in frame.slots] if frame is not None else []
