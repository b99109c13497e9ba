"""Speech budgets: nested, seeded, balanced, and refused where they cannot be met."""

from __future__ import annotations

import itertools
from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lalm.data.budget import balanced_order, check_speakers_apart, draw
from lalm.errors import DataError
from lalm.records import Frame, Slot, Utterance


def recording(number, intent="a", slots=(), duration_s=2.0, speaker=None):
    frame = Frame(intent, tuple(Slot(kind, "x") for kind in slots))
    return Utterance(f"r{number:04d}", frame=frame, duration_s=duration_s, speaker=speaker, source="recorded")


def pool(size=200):
    """Three intents at 60, 30 and 10 %, two slot types at 50 and 25 %, in a random order."""
    rng = Random(0)
    rows = []
    for number in range(size):
        intent = "often" if number % 10 < 6 else "some" if number % 10 < 9 else "rare"
        slots = [kind for kind, every in (("half", 2), ("quarter", 4)) if rng.random() < 1 / every]
        rows.append(recording(number, intent, slots, duration_s=1 + rng.random() * 4))
    rng.shuffle(rows)
    return rows


def ids(rows):
    return [row.id for row in rows]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 5), st.lists(st.floats(0.02, 1.0), min_size=2, max_size=4))
def test_a_smaller_budget_is_inside_a_larger_one(seed, shares):
    rows = pool(60)
    drawn = [ids(draw(rows, share=share, seed=seed)) for share in sorted(shares)]
    for smaller, larger in itertools.pairwise(drawn):
        assert larger[: len(smaller)] == smaller


def test_shares_items_and_minutes_are_beginnings_of_one_order():
    rows = pool()
    whole = ids(draw(rows))
    assert sorted(whole) == sorted(ids(rows))
    assert ids(draw(rows, share=0.02)) == whole[:4]
    assert ids(draw(rows, share=0.05)) == whole[:10]
    assert ids(draw(rows, items=17)) == whole[:17]
    minutes = draw(rows, minutes=1.0)
    assert ids(minutes) == whole[: len(minutes)]
    following = next(row for row in rows if row.id == whole[len(minutes)])
    seconds = sum(row.duration_s for row in minutes)
    assert seconds <= 60 < seconds + following.duration_s
    assert draw(rows, share=0) == draw(rows, items=0) == draw(rows, minutes=0) == draw([]) == []


def test_half_an_item_is_rounded_up_whatever_the_size_of_the_pool():
    for size in (10, 30, 50, 70, 90):
        assert len(draw(pool(size), share=0.05)) == (size + 10) // 20


def test_the_draw_depends_on_the_seed_and_not_on_the_order_of_the_file():
    rows = pool()
    again = list(reversed(rows))
    assert ids(draw(rows, share=0.1, seed=3)) == ids(draw(again, share=0.1, seed=3))
    draws = {tuple(sorted(ids(draw(rows, share=0.1, seed=seed)))) for seed in range(5)}
    assert len(draws) == 5


@pytest.mark.parametrize("seed", range(3))
def test_every_beginning_has_intents_and_slot_types_in_the_pools_proportions(seed):
    rows = pool()
    expected = {("often",): 0.6, ("some",): 0.3, ("rare",): 0.1}
    kinds = Counter(slot.type for row in rows for slot in row.frame.slots)
    order = balanced_order(rows, seed)
    for number in (10, 20, 40, 100):
        part = order[:number]
        for (intent,), share in expected.items():
            assert abs(sum(row.frame.intent == intent for row in part) - share * number) <= 1
        for kind, count in kinds.items():
            got = sum(any(slot.type == kind for slot in row.frame.slots) for row in part)
            assert abs(got - count / len(rows) * number) <= 2


def test_balance_is_better_than_chance():
    """The rare intent (10 %) is in ten recordings of every draw; a plain random draw misses it about every third time."""
    rows = pool()
    assert all(any(r.frame.intent == "rare" for r in draw(rows, items=10, seed=seed)) for seed in range(20))
    missed = sum(not any(r.frame.intent == "rare" for r in Random(seed).sample(rows, 10)) for seed in range(20))
    assert missed > 0


def test_budgets_that_cannot_be_met_are_refused():
    rows = pool(20)
    with pytest.raises(DataError, match=r"0\.01 of 20 recordings is less than half a recording") as error:
        draw(rows, share=0.01)
    assert "0.05" in str(error.value)
    assert len(draw(rows, share=0.05)) == 1
    with pytest.raises(DataError, match="21 recordings are asked for and the pool has 20"):
        draw(rows, items=21)
    with pytest.raises(DataError, match="shorter than the first recording"):
        draw(rows, minutes=0.001)
    with pytest.raises(DataError, match="2 recordings without duration_s"):
        draw([*rows, recording(97, duration_s=None), recording(98, duration_s=None)], minutes=1)
    for budget in ({"share": 0.5}, {"items": 1}, {"minutes": 1}):
        with pytest.raises(DataError, match="no recordings to train on"):
            draw([], **budget)


def test_a_speaker_in_both_sets_is_named_and_unknown_speakers_are_not():
    train = [recording(1, speaker="anna"), recording(2, speaker="bob"), recording(3)]
    check_speakers_apart(train, [recording(4, speaker="carl"), recording(5)])
    with pytest.raises(DataError, match="1 speaker in training and in test") as error:
        check_speakers_apart(train, [recording(4, speaker="bob"), recording(5, speaker="carl")])
    assert error.value.problems == ("speaker 'bob'",)
