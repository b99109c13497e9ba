"""Do tasks pull the shared weights the same way: cosines between the gradients of tasks, on a few fixed rows of each.

Source: the measure is that of PCGrad (arXiv 2001.06782, section 2.2): gradients with a negative cosine conflict. What is
measured where is ours: the trained weights as they are at the end of a stage, without dropout, the mean loss over the
answer tokens of a task's rows. A few rows are a noisy sample; so each task's rows are halved, and the cosine between the
halves says how alike gradients of one and the same task come out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from random import Random

import torch
from torch import Tensor

from lalm.contracts import Model
from lalm.records import Example, Stage

NUM_ROWS = 16  # of each task


def fixed_rows(stage: Stage, pools: Mapping[str, Sequence[Example]], seed: int) -> dict[str, list[Example]]:
    """A few rows of each task that a stage trains on, the same at every call: recordings where the stage has some of the task.

    Tasks with fewer than two rows are left out.
    """
    by_task: dict[str, dict[str, list[Example]]] = {}
    for pool, passes in sorted(stage.passes.items(), key=lambda item: (":" in item[0], item[0])):  # the main task first
        for row in pools.get(pool, ()) if passes > 0 else ():
            by_task.setdefault(row.task, {}).setdefault(row.modality, []).append(row)
    found = {task: kinds.get("speech") or kinds["text"] for task, kinds in by_task.items()}
    return {
        task: Random(f"{seed}/{task}").sample(rows, min(NUM_ROWS, len(rows)))
        for task, rows in found.items()
        if len(rows) > 1
    }


def gradient_cosines(
    model: Model,
    trained: Sequence[Tensor],
    rows: Mapping[str, Sequence[Example]],
    portions: Callable[[Sequence[Example]], Iterable[Sequence[Example]]],
) -> dict[str, float]:
    """`cosine/<task>/<task>` for every two tasks, in the order given, and between the halves of each task's rows.

    Nothing for fewer than two tasks. Losses are taken on `portions` of rows; the gradients of `trained` are kept in
    main memory, two a task. A pair with a gradient of zeros is left out. Weights, their `grad` and the model's mode stay as
    they are.
    """
    if len(rows) < 2:
        return {}
    was_training = model.module.training
    model.module.eval()
    try:
        halves = {
            task: (
                _gradient(model, trained, portions(members[0::2])),
                _gradient(model, trained, portions(members[1::2])),
            )
            for task, members in rows.items()
        }
    finally:
        model.module.train(was_training)
    whole = {task: one + other for task, (one, other) in halves.items()}
    pairs = {f"cosine/{task}/{task}": both for task, both in halves.items()}
    pairs |= {f"cosine/{a}/{b}": (whole[a], whole[b]) for a, b in combinations(whole, 2)}
    cosines = {name: _cosine(one, other) for name, (one, other) in pairs.items()}
    return {name: round(value, 4) for name, value in cosines.items() if value is not None}


def _gradient(model: Model, trained: Sequence[Tensor], portions: Iterable[Sequence[Example]]) -> Tensor:
    """Gradient of the summed loss of rows [number of trained weights]; that of their mean loss points the same way."""
    total = torch.zeros(sum(weight.numel() for weight in trained))
    for rows in portions:
        nll, _ = model.loss(model.batch(rows))
        parts = torch.autograd.grad(nll.sum(), list(trained), allow_unused=True)
        total += torch.cat(
            [
                torch.zeros(weight.numel()) if part is None else part.detach().float().cpu().reshape(-1)
                for weight, part in zip(trained, parts, strict=True)
            ]
        )
    return total


def _cosine(a: Tensor, b: Tensor) -> float | None:
    length = float(a.norm() * b.norm())
    return float(a @ b) / length if length > 0 else None
