"""GLM-ASR: a Whisper-like encoder with rotary positions, a perceptron as connector and a small Llama (1.5B, MIT).

Made for transcription, with the instruction as a written part of the turn. Audio up to ten and a half minutes in windows of
thirty seconds, 12.5 positions a second. Windows stay padded to thirty seconds: the encoder masks nothing, so the silence
after a clip is part of what it has learned to hear, and shorter windows would give other states.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from lalm.backbones._family import Family, NativeConfig, merged_by_four, own_processor, whole_windows_s

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from lalm.backbones._native import NativeModel

# torch and transformers are imported when a model is asked for: a recipe is checked without them


class Config(NativeConfig):
    """Options of GLM-ASR."""

    model: str = Field(
        "zai-org/GLM-ASR-Nano-2512", min_length=1, description="hub id or local folder of the weights (safetensors)"
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

    values, mask = mel(fe, windows(fe, clips), fe.nb_max_frames)
    return {"input_features": values, "input_features_mask": mask}


FAMILY = Family(
    name="glm_asr",
    model_types=("glmasr",),
    model_class="GlmAsrForConditionalGeneration",
    licence="MIT",
    load_processor=own_processor("GlmAsrProcessor"),
    num_placeholders=merged_by_four,
    features=features,
    longest_s=whole_windows_s,
)

_TEMPLATE = (
    "{% for turn in messages %}<|{{ turn.role }}|>\n{% if turn.content is string %}{{ turn.content }}{% else %}"
    "{% for part in turn.content %}{% if part.type == 'audio' %}<|begin_of_audio|><|pad|><|end_of_audio|>\n"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def _tiny(seed: int) -> tuple[Any, Any]:
    from transformers import GlmAsrConfig, GlmAsrForConditionalGeneration, GlmAsrProcessor

    from lalm.backbones._native_tiny import tiny_audio, tiny_mel, tiny_text, tiny_tokenizer

    tokenizer = tiny_tokenizer(("<|user|>", "<|assistant|>", "<|begin_of_audio|>", "<|pad|>", "<|end_of_audio|>"))
    audio = tiny_audio(("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"))
    config = GlmAsrConfig(
        audio_config={"model_type": "glmasr_encoder", **audio, "intermediate_size": 4 * audio["hidden_size"]},
        text_config={"model_type": "llama", **tiny_text(len(tokenizer))},
        audio_token_id=tokenizer.convert_tokens_to_ids("<|pad|>"),
    )
    processor = GlmAsrProcessor(tiny_mel(), tokenizer, chat_template=_TEMPLATE, max_audio_len=65)
    return GlmAsrForConditionalGeneration(config), processor
