"""Qwen2.5-Omni's thinker: an encoder of two-second chunks and Qwen2.5 with spoken input and written answers (7B, Apache-2.0; 3B for research).

Of the published model the thinker alone is loaded, not the talker, with its tokenizer and audio feature extractor; the
processor of transformers wants torchvision for pictures, and is not needed. Audio as long as the feature extractor's window
(five minutes as published), 25 positions a second. The encoder packs the frames that exist, so no clip pays for padding.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from lalm.backbones._family import Family, NativeConfig, halved_twice, window_s

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from lalm.backbones._native import NativeModel

# torch and transformers are imported when a model is asked for: a recipe is checked without them


class Config(NativeConfig):
    """Options of Qwen2.5-Omni."""

    model: str = Field(
        "Qwen/Qwen2.5-Omni-7B", min_length=1, description="hub id or local folder of the weights (safetensors)"
    )


@dataclass(frozen=True)
class Processor:
    """The parts of the published processor that have to do with words and sound."""

    tokenizer: Any
    feature_extractor: Any
    chat_template: str | None
    audio_token: str = "<|AUDIO|>"

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the parts as transformers reads them."""
        if self.tokenizer.chat_template is None:
            self.tokenizer.chat_template = self.chat_template
        self.tokenizer.save_pretrained(str(folder))
        self.feature_extractor.save_pretrained(str(folder))


def load(cfg: Config) -> NativeModel:
    """The model of `cfg`. Raises ModelError if it cannot be had or is of another family."""
    from lalm.backbones._native_load import load_native

    return load_native(FAMILY, cfg, _tiny)


def make_tiny(seed: int) -> NativeModel:
    """The same classes with small random weights."""
    from lalm.backbones._native_load import tiny_native

    return tiny_native(FAMILY, _tiny, seed)


def load_processor(part: Any) -> Processor:
    """Tokenizer and feature extractor; the chat template is the processor's, which older repositories keep in a file of its own."""
    from lalm.models.parts import load_feature_extractor, load_tokenizer

    tokenizer, template = load_tokenizer(part), None
    if (part.folder / "chat_template.jinja").is_file():
        template = (part.folder / "chat_template.jinja").read_text(encoding="utf-8")
    elif (part.folder / "chat_template.json").is_file():
        template = json.loads((part.folder / "chat_template.json").read_text(encoding="utf-8"))["chat_template"]
    mark = getattr(tokenizer, "audio_token", None) or Processor.audio_token
    return Processor(tokenizer, load_feature_extractor(part), template, mark)


def features(fe: Any, clips: Sequence[np.ndarray]) -> dict[str, Tensor]:
    """`forward`'s arguments for clips; the class takes the real frames out by their mask."""
    from lalm.backbones._frames import mel

    values, mask = mel(fe, clips)
    return {"input_features": values, "feature_attention_mask": mask}


FAMILY = Family(
    name="qwen2_5_omni",
    model_types=("qwen2_5_omni", "qwen2_5_omni_thinker"),
    model_class="Qwen2_5OmniThinkerForConditionalGeneration",
    licence="Apache-2.0",
    load_processor=load_processor,
    num_placeholders=halved_twice,
    features=features,
    longest_s=window_s,
    connector=("model.audio_tower.proj",),
)

_TEMPLATE = (
    "{% for turn in messages %}{% if loop.first and turn.role != 'system' %}<|im_start|>system\nYou are a helpful assistant."
    "<|im_end|>\n{% endif %}<|im_start|>{{ turn.role }}\n{% if turn.content is string %}{{ turn.content }}{% else %}"
    "{% for part in turn.content %}{% if part.type == 'audio' %}<|audio_bos|><|AUDIO|><|audio_eos|>{% else %}{{ part.text }}"
    "{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _tiny(seed: int) -> tuple[Any, Any]:
    from transformers import Qwen2_5OmniThinkerConfig, Qwen2_5OmniThinkerForConditionalGeneration

    from lalm.backbones._native_tiny import tiny_audio, tiny_mel, tiny_text, tiny_tokenizer

    sights = ("<|IMAGE|>", "<|VIDEO|>", "<|vision_bos|>", "<|vision_eos|>")
    tokenizer = tiny_tokenizer(("<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>", *sights))
    number = tokenizer.convert_tokens_to_ids
    text = tiny_text(
        len(tokenizer),
        rope_parameters={"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]},
        tie_word_embeddings=False,
    )
    # the published configuration has them, and `generate` reads them, but the class does not declare them
    beside: dict[str, Any] = {
        "vision_start_token_id": number("<|vision_bos|>"),
        "vision_end_token_id": number("<|vision_eos|>"),
    }
    config = Qwen2_5OmniThinkerConfig(
        audio_config={**tiny_audio(), "output_dim": text["hidden_size"]},
        text_config=text,
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": text["hidden_size"],
            "fullatt_block_indexes": [0],
        },
        initializer_range=text["initializer_range"],
        audio_token_index=number("<|AUDIO|>"),
        audio_start_token_id=number("<|audio_bos|>"),
        audio_end_token_id=number("<|audio_eos|>"),
        image_token_index=number("<|IMAGE|>"),
        video_token_index=number("<|VIDEO|>"),
        **beside,
    )
    return Qwen2_5OmniThinkerForConditionalGeneration(config), Processor(tokenizer, tiny_mel(), _TEMPLATE)
