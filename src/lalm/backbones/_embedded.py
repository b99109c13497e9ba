"""Embedded models, `smol` and `gemma`: Whisper base, a connector and a small language model from one local folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lalm.backbones._unheard import connector_unheard
from lalm.data.cache import PreparedCache
from lalm.languages import heard_by_whisper
from lalm.models import parts
from lalm.models.embedded import artifacts_of
from lalm.models.fetch import lalm_home

if TYPE_CHECKING:
    from lalm.backbones._composed_model import ComposedModel


def load_embedded(name: str, folder: Path, cfg: Any) -> ComposedModel:
    """The model of a folder with the connector of `cfg`. Raises ModelError for parts that do not fit."""
    from lalm.backbones._assemble import assemble

    return assemble(
        parts.find(str(folder / "speech")),
        parts.find(str(folder / "language_model")),
        cfg.connector,
        identity=lambda encoder, llm: identity(name, folder, cfg),
        cache=PreparedCache(lalm_home() / "cache" / "heard"),
        max_audio_vectors=cfg.max_audio_vectors,
    )


def identity(name: str, folder: Path, cfg: Any) -> dict[str, Any]:
    """Names, hashes and licences for run.json."""
    artifacts = artifacts_of(folder)
    return {
        "backbone": name,
        "connector": cfg.connector.name,
        "connector_options": cfg.connector.options,
        "artifacts": artifacts,
        "licences": {one["title"]: one["licence"] for one in artifacts.values()},
    }


def unheard(language: str, cfg: Any) -> list[str]:
    """What it means for recordings in a language that a part of the model does not know it; empty if all do."""
    if cfg.tiny:
        return []
    found = [] if heard_by_whisper(language) else ["the encoder, Whisper base, was not trained to hear it"]
    return [*found, *connector_unheard(language, cfg.connector)]
