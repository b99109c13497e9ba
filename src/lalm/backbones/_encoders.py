"""Which audio encoders of `transformers` a composed model can hear with, and how each is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lalm.backbones._encoder import AudioEncoder
from lalm.backbones._waveform_encoder import WaveformEncoder
from lalm.errors import ModelError, nearest
from lalm.models.parts import Part, load_weights

LIKE_WHISPER = ("whisper", "qwen2_audio_encoder", "audioflamingo3_encoder", "voxtral_encoder")
ON_WAVEFORMS = ("wav2vec2", "hubert", "wavlm", "unispeech-sat", "data2vec-audio")
FAMILIES = (*LIKE_WHISPER, *ON_WAVEFORMS)
_WHOLE = {  # audio language models, whose encoder is of a family above
    "qwen2_audio": "qwen2_audio_encoder",
    "audioflamingo3": "audioflamingo3_encoder",
    "voxtral": "voxtral_encoder",
}


def check_family(part: Part) -> None:
    """Raises ModelError if a part is no encoder that a composed model can hear with."""
    if part.model_type in FAMILIES:
        return
    if part.model_type in _WHOLE:
        raise ModelError(
            f"{part.source}: this is a whole audio language model ({part.model_type}). Choose the backbone of that name, "
            f"or save its encoder alone ({_WHOLE[part.model_type]}) and name that folder."
        )
    raise ModelError(
        f"{part.source}: a model of type '{part.model_type}' is no audio encoder known here.{nearest(part.model_type, FAMILIES)}"
    )


def width(config: Any) -> int:
    """The size of a frame, from the configuration alone."""
    if config.model_type in LIKE_WHISPER:
        return int(config.d_model)
    return int(getattr(config, "output_hidden_size", None) or config.hidden_size)


def num_layers(config: Any) -> int:
    """Layers of the encoder, from the configuration alone."""
    return int(config.encoder_layers if config.model_type in LIKE_WHISPER else config.num_hidden_layers)


def encoder_class(config: Any) -> Any:
    """The class of `transformers` for the encoder alone."""
    from transformers import MODEL_MAPPING
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    return WhisperEncoder if config.model_type == "whisper" else MODEL_MAPPING[type(config)]


def load_encoder(part: Part, config: Any, dtype: Any = None) -> Any:
    """The encoder of a part, without the decoder of a whole Whisper. Raises ModelError if its weights cannot be used."""
    found = encoder_class(config)
    if part.model_type == "whisper" and found.__name__ not in (config.architectures or ()):
        from transformers import WhisperModel

        return load_weights(WhisperModel, part, dtype, config=config).encoder
    return load_weights(found, part, dtype, may_miss=["masked_spec_embed"], config=config)


def hearing(encoder: Any, feature_extractor: Any, taps: Sequence[int] | None = None) -> AudioEncoder | WaveformEncoder:
    """The encoder with all that it takes to hear files; `taps` as in `AudioEncoder`, which alone has them."""
    if encoder.config.model_type in LIKE_WHISPER:
        return AudioEncoder(encoder, feature_extractor, taps)
    assert taps is None, "taps are checked before weights are loaded"
    return WaveformEncoder(encoder, feature_extractor)
