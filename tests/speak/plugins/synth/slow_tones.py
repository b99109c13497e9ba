"""Tones that take their time, so that a test can kill what speaks them."""

from __future__ import annotations

import time

import numpy as np

from lalm.plugins import PluginConfig

RATE_HZ = 16_000


class Config(PluginConfig):
    """No options."""


def languages(cfg: Config) -> list[str]:
    """One."""
    return ["en"]


def voices(language: str, cfg: Config) -> list[str]:
    """One."""
    return ["one"]


def speak(text: str, voice: str, language: str, cfg: Config) -> tuple[np.ndarray, int]:
    """A tone of a second, a quarter of a second later."""
    time.sleep(0.25)
    return np.sin(np.arange(RATE_HZ) * (0.1 + 0.001 * len(text))).astype(np.float32), RATE_HZ
