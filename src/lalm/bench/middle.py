"""Qwen2-Audio's class at a size that a laptop can train: random weights, the real vocabulary's width."""

from __future__ import annotations

from typing import Any


def middle_qwen2_audio() -> Any:
    """An encoder of Whisper base's shape and a language model of Qwen2-0.5B's, 151,936 words; about 0.5 billion weights."""
    from transformers import Qwen2AudioConfig, Qwen2AudioForConditionalGeneration, Qwen2AudioProcessor

    from lalm.backbones import qwen2_audio
    from lalm.backbones._native_load import tiny_native
    from lalm.backbones._native_tiny import tiny_mel, tiny_tokenizer

    def made(seed: int) -> tuple[Any, Any]:
        tokenizer = tiny_tokenizer(("<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"))
        config = Qwen2AudioConfig(
            audio_config={
                "model_type": "qwen2_audio_encoder",
                "num_mel_bins": 128,
                "d_model": 512,
                "encoder_layers": 6,
                "encoder_attention_heads": 8,
                "encoder_ffn_dim": 2048,
            },
            text_config={
                "model_type": "qwen2",
                "vocab_size": 151_936,
                "hidden_size": 896,
                "intermediate_size": 4864,
                "num_hidden_layers": 24,
                "num_attention_heads": 14,
                "num_key_value_heads": 2,
                "bos_token_id": None,
                "eos_token_id": 1,
            },
            audio_token_index=tokenizer.convert_tokens_to_ids("<|AUDIO|>"),
        )
        return Qwen2AudioForConditionalGeneration(config), Qwen2AudioProcessor(tiny_mel(), tokenizer)

    return tiny_native(qwen2_audio.FAMILY, made, 0)
