"""Direct mixing: text and the few recordings mixed at random in every batch, three epochs.

Source: arXiv 2509.15389, direct-mixing scheme. "The same total of speech" as in the curriculum can be read as one or
as three passes over the recordings; `speech_passes` is that total. Its default is three because recordings are the
scarce good: three epochs over everything that there is are the plain reading of "mixed, three epochs".
"""

from __future__ import annotations

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from lalm.plugins import PluginConfig
from lalm.records import Pools, Stage


class Config(PluginConfig):
    """Options of direct mixing."""

    num_train_epochs: PositiveInt = Field(3, description="epochs over the text")
    speech_passes: PositiveFloat = Field(3.0, description="passes over the recordings, all epochs together")
    warmup_ratio: float = Field(0.04, ge=0, le=1, description="share of the steps in which the learning rate rises")
    synthetic_passes: NonNegativeFloat = Field(
        0.0, description="passes over synthetic speech of the training text in each epoch (0: none)"
    )


def plan(cfg: Config, pools: Pools) -> list[Stage]:
    """One stage with every pool in it."""
    speech = cfg.speech_passes / cfg.num_train_epochs if pools.num_speech else 0.0
    passes = {"text": 1.0, "speech": speech, "synthetic": cfg.synthetic_passes}
    return [Stage("mixed", passes, cfg.num_train_epochs, warmup_ratio=cfg.warmup_ratio)]
