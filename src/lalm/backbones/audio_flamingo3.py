"""Audio Flamingo 3: a Whisper-like encoder, a perceptron as connector and Qwen2.5 (7B; NVIDIA's licence is non-commercial).

Audio up to ten minutes in windows of thirty seconds, 25 positions a second. The processor pads every window to thirty
seconds; here only the frames that exist are encoded: positions are absolute within a window and the class masks the padding
in attention, so the difference is rounding (below 1e-5 of a state's size in float32, tested against the class).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from lalm.backbones._family import Family, NativeConfig, halved_twice, own_processor, whole_windows_s

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from lalm.backbones._native import NativeModel

# torch and transformers are imported when a model is asked for: a recipe is checked without them


class Config(NativeConfig):
    """Options of Audio Flamingo 3."""

    model: str = Field(
        "nvidia/audio-flamingo-3-hf", min_length=1, description="hub id or local folder of the weights (safetensors)"
    )


def load(cfg: Config) -> NativeModel:
    """The model of `cfg`. Raises ModelError if it cannot be had or is of another family."""
    from lalm.backbones._native_load import load_native

    return load_native(FAMILY, cfg, _tiny)


def make_tiny(seed: int) -> NativeModel:
    """The same classes with small random weights; two windows at most."""
    from lalm.backbones._native_load import tiny_native

    return tiny_native(FAMILY, _tiny, seed)


def features(fe: Any, clips: Sequence[np.ndarray]) -> dict[str, Tensor]:
    """`forward`'s arguments for clips."""
    from lalm.backbones._frames import mel, windows

    values, mask = mel(fe, windows(fe, clips))
    return {"input_features": values, "input_features_mask": mask}


def adapt(module: Any) -> None:
    """Let the encoder take short clips as they are."""
    from lalm.backbones._frames import mask_of_frames, take_short_clips

    take_short_clips(module.model.audio_tower, mask_of_frames)


FAMILY = Family(
    name="audio_flamingo3",
    model_types=("audioflamingo3",),
    model_class="AudioFlamingo3ForConditionalGeneration",
    licence="NVIDIA OneWay Noncommercial License",
    load_processor=own_processor("AudioFlamingo3Processor"),
    num_placeholders=halved_twice,
    features=features,
    longest_s=whole_windows_s,
    adapt=adapt,
)

_TEMPLATE = (
    "{% for turn in messages %}<|im_start|>{{ turn.role }}\n{% if turn.content is string %}{{ turn.content }}{% else %}"
    "{% for part in turn.content %}{% if part.type == 'audio' %}<sound>{% else %}{{ part.text }}{% endif %}{% endfor %}"
    "{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _tiny(seed: int) -> tuple[Any, Any]:
    from transformers import (
        AudioFlamingo3Config,
        AudioFlamingo3ForConditionalGeneration,
        AudioFlamingo3Processor,
    )

    from lalm.backbones._native_tiny import tiny_audio, tiny_mel, tiny_text, tiny_tokenizer

    tokenizer = tiny_tokenizer(("<sound>",))
    audio = tiny_audio(("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"))
    config = AudioFlamingo3Config(
        audio_config={"model_type": "audioflamingo3_encoder", **audio},
        text_config={"model_type": "qwen2", **tiny_text(len(tokenizer), max_position_embeddings=2048)},
        audio_token_id=tokenizer.convert_tokens_to_ids("<sound>"),
    )
    processor = AudioFlamingo3Processor(tiny_mel(), tokenizer, chat_template=_TEMPLATE, max_audio_len=60)
    return AudioFlamingo3ForConditionalGeneration(config), processor
