"""Word error rate of what was heard against the transcript, where both are known."""

from __future__ import annotations

import re

import numpy as np

from lalm.metrics._edits import edit_distance
from lalm.plugins import PluginConfig
from lalm.records import Reading

HIGHER_IS_BETTER = False


class Config(PluginConfig):
    """No options."""


def count(reference: Reading, hypothesis: Reading) -> tuple[float, ...] | None:
    """(word edits, words of the reference); lower case, punctuation aside. None without words on both sides."""
    if reference.text is None or hypothesis.text is None:
        return None
    gold, heard = _words(reference.text), _words(hypothesis.text)
    return (float(edit_distance(gold, heard)), float(len(gold))) if gold else None


def reduce(counts: np.ndarray) -> np.ndarray:
    """edits / words over the last axis."""
    return counts[..., 0] / counts[..., 1]


def _words(text: str) -> list[str]:
    return re.sub(r"[^\w' ]+", " ", text.lower().replace("\u2019", "'")).split()
