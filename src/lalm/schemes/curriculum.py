"""Curriculum: two epochs of text, then one epoch in which text and recordings are mixed.

Source: arXiv 2509.15389, curriculum scheme: epochs one and two are text only, the third is direct mixing with its own
peak learning rate (3e-6 against 5e-6, hence the scale 0.6) and warm-up (0.02 against 0.04); the total of speech equals
that of direct mixing, hence three passes over the recordings in the one mixed epoch by default.
The source does not say whether the optimizer is carried over; here each stage starts its own.
"""

from __future__ import annotations

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from lalm.plugins import PluginConfig
from lalm.records import Pools, Stage


class Config(PluginConfig):
    """Options of the curriculum."""

    num_text_epochs: PositiveInt = Field(2, description="epochs over the text alone, first")
    num_mixed_epochs: PositiveInt = Field(1, description="epochs over text and recordings, then")
    speech_passes: PositiveFloat = Field(3.0, description="passes over the recordings, all mixed epochs together")
    warmup_ratio: float = Field(0.04, ge=0, le=1, description="warm-up share of the text stage")
    mixed_warmup_ratio: float = Field(0.02, ge=0, le=1, description="warm-up share of the mixed stage")
    mixed_learning_rate_scale: PositiveFloat = Field(
        0.6, description="peak learning rate of the mixed stage / recipe's"
    )
    synthetic_passes: NonNegativeFloat = Field(
        0.0, description="passes over synthetic speech of the training text in each epoch (0: none)"
    )


def plan(cfg: Config, pools: Pools) -> list[Stage]:
    """A text stage and a mixed stage."""
    speech = cfg.speech_passes / cfg.num_mixed_epochs if pools.num_speech else 0.0
    return [
        Stage(
            "text",
            {"text": 1.0, "synthetic": cfg.synthetic_passes},
            cfg.num_text_epochs,
            warmup_ratio=cfg.warmup_ratio,
        ),
        Stage(
            "mixed",
            {"text": 1.0, "speech": speech, "synthetic": cfg.synthetic_passes},
            cfg.num_mixed_epochs,
            learning_rate_scale=cfg.mixed_learning_rate_scale,
            warmup_ratio=cfg.mixed_warmup_ratio,
        ),
    ]
