"""What a run would take here: seconds, from one step of each stage, and memory."""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping, Sequence

from lalm.config import Recipe
from lalm.contracts import Model
from lalm.cores import format_s
from lalm.records import Example, Stage
from lalm.train.order import epoch_rows

Examples = Mapping[str, Sequence[Example]]


def cost(
    recipe: Recipe,
    model: Model,
    trainable: Sequence[str],
    stages: Sequence[Stage],
    steps: Sequence[int],
    examples: Examples,
) -> str:
    """The closing paragraph of `lalm check`; `steps` are those of each stage."""
    step_s = sum(number * _step_s(recipe, model, stage, examples) for stage, number in zip(stages, steps, strict=True))
    used = {pool for stage in stages for pool, passes in stage.passes.items() if passes > 0}
    spoken = {row.recordings: row for pool in sorted(used) for row in examples[pool] if row.recordings}
    hearing_s = _hearing_s(model, list(spoken.values()))
    return (
        f"Training takes about {format_s(step_s + hearing_s)} here ({step_s / sum(steps):.2g} s a step, measured on one of "
        f"each stage; {format_s(hearing_s)} in all to hear the recordings once) and {_memory_gb(model, trainable):.1f} GB of "
        "memory. Answering the test set comes on top."
    )


def _hearing_s(model: Model, recordings: Sequence[Example]) -> float:
    """Seconds to hear all recordings, from the last two of them; what is kept from an earlier run costs nothing."""
    sample = recordings[-2:]
    if not sample:
        return 0.0
    started = time.monotonic()
    model.batch(sample)
    return (time.monotonic() - started) / len(sample) * len(recordings)


def _step_s(recipe: Recipe, model: Model, stage: Stage, examples: Examples) -> float:
    """Seconds of an optimizer step, on rows as the stage mixes them; on other rows first, for what happens only once."""
    import torch

    from lalm.train.optim import uses_bf16

    sizes = {pool: len(rows) for pool, rows in examples.items()}
    rows = [examples[pool][index] for pool, index in epoch_rows(stage, sizes, 0, recipe.train.seed)]
    size = recipe.train.per_device_train_batch_size
    device = next(model.module.parameters()).device
    seconds = 0.0
    model.module.train()
    for batch in filter(None, (rows[size : 2 * size], rows[:size])):
        features = model.batch(batch)
        started = time.monotonic()
        with torch.autocast(device.type, torch.bfloat16, enabled=uses_bf16(recipe.train, device)):
            nll, _ = model.loss(features)
        nll.sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.monotonic() - started
        model.module.zero_grad(set_to_none=True)
    return seconds * recipe.train.gradient_accumulation_steps


def _memory_gb(model: Model, trainable: Sequence[str]) -> float:
    """The most that was used so far, one step included, and AdamW's two values for each trained weight."""
    import torch

    parameters = dict(model.module.named_parameters())
    device = next(iter(parameters.values())).device
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else _resident_peak_bytes()
    return (peak + 2 * sum(parameters[name].numel() * 4 for name in trainable)) / 1e9


def _resident_peak_bytes() -> int:
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB
