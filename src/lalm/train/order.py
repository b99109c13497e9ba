"""Which row is seen when: pure, seeded, and the same however often a run is interrupted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

from lalm.records import Stage

Row = tuple[str, int]  # pool name and index in the pool
BUCKET_STEPS = 4  # rows of like length are put together within windows of this many steps


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


def batches(rows: Sequence[Row], lengths: Mapping[Row, int], step_size: int, seed: str) -> list[list[Row]]:
    """Rows in optimizer steps of `step_size` rows: ordered by length within windows of a few steps, steps shuffled again.

    A window is a random sample of the epoch. What orders a row is the rank of its length among the window's rows of the
    same pool, so that every step mixes the pools as the window does, even if recordings are longer than sentences.
    Micro-batches are cut from a step afterwards, so that a step holds the same rows however small they are.
    """
    window = step_size * BUCKET_STEPS
    result: list[list[Row]] = []
    for start in range(0, len(rows), window):
        ordered = _by_rank(rows[start : start + window], lengths)
        result += [ordered[i : i + step_size] for i in range(0, len(ordered), step_size)]
    Random(seed).shuffle(result)
    return result


def _by_rank(rows: Sequence[Row], lengths: Mapping[Row, int]) -> list[Row]:
    ranked = []
    for pool in dict.fromkeys(pool for pool, _ in rows):
        members = sorted((row for row in rows if row[0] == pool), key=lambda row: lengths[row])
        ranked += [((rank + 0.5) / len(members), row) for rank, row in enumerate(members)]
    return [row for _, row in sorted(ranked, key=lambda item: item[0])]


_permutations: dict[tuple[int, str], list[int]] = {}


def _permutation(size: int, seed: str) -> list[int]:
    key = (size, seed)
    if key not in _permutations:
        order = list(range(size))
        Random(seed).shuffle(order)
        _permutations[key] = order
    return _permutations[key]
