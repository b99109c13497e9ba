"""Composed: any audio encoder of transformers, a connector and any causal language model, by hub id or folder.

Encoders of Whisper's make (Whisper, and those of Qwen2-Audio, Voxtral and Audio Flamingo 3 saved alone) hear the frames
that exist, and encoders on waveforms (wav2vec 2.0, HuBERT, WavLM, UniSpeech-SAT, data2vec) the samples that exist; longer
recordings are heard in chunks of at most thirty seconds. Language models are instruction-tuned decoders with attention in every layer; one whose
logits are computed in a way that is not known here is refused when it is loaded. The default connector is trained with
the run: put `connector` into `train.groups`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, PositiveInt, field_validator

from lalm.backbones._unheard import connector_unheard
from lalm.config import PluginChoice
from lalm.data.cache import PreparedCache
from lalm.errors import ModelError
from lalm.models import parts
from lalm.plugins import PluginConfig

if TYPE_CHECKING:
    from lalm.backbones._composed_model import ComposedModel

# torch and transformers are imported when a model is asked for: a recipe is checked without them


class Config(PluginConfig):
    """Options of a composed model. Folders are found from where lalm is started."""

    encoder: str = Field(
        "openai/whisper-base", min_length=1, description="hub id or folder of an audio encoder (safetensors)"
    )
    encoder_revision: str | None = Field(
        None, description="the encoder's commit, branch or tag on the hub (none: main)"
    )
    language_model: str = Field(
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        min_length=1,
        description="hub id or folder of an instruction-tuned causal language model (safetensors)",
    )
    language_model_revision: str | None = Field(
        None, description="the language model's commit, branch or tag on the hub (none: main)"
    )
    connector: PluginChoice = Field(
        default_factory=lambda: PluginChoice(name="mlp"), description="connector plug-in and its options"
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="number format of encoder and language model; the connector is float32"
    )
    max_audio_vectors: PositiveInt | None = Field(
        None, description="vectors that the recordings of one row may take; more is an error (none: no bound)"
    )
    trust_remote_code: bool = Field(False, description="run code that lies beside the weights")
    tiny: bool = Field(False, description="small random weights instead of the real ones: for tests of a recipe")
    seed: int = Field(0, description="seed of the tiny weights")

    @field_validator("encoder", "language_model")
    @classmethod
    def _absolute(cls, value: str) -> str:
        """A folder by its whole path, so that a run can be used from elsewhere."""
        path = Path(value).expanduser()
        return str(path.absolute()) if path.is_dir() or value.startswith((".", "~", "/")) else value


def load(cfg: Config) -> ComposedModel:
    """The model of `cfg`. Raises ModelError for parts that cannot be had or do not fit, all of them at once."""
    import torch

    from lalm.backbones._assemble import assemble
    from lalm.backbones._tiny import tiny_model
    from lalm.models.fetch import lalm_home

    if cfg.tiny:
        return tiny_model(cfg.connector, cfg.seed, cfg.max_audio_vectors)
    speech, language = find_parts(cfg)
    stated = {part.source: parts.licence(part) for part in (speech, language)}

    def identity(encoder: Any, llm: Any) -> dict[str, Any]:
        return {
            "backbone": "composed",
            "encoder": describe(speech, encoder),
            "language_model": describe(language, llm),
            "dtype": cfg.dtype,
            "connector": cfg.connector.name,
            "connector_options": cfg.connector.options,
            "licences": stated,
        }

    return assemble(
        speech,
        language,
        cfg.connector,
        identity=identity,
        cache=PreparedCache(lalm_home() / "cache" / "heard"),
        dtype=getattr(torch, cfg.dtype),
        max_audio_vectors=cfg.max_audio_vectors,
    )


def find_parts(cfg: Config) -> tuple[parts.Part, parts.Part]:
    """Encoder and language model, without their weights. Raises ModelError for what is not there, both at once."""
    found, problems = [], []
    for key, source, revision in (
        ("encoder", cfg.encoder, cfg.encoder_revision),
        ("language_model", cfg.language_model, cfg.language_model_revision),
    ):
        try:
            found.append(parts.find(source, revision, cfg.trust_remote_code))
        except ModelError as error:
            problems.append(f"backbone.{key}: {error}")
    if problems:
        raise ModelError("\n".join(problems))
    return found[0], found[1]


def describe(part: parts.Part, module: Any) -> dict[str, Any]:
    """Where a part is from, and what names its weights."""
    return {
        "source": part.source,
        "revision": part.revision,
        "model_type": part.model_type,
        "weights": parts.sampled_hash("", module),
    }


def unheard(language: str, cfg: Config) -> list[str]:
    """What the connector says of a language; of the encoder it is not known which languages it was trained on."""
    return [] if cfg.tiny else connector_unheard(language, cfg.connector)


def make_tiny(seed: int) -> ComposedModel:
    """Whisper's and Llama's classes with small random weights."""
    from lalm.backbones._tiny import tiny_model

    return tiny_model(PluginChoice(name="mlp"), seed)
