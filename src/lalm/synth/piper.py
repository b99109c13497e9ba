"""Piper voices through onnxruntime, from espeak-ng's phonemes: natural speech, one voice here (en_US-joe).

The voice's ONNX file is pinned in models/artifacts.toml. Piper's own program (GPL-3) is not used: its models take phoneme
ids and three scales, which is all that is written here.
"""

from __future__ import annotations

import functools
import json
from typing import Any

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat

from lalm.models.voices import check_installed, onnx_session, phonemes, voice_files
from lalm.plugins import PluginConfig

LICENCE = "voice data CC0 (fine-tuned from the voice lessac)"
VOICES = {"en": ("joe",)}
_ARTIFACTS = {"joe": ("piper-en-us-joe", "en_US-joe-medium")}


class Config(PluginConfig):
    """Options of Piper."""

    speed: PositiveFloat = Field(1.0, description="speaking rate, 1 is the voice's own")
    noise_scale: NonNegativeFloat = Field(0.667, description="variation of the sound")
    noise_w: NonNegativeFloat = Field(0.8, description="variation of the sounds' lengths")


def languages(cfg: Config) -> list[str]:
    """Those of its voices. Raises MissingExtraError without onnxruntime or the program espeak-ng."""
    check_installed("the synthesis engine piper")
    return list(VOICES)


def voices(language: str, cfg: Config) -> list[str]:
    """The voices of a language."""
    return list(VOICES.get(language, ()))


def speak(text: str, voice: str, language: str, cfg: Config) -> tuple[np.ndarray, int]:
    """Mono float32 waveform [num_samples] and its rate in Hz (22,050). Raises MissingExtraError, ModelError."""
    session, settings = _loaded(voice)
    spoken = phonemes(text, settings["espeak"]["voice"], "the synthesis engine piper")
    table = settings["phoneme_id_map"]
    ids = [*table["^"], *table["_"]]
    for letter in spoken:
        ids += [*table.get(letter, []), *table["_"]] if letter in table else []
    ids += table["$"]
    inputs = {
        "input": np.array([ids], dtype=np.int64),
        "input_lengths": np.array([len(ids)], dtype=np.int64),
        "scales": np.array([cfg.noise_scale, 1 / cfg.speed, cfg.noise_w], dtype=np.float32),
    }
    return np.asarray(session.run(None, inputs)[0], np.float32).ravel(), int(settings["audio"]["sample_rate"])


@functools.cache
def _loaded(voice: str) -> tuple[Any, dict[str, Any]]:
    artifact, name = _ARTIFACTS[voice]
    files = voice_files(artifact)
    session = onnx_session(files[f"{name}.onnx"], "the synthesis engine piper")
    return session, json.loads(files[f"{name}.onnx.json"].read_text(encoding="utf-8"))
