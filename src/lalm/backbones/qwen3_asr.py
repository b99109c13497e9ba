"""Qwen3-ASR: an encoder of one-second chunks, a perceptron as connector and Qwen3 (0.6B and 1.7B, Apache-2.0).

Made for transcription: its template has room for written words in the system turn alone, so the instruction stands there,
and in a text row the sentence before it. About 13 positions a second, as long as the language model has positions for. The
encoder packs the frames that exist, so no clip pays for another's length; a clip shorter than half a second is padded to it,
as published. What the conversion of `transformers` makes of the weights is needed (model ids that end in `-hf`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from lalm.backbones._family import SAMPLE_RATE_HZ, Family, Messages, NativeConfig, num_frames, own_processor

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from lalm.backbones._native import NativeModel

# torch and transformers are imported when a model is asked for: a recipe is checked without them


class Config(NativeConfig):
    """Options of Qwen3-ASR."""

    model: str = Field(
        "Qwen/Qwen3-ASR-1.7B-hf", min_length=1, description="hub id or local folder of the weights (safetensors)"
    )


def load(cfg: Config) -> NativeModel:
    """The model of `cfg`. Raises ModelError if it cannot be had or is of another family."""
    from lalm.backbones._native_load import load_native

    return load_native(FAMILY, cfg, _tiny)


def make_tiny(seed: int) -> NativeModel:
    """The same classes with small random weights."""
    from lalm.backbones._native_load import tiny_native

    return tiny_native(FAMILY, _tiny, seed)


def messages(instruction: str, text: str | None) -> Messages:
    """The words in the system turn, the recording (`text` None) in the user's."""
    words = instruction if text is None else f"{text}\n{instruction}"
    heard = [{"type": "audio"}] if text is None else []
    return [
        {"role": "system", "content": [{"type": "text", "text": words}]},
        {"role": "user", "content": heard},
    ]


def num_placeholders(fe: Any, num_samples: int) -> int:
    """As the processor counts them: 13 a whole second."""
    frames = num_frames(fe, max(num_samples, fe.min_length))
    seconds, rest = divmod(frames, 2 * fe.n_window)
    for _ in range(3):
        rest = (rest - 1) // 2 + 1  # 0 stays 0
    return seconds * 13 + rest


def features(fe: Any, clips: Sequence[np.ndarray]) -> dict[str, Tensor]:
    """`forward`'s arguments for clips; each clip's spectrum is computed alone, so that it does not depend on the others."""
    import torch
    from torch import nn

    made = [fe([clip], sampling_rate=SAMPLE_RATE_HZ, padding=True, return_attention_mask=True) for clip in clips]
    width = max(one["input_features"].shape[-1] for one in made)
    pads = [(0, width - one["input_features"].shape[-1]) for one in made]
    values = [nn.functional.pad(one["input_features"], pad) for one, pad in zip(made, pads, strict=True)]
    masks = [nn.functional.pad(one["attention_mask"], pad) for one, pad in zip(made, pads, strict=True)]
    return {"input_features": torch.cat(values), "input_features_mask": torch.cat(masks)}


FAMILY = Family(
    name="qwen3_asr",
    model_types=("qwen3_asr",),
    model_class="Qwen3ASRForConditionalGeneration",
    licence="Apache-2.0",
    load_processor=own_processor("Qwen3ASRProcessor"),
    num_placeholders=num_placeholders,
    features=features,
    longest_s=lambda processor: None,
    messages=messages,
    dialogue=None,
)

_TEMPLATE = (
    "<|im_start|>system\n{% for turn in messages if turn.role == 'system' %}{% for part in turn.content %}{{ part.text }}"
    "{% endfor %}{% endfor %}<|im_end|>\n<|im_start|>user\n{% for turn in messages if turn.role == 'user' %}"
    "{% for part in turn.content if part.type == 'audio' %}<|audio_start|><|audio_pad|><|audio_end|>{% endfor %}{% endfor %}"
    "<|im_end|>\n{% for turn in messages if turn.role == 'assistant' %}<|im_start|>assistant\n{{ turn.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _tiny(seed: int) -> tuple[Any, Any]:
    from transformers import (
        Qwen3ASRConfig,
        Qwen3ASRFeatureExtractor,
        Qwen3ASRForConditionalGeneration,
        Qwen3ASRProcessor,
    )

    from lalm.backbones._native_tiny import tiny_audio, tiny_text, tiny_tokenizer

    marks = {"audio_bos_token": "<|audio_start|>", "audio_token": "<|audio_pad|>", "audio_eos_token": "<|audio_end|>"}
    tokenizer = tiny_tokenizer(tuple(marks.values()), **marks)
    text = tiny_text(len(tokenizer), head_dim=8, tie_word_embeddings=True)
    config = Qwen3ASRConfig(
        audio_config={
            "model_type": "qwen3_asr_encoder",
            **tiny_audio(),
            "downsample_hidden_size": 8,
            "output_dim": text["hidden_size"],
        },
        text_config={"model_type": "qwen3", **text},
        initializer_range=text["initializer_range"],
        audio_token_id=tokenizer.convert_tokens_to_ids("<|audio_pad|>"),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=1,
    )
    processor = Qwen3ASRProcessor(Qwen3ASRFeatureExtractor(), tokenizer, chat_template=_TEMPLATE)
    return Qwen3ASRForConditionalGeneration(config), processor
