"""SLURP's entity counts (Bastianelli et al. 2020, section 4.2, and its released scorer).

Predicted entities are taken in their order. One whose type occurs among the labelled entities still left is a true
positive, whatever its words, and is matched with the nearest of them; the distance of the words, by words or by
characters, is added both to the false positives and to the false negatives. Sums of both distances give SLU-F1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from lalm.metrics._edits import edit_distance

Entity = tuple[str, str]  # type, words
Counts = tuple[float, float, float]  # true positives, false positives, false negatives


def exact_counts(gold: Sequence[Entity], found: Sequence[Entity]) -> Counts:
    """Counts of entities whose type and words are both right."""
    left = list(gold)
    hits = 0
    for entity in found:
        if entity in left:
            left.remove(entity)
            hits += 1
    return float(hits), float(len(found) - hits), float(len(left))


def distance_counts(gold: Sequence[Entity], found: Sequence[Entity], unit: Literal["word", "char"]) -> Counts:
    """Counts softened by the distance of the words, in words or characters."""
    left = list(gold)
    true = false_positive = false_negative = 0.0
    for kind, words in found:
        candidates = [i for i, entity in enumerate(left) if entity[0] == kind]
        if not candidates:
            false_positive += 1
            continue
        distances = [_distance(left[i][1], words, unit) for i in candidates]
        best = min(range(len(candidates)), key=distances.__getitem__)
        true += 1
        false_positive += distances[best]
        false_negative += distances[best]
        left.pop(candidates[best])
    return true, false_positive, false_negative + len(left)


def f1(true: float, false_positive: float, false_negative: float) -> tuple[float, float, float]:
    """Precision, recall and F1, each 0 where nothing can be divided."""
    precision = true / (true + false_positive) if true + false_positive else 0.0
    recall = true / (true + false_negative) if true + false_negative else 0.0
    return precision, recall, 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _distance(truth: str, words: str, unit: Literal["word", "char"]) -> float:
    """Word error rate, or Levenshtein distance over the longer length."""
    if unit == "word":
        reference = truth.split()
        return edit_distance(reference, words.split()) / len(reference) if reference else float(bool(words.split()))
    longest = max(len(truth), len(words))
    return edit_distance(truth, words) / longest if longest else 0.0
