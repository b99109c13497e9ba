"""Levenshtein distance (least insertions, deletions and substitutions), and what error rates count with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lalm.records import Reading

Cut = Callable[[str, str], Sequence[object]]  # words and their language -> units


def edit_distance(first: Sequence[object], second: Sequence[object]) -> int:
    """Edits between two sequences of anything comparable (characters of a string, words of a list)."""
    row = list(range(len(second) + 1))
    for i, left in enumerate(first, 1):
        diagonal, row[0] = row[0], i
        for j, right in enumerate(second, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (left != right))
    return row[-1]


def count_errors(reference: Reading, hypothesis: Reading, cut: Cut) -> tuple[float, ...] | None:
    """(edits, units of the reference), both sides cut alike; None without words on both sides, or without a unit."""
    if reference.text is None or hypothesis.text is None:
        return None
    gold, heard = (cut(text, reference.language) for text in (reference.text, hypothesis.text))
    return (float(edit_distance(gold, heard)), float(len(gold))) if gold else None


def error_rate(counts: np.ndarray) -> np.ndarray:
    """edits / units over the last axis."""
    rate: np.ndarray = counts[..., 0] / counts[..., 1]
    return rate
