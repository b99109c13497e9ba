"""Speech only: the control without text, three epochs over the recordings alone.

Source: the conventional fine-tuning that arXiv 2509.15389 compares with; epochs and warm-up as in its other schemes.
"""

from __future__ import annotations

from pydantic import Field, NonNegativeFloat, PositiveInt

from lalm.errors import ConfigError
from lalm.plugins import PluginConfig
from lalm.records import Pools, Stage


class Config(PluginConfig):
    """Options of the speech-only control."""

    num_train_epochs: PositiveInt = Field(3, description="epochs over the recordings")
    warmup_ratio: float = Field(0.04, ge=0, le=1, description="share of the steps in which the learning rate rises")
    synthetic_passes: NonNegativeFloat = Field(
        0.0, description="passes over synthetic speech of the training text in each epoch (0: none)"
    )


def plan(cfg: Config, pools: Pools) -> list[Stage]:
    """One stage of recordings. Raises ConfigError if there are none."""
    if not pools.num_speech:
        raise ConfigError(
            "The scheme speech_only needs recordings and the speech budget is empty. "
            "Give data.speech_share, speech_items or speech_minutes above 0, or choose text_only."
        )
    passes = {"speech": 1.0, "synthetic": cfg.synthetic_passes}
    return [Stage("speech", passes, cfg.num_train_epochs, warmup_ratio=cfg.warmup_ratio)]
