"""The real classes with small random weights, tokenizer included, built offline: for tests and dry runs of recipes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

from lalm.backbones._composed_model import ComposedModel
from lalm.backbones._encoder import AudioEncoder
from lalm.config import PluginChoice
from lalm.plugins import configure
from lalm.plugins import load as load_plugin

INIT_STD = 0.2  # about 1 / sqrt(width): as much of the input reaches the output as in a real model
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_tokenizer(begin: str = "<|im_start|>", end: str = "<|im_end|>") -> PreTrainedTokenizerFast:
    """One token a byte, plus the chat markers."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = [begin, end]
    vocabulary = {token: index for index, token in enumerate([*special, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=end,
        pad_token=end,
        additional_special_tokens=special[:1],
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def tiny_llm(vocab_size: int) -> LlamaForCausalLM:
    """Two layers, width 32, grouped queries, tied embeddings: SmolLM2's shape in small."""
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        initializer_range=INIT_STD,
        eos_token_id=1,
        pad_token_id=1,
    )
    return LlamaForCausalLM(config).eval()


def tiny_whisper() -> WhisperForConditionalGeneration:
    """Two layers, width 24, thirty seconds of positions."""
    config = WhisperConfig(
        vocab_size=64,
        d_model=24,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        init_std=INIT_STD,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        max_target_positions=32,
    )
    return WhisperForConditionalGeneration(config).eval()


def tiny_llama() -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """SmolLM2 in small, with a tokenizer."""
    tokenizer = byte_tokenizer()
    return tiny_llm(len(tokenizer)), tokenizer


def tiny_model(
    connector: PluginChoice,
    seed: int,
    max_audio_vectors: int | None = None,
    language_model: Callable[[], tuple[PreTrainedModel, PreTrainedTokenizerFast]] = tiny_llama,
) -> ComposedModel:
    """Whisper's class and a language model in small with a connector; text-like connectors need the real ones and are
    replaced by `mlp`, since they read weights that fit Whisper base only."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        whisper = tiny_whisper()
        llm, tokenizer = language_model()
    encoder = AudioEncoder(whisper.model.encoder, WhisperFeatureExtractor())
    name = connector.name if connector.name not in ("ctc", "hybrid", "cascade") else "mlp"
    module = load_plugin("connectors", name)
    options = configure(module, connector.options if name == connector.name else {}, "backbone.connector")
    built = module.build(encoder.width, llm.config.hidden_size, options)
    return ComposedModel(
        encoder,
        built,
        llm,
        tokenizer,
        identity={
            "backbone": "tiny",
            "connector": name,
            "connector_options": options.model_dump(mode="json"),
            "seed": seed,
            "licences": {},
        },
        max_audio_vectors=max_audio_vectors,
    )
