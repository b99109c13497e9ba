"""Learning rates and number formats of training."""

from __future__ import annotations

import math

import torch

from lalm.config import TrainSection
from lalm.errors import ConfigError
from lalm.models.half import computes_in_bf16
from lalm.records import Stage


def schedule(cfg: TrainSection, stage: Stage, step: int, total: int) -> float:
    """Linear warm-up over `warmup_ratio` of the stage's steps, then cosine or linear decay to zero, or constant."""
    warmup = math.ceil(stage.warmup_ratio * total)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, total - warmup)
    if cfg.lr_scheduler_type == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    return 1 - progress if cfg.lr_scheduler_type == "linear" else 1.0


def uses_bf16(cfg: TrainSection, device: torch.device) -> bool:
    """Whether training computes in bfloat16 here. Raises ConfigError if it is asked for and the machine cannot."""
    native = computes_in_bf16(device)
    if cfg.bf16 and not native:
        raise ConfigError(
            f"train.bf16: this machine's {device.type} does not compute in bfloat16 natively. Leave it out, or set it to false."
        )
    return native if cfg.bf16 is None else cfg.bf16
