"""Which row is seen when: pure, seeded, and the same however often a run is interrupted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

from lalm.records import Stage

Row = tuple[str, int]  # pool name and index in the pool
BUCKET_BATCHES = 4  # rows of like length are batched within windows of this many batches


def epoch_rows(stage: Stage, pool_sizes: Mapping[str, int], epoch: int, seed: int) -> list[Row]:
    """The rows of one epoch (from 0) of a stage, shuffled.

    Each pool is a stream of seeded permutations, read on from epoch to epoch, so that passes below one cover the pool
    evenly over the epochs and passes above one repeat no row before all others had their turn.
    """
    rows: list[Row] = []
    for pool, passes in sorted(stage.passes.items()):
        size = pool_sizes.get(pool, 0)
        start, end = round(epoch * passes * size), round((epoch + 1) * passes * size)
        for position in range(start, end):
            lap, offset = divmod(position, size)
            rows.append((pool, _permutation(size, f"{seed}/{stage.name}/{pool}/{lap}")[offset]))
    Random(f"{seed}/{stage.name}/{epoch}").shuffle(rows)
    return rows


def batches(
    rows: Sequence[Row], lengths: Mapping[Row, int], batch_size: int, seed: str
) -> list[list[Row]]:
    """Rows in batches of `batch_size`: sorted by length within windows of a few batches, batches shuffled again.

    A window is a random sample of the epoch, so every batch still mixes pools; only padding is saved.
    """
    window = batch_size * BUCKET_BATCHES
    result: list[list[Row]] = []
    for start in range(0, len(rows), window):
        ordered = sorted(rows[start : start + window], key=lambda row: lengths[row])
        result += [ordered[i : i + batch_size] for i in range(0, len(ordered), batch_size)]
    Random(seed).shuffle(result)
    return result


_permutations: dict[tuple[int, str], list[int]] = {}


def _permutation(size: int, seed: str) -> list[int]:
    key = (size, seed)
    if key not in _permutations:
        order = list(range(size))
        Random(seed).shuffle(order)
        _permutations[key] = order
    return _permutations[key]
