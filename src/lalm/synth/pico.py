"""SVOX Pico: small natural voices of English, French, Spanish, Italian and German, through the package ttspico (Apache-2.0).

The engine that Android once came with; ttspico is its C code with the voices' data, built when it is installed. One voice
a language (two accents of English), a hundred times as fast as speech.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field

from lalm.errors import MissingExtraError, UserError
from lalm.plugins import PluginConfig

LICENCE = "Apache-2.0"
INSTALL = "pip install ttspico (which needs a C compiler)"
SAMPLE_RATE_HZ = 16_000
VOICES = {"en": ("en-GB", "en-US"), "fr": ("fr-FR",), "es": ("es-ES",), "it": ("it-IT",), "de": ("de-DE",)}
_MARKUP = str.maketrans("<>&", "   ")  # Pico reads tags, and changes its voice as they say


class Config(PluginConfig):
    """Options of Pico."""

    speed: float = Field(1.0, ge=0.2, le=5, description="speaking rate, 1 is the voice's own")
    pitch: float = Field(1.0, ge=0.5, le=2, description="pitch, a factor")


def languages(cfg: Config) -> list[str]:
    """Those of its voices. Raises MissingExtraError without the package ttspico."""
    _package()
    return list(VOICES)


def voices(language: str, cfg: Config) -> list[str]:
    """The voices of a language, named by language and country."""
    return list(VOICES.get(language, ()))


def speak(text: str, voice: str, language: str, cfg: Config) -> tuple[np.ndarray, int]:
    """Mono float32 waveform [num_samples] and its rate in Hz (16,000). Raises MissingExtraError; UserError if Pico fails."""
    # an engine of its own: what one has said before changes how it says the next sentence
    try:
        engine = _package().TtsEngine(voice)
    except RuntimeError as error:
        raise UserError(f"pico cannot load the voice {voice}: {error}. Installed anew, it may: {INSTALL}.") from None
    engine.rate, engine.pitch = round(100 * cfg.speed), round(100 * cfg.pitch)
    said = engine.speak(text.translate(_MARKUP)) or b""
    return np.frombuffer(said, dtype="<i2").astype(np.float32) / 2**15, SAMPLE_RATE_HZ


def _package() -> Any:
    try:
        import ttspico
    except ImportError:
        raise MissingExtraError("The package ttspico", "the synthesis engine pico", INSTALL) from None
    return ttspico
