"""Pieces of tiny models of the real classes: tokenizer, feature extractor, language model settings. Built offline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import WhisperFeatureExtractor

from lalm.backbones._tiny import INIT_STD, byte_tokenizer

NUM_POSITIONS = 1024


def tiny_tokenizer(specials: Sequence[str], template: str | None = None) -> Any:
    """One token a byte, ids 0 and 1 the chat markers (1 ends a turn), then bytes, then `specials`; padding by a token of its own."""
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"pad_token": "<|endoftext|>"})
    tokenizer.add_special_tokens({"extra_special_tokens": list(specials)}, replace_extra_special_tokens=False)
    tokenizer.chat_template = template
    tokenizer.padding_side = "left"
    return tokenizer


def tiny_mel() -> Any:
    """The feature extractor of Whisper large v3, which these families use."""
    return WhisperFeatureExtractor(feature_size=128, return_attention_mask=True)


def tiny_text(vocab_size: int, **more: Any) -> dict[str, Any]:
    """Settings of a language model: two layers, width 32, grouped queries."""
    return {
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": NUM_POSITIONS,
        "initializer_range": INIT_STD,
        "bos_token_id": None,
        "eos_token_id": 1,
        **more,
    }


def tiny_audio(**more: Any) -> dict[str, Any]:
    """Settings of a Whisper-like encoder: two layers, width 24, the real number of mel bins and positions."""
    return {
        "num_mel_bins": 128,
        "d_model": 24,
        "encoder_layers": 2,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 48,
        "initializer_range": INIT_STD,
        **more,
    }
