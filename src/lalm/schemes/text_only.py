"""Text only: three epochs of labelled text, no recording.

Source: Fine-tuning LALMs for SLU under limited speech data (arXiv 2509.15389), text-only scheme: three epochs, the
language model is trained, audio encoder and connector are frozen; warm-up 0.04.
"""

from __future__ import annotations

from pydantic import Field, NonNegativeFloat, PositiveInt

from lalm.plugins import PluginConfig
from lalm.records import Pools, Stage


class Config(PluginConfig):
    """Options of the text-only scheme."""

    num_train_epochs: PositiveInt = Field(3, description="epochs over the text")
    warmup_ratio: float = Field(0.04, ge=0, le=1, description="share of the steps in which the learning rate rises")
    synthetic_passes: NonNegativeFloat = Field(
        0.0, description="passes over synthetic speech of the training text in each epoch (0: none)"
    )


def plan(cfg: Config, pools: Pools) -> list[Stage]:
    """One stage of text (and, if asked for, synthetic speech of it)."""
    passes = {"text": 1.0, "synthetic": cfg.synthetic_passes}
    return [Stage("text", passes, cfg.num_train_epochs, warmup_ratio=cfg.warmup_ratio)]
