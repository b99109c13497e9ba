"""Which row is seen when: every row its promised number of times, pools mixed, seeded, whatever the micro-batches."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lalm.records import Stage
from lalm.train.order import batches, epoch_rows


def stage(passes: dict[str, float], epochs: int = 3, name: str = "mixed") -> Stage:
    return Stage(name, passes, epochs)


def seen(one: Stage, sizes: dict[str, int], seed: int = 0) -> list[list[tuple[str, int]]]:
    return [epoch_rows(one, sizes, epoch, seed) for epoch in range(one.epochs)]


def test_one_pass_is_every_row_once_in_every_epoch():
    for rows in seen(stage({"text": 1.0, "speech": 1.0}), {"text": 13, "speech": 4}):
        assert sorted(rows) == [("speech", i) for i in range(4)] + [("text", i) for i in range(13)]


def test_three_passes_in_one_epoch_are_every_row_three_times():
    (rows,) = seen(stage({"text": 1.0, "speech": 3.0}, epochs=1), {"text": 10, "speech": 7})
    counts = Counter(rows)
    assert {counts["speech", i] for i in range(7)} == {3}
    assert {counts["text", i] for i in range(10)} == {1}


@pytest.mark.parametrize("size", [1, 2, 7, 100, 319])
def test_a_third_of_a_pass_in_each_of_three_epochs_is_every_row_once_in_all(size):
    epochs = seen(stage({"speech": 1 / 3}), {"speech": size})
    assert Counter(row for rows in epochs for row in rows) == Counter(("speech", i) for i in range(size))
    assert all(abs(len(rows) - size / 3) < 1 for rows in epochs)


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(1, 40),
    total=st.floats(0.1, 4.0),
    epochs=st.integers(1, 5),
    seed=st.integers(0, 5),
)
def test_no_row_is_seen_twice_more_than_another(size, total, epochs, seed):
    counts = Counter(
        row for rows in seen(stage({"speech": total / epochs}, epochs), {"speech": size}, seed) for row in rows
    )
    often = [counts["speech", i] for i in range(size)]
    assert max(often) - min(often) <= 1
    assert abs(sum(often) - total * size) <= 0.5 + 1e-9


def test_an_empty_pool_and_no_passes_give_no_rows():
    assert seen(stage({"text": 0.0, "speech": 1.0}, 1), {"text": 5, "speech": 0}) == [[]]


def test_the_order_is_the_seeds_and_the_epochs_own_and_repeatable():
    one, sizes = stage({"text": 1.0}), {"text": 50}
    first, second, third = seen(one, sizes)
    assert len({tuple(first), tuple(second), tuple(third)}) == 3
    assert seen(one, sizes) == [first, second, third]
    assert seen(one, sizes, seed=1)[0] != first
    assert seen(stage({"text": 1.0}, name="text"), sizes)[0] != first
    assert epoch_rows(one, sizes, 2, 0) == third, "an epoch does not depend on the ones before"


def lengths_of(rows: list[tuple[str, int]]) -> dict[tuple[str, int], int]:
    """Recordings are all longer than sentences."""
    return {(pool, i): (100 if pool == "speech" else 10) + i % 9 for pool, i in rows}


def test_steps_hold_every_row_once_and_are_full_but_for_the_last():
    rows = epoch_rows(stage({"text": 1.0, "speech": 1.0}), {"text": 61, "speech": 22}, 0, 0)
    steps = batches(rows, lengths_of(rows), 8, "seed")
    assert Counter(row for step in steps for row in step) == Counter(rows)
    assert sorted(len(step) for step in steps) == [3, *[8] * 10]
    assert steps == batches(rows, lengths_of(rows), 8, "seed") != batches(rows, lengths_of(rows), 8, "other")


def test_every_step_mixes_the_pools_though_recordings_are_longer():
    rows = epoch_rows(stage({"text": 1.0, "speech": 1.0}), {"text": 96, "speech": 96}, 0, 0)
    window = rows[:32]
    share = sum(pool == "speech" for pool, _ in window) / 32
    steps = batches(window, lengths_of(rows), 8, "seed")
    for step in steps:
        assert abs(sum(pool == "speech" for pool, _ in step) - 8 * share) <= 1


def test_rows_of_like_length_stand_together():
    rows = [("text", i) for i in range(400)]
    lengths = {row: (row[1] * 37) % 200 for row in rows}
    steps = batches(rows, lengths, 10, "seed")
    padding = sum(max(lengths[row] for row in step) * len(step) - sum(lengths[row] for row in step) for step in steps)
    plain = [rows[i : i + 10] for i in range(0, 400, 10)]
    unsorted = sum(max(lengths[row] for row in step) * len(step) - sum(lengths[row] for row in step) for step in plain)
    assert padding < 0.4 * unsorted
