"""Tones instead of speech, one a letter: an engine for tests that every machine has."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from lalm.plugins import PluginConfig

LICENCE = "CC0-1.0"
RATE_HZ = 22_050
VOICES = {"low": 180.0, "middle": 240.0, "high": 320.0, "shrill": 430.0, "deep": 120.0, "thin": 560.0}  # Hz
LETTER_S = 0.02


class Config(PluginConfig):
    """Options of the tones. No pitch: it is changed by resampling, as for most engines."""

    speed: float = Field(1.0, gt=0, description="letters in 20 ms")


def languages(cfg: Config) -> list[str]:
    """Two."""
    return ["en", "fr"]


def voices(language: str, cfg: Config) -> list[str]:
    """The same tones in both, and a mixture of two."""
    return [*VOICES, "low+high"] if language in languages(cfg) else []


def speak(text: str, voice: str, language: str, cfg: Config) -> tuple[np.ndarray, int]:
    """A tone whose loudness follows the letters; silence for a text without any."""
    letters = [ord(letter) % 32 / 32 for letter in text if letter.isalpha()]
    length = int(LETTER_S / cfg.speed * RATE_HZ)
    time_s = np.arange(length * max(1, len(letters)))
    loudness = np.repeat(letters or [0.0], length)
    return (0.5 * loudness * np.sin(2 * np.pi * VOICES[voice] * time_s / RATE_HZ)).astype(np.float32), RATE_HZ
