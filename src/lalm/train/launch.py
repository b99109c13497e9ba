"""Which engine a launch asks for: one process, several, or weights spread over several."""

from __future__ import annotations

from collections.abc import Sequence

from lalm.contracts import Model
from lalm.train.distributed import Alone
from lalm.train.engines import Engine, Summed


def engine_for(team: Alone, model: Model, trainable: Sequence[str]) -> Engine:
    """The engine that the launch asks for. Raises UserError if it cannot train this model."""
    if team.strategy == "fsdp2":
        from lalm.train.sharded import Sharded

        return Sharded(team, model, trainable)
    if team.strategy == "zero2":
        from lalm.train.zero import Zero

        return Zero(team, model, trainable)
    return Engine(team, model, trainable) if team.size == 1 else Summed(team, model, trainable)
