"""Levenshtein distance: least insertions, deletions and substitutions."""

from __future__ import annotations

from collections.abc import Sequence


def edit_distance(first: Sequence[object], second: Sequence[object]) -> int:
    """Edits between two sequences of anything comparable (characters of a string, words of a list)."""
    row = list(range(len(second) + 1))
    for i, left in enumerate(first, 1):
        diagonal, row[0] = row[0], i
        for j, right in enumerate(second, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (left != right))
    return row[-1]
