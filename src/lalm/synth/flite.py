"""flite: small unit-selection and statistical voices of English, run as a program (BSD-like licence).

CMU Flite. Its voices kal16 and awb_time aside: `slt`, `rms`, `awb` (statistical, 16 kHz) and `kal16` (diphones).
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from pydantic import Field, PositiveFloat

from lalm.errors import MissingExtraError, UserError
from lalm.plugins import PluginConfig

LICENCE = "Flite (BSD-like); speech may be used freely"
INSTALL = "apt install flite (or brew install flite)"
VOICES = ("awb", "kal16", "rms", "slt")


class Config(PluginConfig):
    """Options of flite."""

    speed: PositiveFloat = Field(1.0, description="speaking rate, 1 is the voice's own")


def languages(cfg: Config) -> list[str]:
    """English. Raises MissingExtraError without the program."""
    _run(["-lv"])
    return ["en"]


def voices(language: str, cfg: Config) -> list[str]:
    """English voices that this flite has; none for other languages. Raises MissingExtraError without the program."""
    if language != "en":
        return []
    listed = _run(["-lv"]).replace("Voices available:", "").split()
    return [name for name in VOICES if name in listed]


def speak(text: str, voice: str, language: str, cfg: Config) -> tuple[np.ndarray, int]:
    """Mono float32 waveform [num_samples] and its rate in Hz."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        _run(["-voice", voice, "--setf", f"duration_stretch={1 / cfg.speed:.3f}", "-t", text, "-o", str(path)])
        samples, rate = soundfile.read(path, dtype="float32")
    return samples, rate


def _run(options: list[str]) -> str:
    try:
        done = subprocess.run(["flite", *options], capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise MissingExtraError("The program flite", "the synthesis engine flite", INSTALL) from None
    except subprocess.CalledProcessError as error:
        raise UserError(f"flite failed on {options}: {error.stderr.strip() or error}") from None
    return done.stdout
