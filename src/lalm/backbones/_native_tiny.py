"""Pieces of tiny models of the real classes: tokenizer, feature extractor, language model settings. Built offline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, WhisperFeatureExtractor

from lalm.backbones._tiny import INIT_STD, byte_tokenizer

NUM_POSITIONS = 1024


def tiny_tokenizer(specials: Sequence[str], **named: str) -> Any:
    """One token a byte; ids 0 and 1 are the chat markers, of which 1 ends a turn. Padding is a token of its own.

    `specials` are further marks; `named` ones are attributes of the tokenizer, as `audio_token`.
    """
    return PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer().backend_tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=["<|im_start|>", *specials],
        padding_side="left",
        **named,
    )


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


WHISPER_NAMES = ("d_model", "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim")


def tiny_audio(names: Sequence[str] = WHISPER_NAMES) -> dict[str, Any]:
    """Settings of a Whisper-like encoder: width 24, two layers, two heads; the real number of mel bins and positions.

    `names` are what the family calls width, layers, heads and the width of its perceptrons.
    """
    sizes = dict(zip(names, (24, 2, 2, 48), strict=True))
    return {"num_mel_bins": 128, "initializer_range": INIT_STD, **sizes}


def tiny_tekken() -> Any:
    """One token a byte behind the control tokens of Mistral's tokenizers, at their own numbers."""
    control = [f"<SPECIAL_{number}>" for number in range(32)]
    known = {
        0: "<unk>",
        1: "<s>",
        2: "</s>",
        3: "[INST]",
        4: "[/INST]",
        11: "<pad>",
        24: "[AUDIO]",
        25: "[BEGIN_AUDIO]",
    }
    for number, name in known.items():
        control[number] = name
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*control, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        extra_special_tokens=[name for name in control if name not in ("<s>", "</s>", "<unk>", "<pad>")],
        padding_side="left",
    )
