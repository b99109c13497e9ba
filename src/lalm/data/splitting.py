"""Recordings into a pool for training and a test set: seeded, speakers apart where they are known."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from random import Random

from lalm.data.budget import balanced_order
from lalm.records import Utterance

MAX_TEST = 200


def choose_test(recordings: Sequence[Utterance], seed: int = 0) -> set[str]:
    """The ids of the test recordings: about half of them, at most `MAX_TEST`, never all.

    Half, because the test must be large enough to tell what more speech buys. Speakers are taken whole where at least
    two are known (recordings without one count as a speaker each); else intents and slot types are balanced.
    """
    target = min(len(recordings) // 2, MAX_TEST)
    if target == 0:
        return set()
    speakers = {row.speaker for row in recordings if row.speaker}
    if len(speakers) < 2:
        return {row.id for row in balanced_order(recordings, seed)[:target]}
    groups: dict[str, list[str]] = defaultdict(list)
    for row in sorted(recordings, key=lambda row: row.id):
        groups[f"speaker {row.speaker}" if row.speaker else f"row {row.id}"].append(row.id)
    order = sorted(groups)
    Random(seed).shuffle(order)
    test: set[str] = set()
    for name in order:
        if len(test) + len(groups[name]) <= target:
            test.update(groups[name])
    return test or set(groups[min(order, key=lambda name: len(groups[name]))])
