"""Speech budgets: which recordings a run may use. Nested, seeded, balanced over intents and slot types.

All recordings are put into one seeded order in which every beginning is as balanced as it can be (or which a selector
gives); a budget is a beginning of that order. So 2 % is inside 5 %, whatever the unit of the budget.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from random import Random

import numpy as np

from lalm.data.dialogue import heard_s
from lalm.errors import DataError, many
from lalm.records import Utterance
from lalm.sections import DataSection, LanguageBudget

Choose = Callable[[Sequence[Utterance], int], list[Utterance]]  # rows, how many: that many of them, best first


def draw_stated(
    recordings: Sequence[Utterance], stated: DataSection | LanguageBudget, seed: int, choose: Choose | None
) -> list[Utterance]:
    """`draw` of the budget that a section of the recipe states."""
    return draw(
        recordings,
        share=stated.speech_share,
        items=stated.speech_items,
        minutes=stated.speech_minutes,
        seed=seed,
        choose=choose,
    )


def draw(
    recordings: Sequence[Utterance],
    *,
    share: float | None = None,
    items: int | None = None,
    minutes: float | None = None,
    seed: int = 0,
    choose: Choose | None = None,
) -> list[Utterance]:
    """The recordings of a budget: a share (0 to 1), a number of items, or minutes of audio; none of them means all.

    `choose` orders them (none: `balanced_order` with the seed). A share is rounded to the nearest item, half an item up.
    Raises DataError if there is nothing to draw from, if a budget above zero gives no item, if more items are asked for than
    there are, if more minutes are asked for than there are, or if durations are not known then.
    """
    if share == 0 or items == 0 or minutes == 0:
        return []
    if not recordings:
        if share is None and items is None and minutes is None:
            return []
        raise DataError("A speech budget above 0 is asked for and the corpus has no recordings to train on.")
    whole = len(recordings)
    number = items if items is not None else math.floor((1.0 if share is None else share) * whole + 0.5)
    if number > whole:
        raise DataError(f"data.speech_items: {items} recordings are asked for and the pool has {whole}.")
    if number == 0:
        raise DataError(
            f"data.speech_share: {share:g} of {whole} recordings is less than half a recording. "
            f"One recording is a share of {1 / whole:.3g}; for no recordings at all write 0."
        )
    ordered = balanced_order(recordings, seed) if choose is None else choose(recordings, number)
    return ordered[:number] if minutes is None else _minutes(ordered, minutes)


def _minutes(ordered: Sequence[Utterance], minutes: float) -> list[Utterance]:
    unknown = [row.id for row in ordered if heard_s(row) is None]
    if unknown:
        raise DataError(
            f"data.speech_minutes: {many(len(unknown), 'recording')} without duration_s, first '{unknown[0]}'."
        )
    there = sum(heard_s(row) or 0.0 for row in ordered)
    if 60 * minutes > there + 30:  # half a minute of rounding is forgiven
        raise DataError(f"data.speech_minutes: {minutes:g} are asked for and the pool has {there / 60:.2f}.")
    result: list[Utterance] = []
    seconds = 0.0
    for row in ordered:
        seconds += heard_s(row) or 0.0
        if seconds > 60 * minutes:
            break
        result.append(row)
    if not result:
        raise DataError(
            f"data.speech_minutes: {minutes:g} is shorter than the first recording ({heard_s(ordered[0]):.1f} s)."
        )
    return result


def balanced_order(recordings: Sequence[Utterance], seed: int, already: Sequence[Utterance] = ()) -> list[Utterance]:
    """All recordings in an order whose every beginning covers intents and slot types in the pool's proportions.

    Greedy: next comes a recording whose labels bring the counts so far nearest to their share of the pool (the largest
    fall of the squared distance); ties are broken by a seeded draw. Recordings with the same labels are one group, so
    that a corpus of fifty thousand takes seconds. Rows that are there `already` count as if they had come first.
    """
    shuffled = sorted(recordings, key=lambda row: row.id)
    Random(seed).shuffle(shuffled)
    groups: dict[frozenset[tuple[str, str]], list[Utterance]] = {}
    for row in shuffled:
        groups.setdefault(_labels(row), []).append(row)
    before = [_labels(row) for row in already]
    columns = {label: i for i, label in enumerate(sorted({label for group in [*groups, *before] for label in group}))}
    has = np.zeros((len(groups), len(columns)))
    for index, group in enumerate(groups):
        has[index, [columns[label] for label in group]] = 1
    queues = [deque(rows) for rows in groups.values()]
    left = np.array([len(queue) for queue in queues])
    drawn = np.zeros(len(columns))
    for labels in before:
        drawn[[columns[label] for label in labels]] += 1
    shares = (left @ has + drawn) / (len(shuffled) + len(before))
    order: list[Utterance] = []
    while len(order) < len(shuffled):
        wanted = (len(before) + len(order) + 1) * shares - drawn
        gain = np.where(left > 0, np.round(has @ (2 * wanted - 1), 6), -np.inf)
        best = int(gain.argmax())
        order.append(queues[best].popleft())
        left[best] -= 1
        drawn += has[best]
    return order


def _labels(row: Utterance) -> frozenset[tuple[str, str]]:
    """What a budget is balanced over; of dialogues also whether there is something to ask back."""
    asks = [("clarification", "")] if row.clarification is not None else []
    return frozenset([("intent", row.frame.intent or ""), *(("slot", slot.type) for slot in row.frame.slots), *asks])


def check_speakers_apart(train: Sequence[Utterance], test: Sequence[Utterance]) -> None:
    """Raises DataError if a known speaker is in both."""
    both = {row.speaker for row in train if row.speaker} & {row.speaker for row in test if row.speaker}
    if both:
        raise DataError(
            f"{many(len(both), 'speaker')} in training and in test, so the test would not say how new voices are understood.",
            [f"speaker '{name}'" for name in sorted(both)],
        )
