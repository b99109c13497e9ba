"""The plan, step by step: which rows each optimizer step holds, which weights a stage trains, and what names its result."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lalm.config import TrainSection, config_hash
from lalm.contracts import Model
from lalm.errors import ConfigError, DataError, nearest
from lalm.records import Example, Stage
from lalm.train.lean import MEMORY_OPTIONS
from lalm.train.order import Row, batches, epoch_rows

Pools = Mapping[str, Sequence[Example]]
NOT_IN_THE_WEIGHTS = {"save_steps", "save_total_limit", "logging_steps", "eval_steps", *MEMORY_OPTIONS}


@dataclass(frozen=True)
class Step:
    stage: int
    index: int  # within the stage
    micro_batches: tuple[tuple[Row, ...], ...]


def plan_steps(
    model: Model, stages: Sequence[Stage], pools: Pools, cfg: TrainSection, num_processes: int = 1
) -> list[Step]:
    """Every optimizer step of a plan, in order; the same whenever it is asked for.

    A step holds the micro-batches of all processes: its rows are those of one process that accumulates as many.
    """
    sizes = {pool: len(rows) for pool, rows in pools.items()}
    lengths = row_lengths(model, stages, pools)
    step_size = cfg.per_device_train_batch_size * cfg.gradient_accumulation_steps * num_processes
    steps = []
    for number, stage in enumerate(stages):
        index = 0
        for epoch in range(stage.epochs):
            rows = epoch_rows(stage, sizes, epoch, cfg.seed)
            for chunk in batches(rows, lengths, step_size, f"{cfg.seed}/{stage.name}/{epoch}"):
                starts = range(0, len(chunk), cfg.per_device_train_batch_size)
                micro = tuple(tuple(chunk[start : start + cfg.per_device_train_batch_size]) for start in starts)
                steps.append(Step(number, index, micro))
                index += 1
    return steps


def row_lengths(model: Model, stages: Sequence[Stage], pools: Pools) -> dict[Row, int]:
    """Length of every row that some stage uses. Raises DataError that lists all rows that the model cannot take."""
    lengths: dict[Row, int] = {}
    problems = []
    for pool in sorted({pool for stage in stages for pool, passes in stage.passes.items() if passes > 0}):
        for index, row in enumerate(pools.get(pool, ())):
            try:
                lengths[pool, index] = model.num_tokens(row)
            except DataError as error:
                problems.append(str(error))
    if problems:
        raise DataError(f"{len(problems)} training rows cannot be used.", problems)
    return lengths


def names_of_stage(model: Model, trainable: Sequence[str], stage: Stage) -> list[str]:
    """The trainable parameters that a stage trains: those of its groups, or all of them.

    Raises ConfigError for a group that the model does not have, or that `train.groups` leaves out.
    """
    if stage.groups is None:
        return list(trainable)
    known = model.groups()
    names: set[str] = set()
    for group in stage.groups:
        if group not in known:
            raise ConfigError(f"Stage '{stage.name}': unknown group '{group}'.{nearest(group, known)}")
        within = {name for name in trainable if any(f"{name}.".startswith(f"{part}.") for part in known[group])}
        if not within:
            raise ConfigError(f"Stage '{stage.name}' trains the group '{group}', which train.groups leaves out.")
        names |= within
    return [name for name in trainable if name in names]


def stage_keys(
    model: Model,
    stages: Sequence[Stage],
    pools: Pools,
    cfg: TrainSection,
    identity: Any,
    num_processes: int = 1,
) -> list[str]:
    """One key a stage: everything that its resulting weights depend on, the stages before included."""
    settings = cfg.model_dump(mode="json", exclude=NOT_IN_THE_WEIGHTS)
    if num_processes > 1:  # more rows a step
        settings["num_processes"] = num_processes
    contents: dict[str, str] = {}
    keys, previous = [], config_hash([identity, settings])
    for stage in stages:
        parts: list[Any] = [
            previous,
            stage.epochs,
            stage.learning_rate_scale,
            stage.warmup_ratio,
            stage.groups,
            stage.name,
        ]
        for pool, passes in sorted(stage.passes.items()):
            if passes > 0 and pools.get(pool):
                if pool not in contents:
                    rows = "".join(model.content(row) for row in pools[pool])
                    contents[pool] = hashlib.sha256(rows.encode()).hexdigest()
                parts.append([pool, passes, contents[pool]])
        previous = config_hash(parts)
        keys.append(previous)
    return keys
