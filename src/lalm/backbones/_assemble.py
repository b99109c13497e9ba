"""An audio encoder, a connector and a causal language model put together: checked first, weights read last."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lalm.backbones import _encoders, _language, _prompt, _stack
from lalm.backbones._composed_model import ComposedModel
from lalm.backbones._listening import SAMPLE_RATE_HZ
from lalm.config import PluginChoice
from lalm.data.cache import PreparedCache
from lalm.errors import ModelError
from lalm.models import parts
from lalm.models.parts import Part
from lalm.plugins import configure
from lalm.plugins import load as load_plugin

MULTILINGUAL_TOKENS = 51_865  # vocabulary of the Whispers that connectors with a decoder know (tiny to large-v2)


def assemble(
    speech: Part,
    language: Part,
    choice: PluginChoice,
    *,
    identity: Callable[[Any, Any], Mapping[str, Any]],
    cache: PreparedCache | None = None,
    dtype: Any = None,
    max_audio_vectors: int | None = None,
) -> ComposedModel:
    """The model of two parts and a connector, in float32 or `dtype`; `identity` is made from encoder and language model.

    Raises ModelError, before any weight is read where that is possible: what is wrong with both parts at once, a
    connector that does not fit the encoder, weights that are missing or not safetensors.
    """
    problems: list[str] = []
    ears = _tried(lambda: _ears(speech), problems)
    words = _tried(lambda: _words(language), problems)
    if problems:
        raise ModelError("\n".join(problems))
    (encoder_config, extractor), (llm_config, tokenizer) = ears, words
    connector = _connector(choice, encoder_config, llm_config)
    _tried(lambda: parts.weight_files(speech), problems)
    _tried(lambda: parts.weight_files(language), problems)
    if problems:
        raise ModelError("\n".join(problems))
    encoder = _encoder(speech, encoder_config, connector, dtype)
    llm = load_language_model(language, llm_config, dtype)
    hearing = _encoders.hearing(encoder, extractor, getattr(connector, "taps", None))
    made = identity(encoder, llm)
    model = ComposedModel(
        hearing, connector, llm, tokenizer, identity=made, cache=cache, max_audio_vectors=max_audio_vectors
    )
    if not _stack.supports(llm):  # families that are known to fit need not be tried
        _language.check_answers(model.module)
    return model


def _tried(check: Callable[[], Any], problems: list[str]) -> Any:
    try:
        return check()
    except ModelError as error:
        problems.append(str(error))
        return None


def _ears(part: Part) -> tuple[Any, Any]:
    """Configuration and feature extractor of an encoder that can be heard with."""
    _encoders.check_family(part)
    config, extractor = parts.load_config(part), parts.load_feature_extractor(part)
    rate = getattr(extractor, "sampling_rate", None)
    if rate != SAMPLE_RATE_HZ:
        raise ModelError(f"{part.source}: it hears at {rate} Hz, and audio is read at {SAMPLE_RATE_HZ} Hz here.")
    return config, extractor


def _words(part: Part) -> tuple[Any, Any]:
    """Configuration and tokenizer of a language model that can be talked to."""
    config = parts.load_config(part)
    _language.check_config(part, config)
    tokenizer = parts.load_tokenizer(part)
    try:
        _prompt.around(tokenizer, "?")
        _prompt.end_of_turn(tokenizer)
    except ModelError as error:
        raise ModelError(f"{part.source}: {error}") from None
    return config, tokenizer


def build_connector(choice: PluginChoice, audio_width: int, text_width: int) -> Any:
    """The connector plug-in with its options, before it is bound."""
    module = load_plugin("connectors", choice.name)
    options = configure(module, choice.options, "backbone.connector")
    return module.build(audio_width, text_width, options)


def _connector(choice: PluginChoice, encoder_config: Any, llm_config: Any) -> Any:
    """The connector, if the encoder is one that it reads. Raises ModelError otherwise."""
    connector = build_connector(choice, _encoders.width(encoder_config), llm_config.hidden_size)
    taps = getattr(connector, "taps", None)
    if taps is not None and (
        encoder_config.model_type != "whisper" or max(taps) > _encoders.num_layers(encoder_config)
    ):
        raise ModelError(
            f"backbone.connector: '{choice.name}' reads inner layers of Whisper base, and this encoder is a "
            f"'{encoder_config.model_type}' of {_encoders.num_layers(encoder_config)} layers. Choose 'mlp' and train it."
        )
    if hasattr(connector, "bind_speech") and (
        encoder_config.model_type != "whisper" or encoder_config.vocab_size != MULTILINGUAL_TOKENS
    ):
        raise ModelError(
            f"backbone.connector: '{choice.name}' lets Whisper's decoder write what it heard, and knows the tokens of the "
            f"multilingual Whispers up to large-v2. This encoder is another one. Choose 'mlp' and train it."
        )
    return connector


def _encoder(part: Part, config: Any, connector: Any, dtype: Any) -> Any:
    """The encoder alone; with the decoder that it belongs to where the connector has a use for it."""
    if not hasattr(connector, "bind_speech"):
        return _encoders.load_encoder(part, config, dtype)
    from transformers import WhisperForConditionalGeneration, WhisperTokenizer

    whisper = parts.load_weights(WhisperForConditionalGeneration, part, dtype)
    connector.bind_speech(whisper, WhisperTokenizer.from_pretrained(part.folder, local_files_only=True))
    return whisper.model.encoder


def load_language_model(part: Part, config: Any, dtype: Any = None) -> Any:
    """The causal language model, answering without the sampling and penalties that its makers may have set."""
    from transformers import AutoModelForCausalLM, GenerationConfig

    llm = parts.load_weights(AutoModelForCausalLM, part, dtype, config=config)
    llm.generation_config = GenerationConfig(eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id)
    return llm
