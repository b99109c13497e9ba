"""Qwen2-Audio: Whisper's encoder, a linear connector and Qwen2; the study's model (7B, Apache-2.0).

Audio up to thirty seconds, 25 positions a second. The class wants every clip padded to thirty seconds; here only the frames
that exist are encoded: positions are absolute and the class masks the padding in attention, so the difference is rounding
(below 1e-5 of a state's size in float32, tested against the class).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from lalm.backbones._family import Family, NativeConfig, halved_twice, own_processor, window_s

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from lalm.backbones._native import NativeModel

# torch and transformers are imported when a model is asked for: a recipe is checked without them


class Config(NativeConfig):
    """Options of Qwen2-Audio."""

    model: str = Field(
        "Qwen/Qwen2-Audio-7B-Instruct", min_length=1, description="hub id or local folder of the weights (safetensors)"
    )


def load(cfg: Config) -> NativeModel:
    """The model of `cfg`. Raises ModelError if it cannot be had or is of another family."""
    from lalm.backbones._native_load import load_native

    return load_native(FAMILY, cfg, _tiny)


def make_tiny(seed: int) -> NativeModel:
    """The same classes with small random weights."""
    from lalm.backbones._native_load import tiny_native

    return tiny_native(FAMILY, _tiny, seed)


def features(fe: Any, clips: Sequence[np.ndarray]) -> dict[str, Tensor]:
    """`forward`'s arguments for clips."""
    from lalm.backbones._frames import mel

    values, mask = mel(fe, clips)
    return {"input_features": values, "feature_attention_mask": mask}


def hear(module: Any, given: Mapping[str, Tensor]) -> Tensor:
    """As the class's `forward` does it, which has no function for it."""
    import torch
    from transformers.masking_utils import create_bidirectional_mask

    tower, projector = module.model.audio_tower, module.model.multi_modal_projector
    values = given["input_features"]
    lengths, num_vectors = tower._get_feat_extract_output_lengths(given["feature_attention_mask"].sum(-1))
    positions = torch.arange(values.shape[-1] // 2, device=values.device)[None]
    mask = create_bidirectional_mask(
        config=tower.config,
        inputs_embeds=values.new_zeros(len(values), positions.shape[1], 1),
        attention_mask=(positions < lengths[:, None]).long(),
    )
    vectors = projector(tower(values, attention_mask=mask).last_hidden_state)
    return vectors[positions[:, : vectors.shape[1]] < num_vectors[:, None]]


def adapt(module: Any) -> None:
    """Let the encoder take short clips as they are."""
    from lalm.backbones._frames import given_mask, take_short_clips

    take_short_clips(module.model.audio_tower, given_mask)


FAMILY = Family(
    name="qwen2_audio",
    model_types=("qwen2_audio",),
    model_class="Qwen2AudioForConditionalGeneration",
    licence="Apache-2.0",
    load_processor=own_processor("Qwen2AudioProcessor"),
    num_placeholders=halved_twice,
    features=features,
    longest_s=window_s,
    adapt=adapt,
    hear=hear,
)


def _tiny(seed: int) -> tuple[Any, Any]:
    from transformers import Qwen2AudioConfig, Qwen2AudioForConditionalGeneration, Qwen2AudioProcessor

    from lalm.backbones._native_tiny import tiny_audio, tiny_mel, tiny_text, tiny_tokenizer

    tokenizer = tiny_tokenizer(("<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"))
    config = Qwen2AudioConfig(
        audio_config={"model_type": "qwen2_audio_encoder", **tiny_audio()},
        text_config={"model_type": "qwen2", **tiny_text(len(tokenizer))},
        audio_token_index=tokenizer.convert_tokens_to_ids("<|AUDIO|>"),
    )
    return Qwen2AudioForConditionalGeneration(config), Qwen2AudioProcessor(tiny_mel(), tokenizer)
