"""Voxtral: Whisper's encoder, a perceptron as connector and Ministral or Mistral Small (3B and 24B, Apache-2.0).

Audio in windows of thirty seconds, 375 positions each, as many as the language model has positions for. Windows stay padded
to thirty seconds: the class masks nothing and hands on all positions of a window, so the silence after a clip is part of what
the model has learned to hear; a clip of three seconds costs 375 positions here as everywhere.

The tokenizer is read from `tekken.json` as transformers converts it; mistral-common is not needed. Prompts are
`<s>[INST][BEGIN_AUDIO][AUDIO]...instruction[/INST]`, as mistral-common encodes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from lalm.backbones._family import Family, NativeConfig

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from lalm.backbones._native import NativeModel

# torch and transformers are imported when a model is asked for: a recipe is checked without them

AUDIO_TOKEN_ID = 24  # transformers' processor knows it by this number alone
WINDOW_POSITIONS = 375
TEMPLATE = (
    "<s>{% for turn in messages %}{% if turn.role == 'assistant' %}{{ turn.content }}</s>{% else %}[INST]"
    "{% for part in turn.content %}{% if part.type == 'audio' %}[BEGIN_AUDIO][AUDIO]{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}[/INST]{% endif %}{% endfor %}"
)


class Config(NativeConfig):
    """Options of Voxtral."""

    model: str = Field(
        "mistralai/Voxtral-Mini-3B-2507",
        min_length=1,
        description="hub id or local folder of the weights (safetensors)",
    )


def load(cfg: Config) -> NativeModel:
    """The model of `cfg`. Raises ModelError if it cannot be had or is of another family."""
    from lalm.backbones._native_load import load_native

    return load_native(FAMILY, cfg, _tiny)


def make_tiny(seed: int) -> NativeModel:
    """The same classes with small random weights."""
    from lalm.backbones._native_load import tiny_native

    return tiny_native(FAMILY, _tiny, seed)


def load_processor(part: Any) -> Any:
    """The feature extractor beside the weights, and the tokenizer without mistral-common."""
    from transformers import AutoTokenizer, VoxtralProcessor

    from lalm.models.parts import load_feature_extractor

    tokenizer = AutoTokenizer.from_pretrained(
        part.folder, local_files_only=True, mistral_format=False, trust_remote_code=part.remote_code
    )
    for name, mark in {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}.items():
        if getattr(tokenizer, name) is None:  # tekken.json has them among its control tokens and gives them no role
            setattr(tokenizer, name, mark)
    return VoxtralProcessor(load_feature_extractor(part), tokenizer)


def num_placeholders(fe: Any, num_samples: int) -> int:
    """All positions of every window."""
    return -(-num_samples // int(fe.n_samples)) * WINDOW_POSITIONS


def features(fe: Any, clips: Sequence[np.ndarray]) -> dict[str, Tensor]:
    """`forward`'s argument for clips: windows of whole clips' spectra, loudness is relative to the clip's loudest frame."""
    import torch

    from lalm.backbones._frames import mel

    windows = []
    for clip in clips:
        number = -(-len(clip) // fe.n_samples)
        values, _ = mel(fe, [clip], number * fe.nb_max_frames)
        windows.append(values[0].reshape(fe.feature_size, number, fe.nb_max_frames).transpose(0, 1))
    return {"input_features": torch.cat(windows)}


FAMILY = Family(
    name="voxtral",
    model_types=("voxtral",),
    model_class="VoxtralForConditionalGeneration",
    licence="Apache-2.0",
    load_processor=load_processor,
    num_placeholders=num_placeholders,
    features=features,
    longest_s=lambda processor: None,
    chat_template=TEMPLATE,
)


def _tiny(seed: int) -> tuple[Any, Any]:
    from transformers import VoxtralConfig, VoxtralForConditionalGeneration, VoxtralProcessor

    from lalm.backbones._native_tiny import tiny_audio, tiny_mel, tiny_tekken, tiny_text

    tokenizer = tiny_tekken()
    audio = tiny_audio(("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"))
    sizes = {"head_dim": 8, "eos_token_id": 2, "bos_token_id": 1, "max_position_embeddings": 2048}  # of five windows
    config = VoxtralConfig(
        audio_config={"model_type": "voxtral_encoder", **audio, "intermediate_size": 4 * audio["hidden_size"]},
        text_config={"model_type": "llama", **tiny_text(len(tokenizer), **sizes)},
        audio_token_id=AUDIO_TOKEN_ID,
    )
    return VoxtralForConditionalGeneration(config), VoxtralProcessor(tiny_mel(), tokenizer)
