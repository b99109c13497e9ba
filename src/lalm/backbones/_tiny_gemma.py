"""Gemma 3's classes with small random weights, its layers of both types and a window that the rows of tests outgrow."""

from __future__ import annotations

from transformers import Gemma3ForCausalLM, Gemma3TextConfig, PreTrainedTokenizerFast

from lalm.backbones._tiny import INIT_STD, byte_tokenizer
from lalm.models.gemma import TEMPLATE

WINDOW = 24


def tiny_gemma() -> tuple[Gemma3ForCausalLM, PreTrainedTokenizerFast]:
    """Three layers, of which the second sees everything, width 32, one pair of keys and values, tied embeddings."""
    tokenizer = byte_tokenizer("<bos>", "<eos>")
    tokenizer.bos_token = "<bos>"
    tokenizer.chat_template = TEMPLATE
    config = Gemma3TextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        sliding_window=WINDOW,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=8,
        query_pre_attn_scalar=8,
        max_position_embeddings=2048,
        initializer_range=INIT_STD,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )
    model = Gemma3ForCausalLM(config).eval()
    # embeddings are scaled up by the root of the width: at full size, what was said last would only be said again
    model.get_input_embeddings().weight.data.mul_(0.25)
    return model, tokenizer
