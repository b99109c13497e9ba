"""espeak-ng: formant synthesis of about a hundred languages in many voices, run as a program (GPL-3).

A voice is an accent and a variant, `en-us+f3`. Robotic, but its many pitches and accents are cheap variety.
"""

from __future__ import annotations

import math
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from pydantic import Field, PositiveFloat

from lalm.errors import MissingExtraError, UserError
from lalm.plugins import PluginConfig

LICENCE = "program GPL-3; what it speaks is not covered by it"
INSTALL = "apt install espeak-ng (or brew install espeak-ng)"
WORDS_PER_MINUTE = 165
ACCENTS = {"en": ("en-us", "en-gb", "en-gb-x-rp", "en-gb-scotland", "en-us-nyc", "en-029")}
VARIANTS = ("m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f4", "f5")


class Config(PluginConfig):
    """Options of espeak-ng."""

    speed: PositiveFloat = Field(1.0, description="speaking rate, 1 is 165 words a minute")
    pitch: float = Field(
        1.0, ge=0.5, le=2, description="pitch that the melody starts from, a factor; the melody stays as wide as it is"
    )


def languages(cfg: Config) -> list[str]:
    """The languages of this espeak-ng, without their regions. Raises MissingExtraError without the program."""
    return sorted({line.split()[1].partition("-")[0] for line in _run(["--voices"]).splitlines()[1:]})


def voices(language: str, cfg: Config) -> list[str]:
    """Accent+variant names; other languages than English have one accent. Raises MissingExtraError without the program."""
    known = _run([f"--voices={language}"])
    if len(known.splitlines()) < 2:
        return []
    return [f"{accent}+{variant}" for accent in ACCENTS.get(language, (language,)) for variant in VARIANTS]


def speak(text: str, voice: str, language: str, cfg: Config) -> tuple[np.ndarray, int]:
    """Mono float32 waveform [num_samples] and its rate in Hz."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        pitch = str(min(99, round(50 + 50 * math.log2(cfg.pitch))))  # its scale: 0 is half, 50 the voice's own
        rate_wpm = str(round(WORDS_PER_MINUTE * cfg.speed))
        _run(["-v", voice, "-s", rate_wpm, "-p", pitch, "-w", str(path), "--", text])
        samples, rate = soundfile.read(path, dtype="float32")
    return samples, rate


def _run(options: list[str]) -> str:
    try:
        done = subprocess.run(["espeak-ng", *options], capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise MissingExtraError("The program espeak-ng", "the synthesis engine espeak_ng", INSTALL) from None
    except subprocess.CalledProcessError as error:
        raise UserError(f"espeak-ng failed on {options}: {error.stderr.strip() or error}") from None
    return done.stdout
