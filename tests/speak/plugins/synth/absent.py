"""An engine whose program is on no machine."""

from __future__ import annotations

import numpy as np

from lalm.errors import MissingExtraError
from lalm.plugins import PluginConfig


class Config(PluginConfig):
    """No options."""


def languages(cfg: Config) -> list[str]:
    """Never any."""
    raise MissingExtraError("The program absent", "the synthesis engine absent", "apt install absent")


def voices(language: str, cfg: Config) -> list[str]:
    """Never any."""
    return languages(cfg)


def speak(text: str, voice: str, language: str, cfg: Config) -> tuple[np.ndarray, int]:
    """Never."""
    raise MissingExtraError("The program absent", "the synthesis engine absent", "apt install absent")
