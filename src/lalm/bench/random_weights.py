"""Qwen2-Audio's class with random weights: of a size that a laptop can train, and of the size of the published model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lalm.backbones._native import NativeModel
    from lalm.data.cache import PreparedCache

# audio encoder and language model; what is left out is as in the classes' own defaults
SIZES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # Whisper base's shape, and Qwen2-0.5B's; about 0.5 billion weights
    "middle": (
        {"d_model": 512, "encoder_layers": 6, "encoder_attention_heads": 8, "encoder_ffn_dim": 2048},
        {
            "vocab_size": 151_936,
            "hidden_size": 896,
            "intermediate_size": 4864,
            "num_hidden_layers": 24,
            "num_attention_heads": 14,
            "num_key_value_heads": 2,
        },
    ),
    # Qwen/Qwen2-Audio-7B-Instruct as its config.json says: Whisper large v3's encoder and Qwen-7B; 8.4 billion weights
    "7b": (
        {"d_model": 1280, "encoder_layers": 32, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120},
        {
            "vocab_size": 156_032,
            "hidden_size": 4096,
            "intermediate_size": 11_008,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
            "max_position_embeddings": 8192,
        },
    ),
}


def qwen2_audio(
    size: str, device: str, cache: PreparedCache | None = None, instruction_first: bool = False
) -> NativeModel:
    """The model in bfloat16 if it is of the published size, else in float32."""
    import torch
    from transformers import Qwen2AudioForConditionalGeneration, Qwen2AudioProcessor

    from lalm.backbones import qwen2_audio as backbone
    from lalm.backbones._native_load import tiny_native
    from lalm.backbones._native_tiny import tiny_mel

    def made(seed: int) -> tuple[Any, Any]:
        config, tokenizer = configuration(size)
        dtype = torch.bfloat16 if size == "7b" else torch.float32
        with torch.device(device):
            module = Qwen2AudioForConditionalGeneration._from_config(config, dtype=dtype)
        return module, Qwen2AudioProcessor(tiny_mel(), tokenizer)

    return tiny_native(backbone.FAMILY, made, 0, cache=cache, instruction_first=instruction_first)


def configuration(size: str) -> tuple[Any, Any]:
    """The class's configuration, and a tokenizer of one token a byte."""
    from transformers import Qwen2AudioConfig

    from lalm.backbones._native_tiny import tiny_tokenizer

    audio, text = SIZES[size]
    tokenizer = tiny_tokenizer(("<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"))
    config = Qwen2AudioConfig(
        audio_config={"model_type": "qwen2_audio_encoder", "num_mel_bins": 128, **audio},
        text_config={"model_type": "qwen2", "bos_token_id": None, "eos_token_id": 1, **text},
        audio_token_index=tokenizer.convert_tokens_to_ids("<|AUDIO|>"),
    )
    return config, tokenizer
