"""Small random encoders and language models in folders, as `save_pretrained` writes them: parts for composed models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
)

from lalm.backbones._tiny import byte_tokenizer, tiny_whisper

STD = 0.2
MEL = {
    "d_model": 24,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 48,
    "init_std": STD,
    "initializer_range": STD,
}
MEL_FAMILIES = {
    "qwen2_audio_encoder": MEL,
    "audioflamingo3_encoder": {
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "initializer_range": STD,
    },
    "voxtral_encoder": {
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "initializer_range": STD,
    },
}
WAVE = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "initializer_range": STD,
}
WAVE_FAMILIES = {
    "wav2vec2": ("wav2vec2", {"feat_extract_norm": "group"}),
    "wav2vec2-large": ("wav2vec2", {"feat_extract_norm": "layer", "do_stable_layer_norm": True}),
    "hubert": ("hubert", {"feat_extract_norm": "layer", "do_stable_layer_norm": True}),
    "wavlm": ("wavlm", {"feat_extract_norm": "layer"}),
    "unispeech-sat": ("unispeech-sat", {"feat_extract_norm": "layer", "do_stable_layer_norm": True}),
    "data2vec-audio": ("data2vec-audio", {"conv_pos_kernel_size": 5, "num_conv_pos_embeddings": 2}),
}
ENCODERS = ("whisper", *MEL_FAMILIES, *WAVE_FAMILIES)
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "initializer_range": STD,
    "eos_token_id": 1,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "max_position_embeddings": 2048,
}
GPT = {key: TEXT[key] for key in ("initializer_range", "eos_token_id", "pad_token_id", "bos_token_id")}
LANGUAGE_MODELS: dict[str, dict[str, Any]] = {
    "llama": TEXT,
    "qwen2": TEXT,
    "qwen3": TEXT,
    "mistral": {**TEXT, "sliding_window": 16},
    "gemma": TEXT,
    "gemma2": {**TEXT, "sliding_window": 16, "final_logit_softcapping": 3.0, "query_pre_attn_scalar": 8},
    "gemma3_text": {**TEXT, "sliding_window": 16, "query_pre_attn_scalar": 8},
    "granite": {**TEXT, "logits_scaling": 4.0, "embedding_multiplier": 2.0},
    "cohere": {**TEXT, "logit_scale": 0.25},
    "olmo2": TEXT,
    "phi3": TEXT,
    "gpt_neox": {**TEXT, "hidden_act": "gelu"},
    "gpt2": {**GPT, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 2048},
    "opt": {
        **GPT,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "ffn_dim": 64,
        "word_embed_proj_dim": 32,
        "init_std": STD,
    },
    "qwen3_moe": {**TEXT, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
}


def make_encoder(name: str, folder: Path, seed: int = 0) -> Path:
    """A tiny encoder of a family with its feature extractor, in the empty or missing folder."""
    torch.manual_seed(seed)
    if name == "whisper":
        tiny_whisper().save_pretrained(folder)
        WhisperFeatureExtractor().save_pretrained(folder)
    elif name in MEL_FAMILIES:
        AutoModel.from_config(AutoConfig.for_model(name, **MEL_FAMILIES[name])).save_pretrained(folder)
        WhisperFeatureExtractor(feature_size=128).save_pretrained(folder)
    else:
        family, own = WAVE_FAMILIES[name]
        AutoModel.from_config(AutoConfig.for_model(family, **{**WAVE, **own})).save_pretrained(folder)
        Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True).save_pretrained(folder)
    return folder


def make_language_model(name: str, folder: Path, seed: int = 0, **changes: Any) -> Path:
    """A tiny language model of a family with a tokenizer of bytes and a chat template."""
    torch.manual_seed(seed)
    tokenizer = byte_tokenizer()
    config = AutoConfig.for_model(name, vocab_size=len(tokenizer), **{**LANGUAGE_MODELS[name], **changes})
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
