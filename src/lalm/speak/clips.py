"""One sentence spoken by one voice, as it is kept: 16 kHz, mono, without the silence around it, at one loudness."""

from __future__ import annotations

import hashlib
import json
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from lalm import plugins
from lalm.data import audio
from lalm.data.augment import in_room
from lalm.errors import ConfigError, DataError

SAMPLE_RATE_HZ = 16_000
SILENT = 1e-4  # a peak below it is no speech


@dataclass(frozen=True)
class Clip:
    """Everything that a recording depends on. `speed` and `pitch` are factors of the voice's own; `reverb_s` in seconds.

    `room_seed` draws the room and is 0 without one.
    """

    text: str
    engine: str
    voice: str
    language: str
    speed: float = 1.0
    pitch: float = 1.0
    reverb_s: float | None = None
    room_seed: int = 0

    @property
    def name(self) -> str:
        """Hash of what is heard: a recording of other words or of another voice never bears it."""
        return hashlib.sha256(json.dumps(astuple(self)).encode()).hexdigest()[:16]

    def path(self, folder: Path) -> Path:
        """Where its recording is kept."""
        return folder / f"{self.name}.flac"


def keep(clip: Clip, folder: Path) -> None:
    """Speak a clip and write it, whole or not at all.

    Raises MissingExtraError or ModelError if the engine cannot speak here, DataError if it says nothing of this text.
    """
    samples = spoken(clip.text, clip.engine, clip.voice, clip.language, clip.speed, clip.pitch)
    if float(np.abs(samples).max()) < SILENT:
        raise DataError(f"{clip.engine}/{clip.voice} says nothing of {clip.text!r}.")
    samples = trimmed(samples)
    if clip.reverb_s is not None:
        samples = np.pad(samples, (0, int(clip.reverb_s * SAMPLE_RATE_HZ)))
        samples = in_room(samples, SAMPLE_RATE_HZ, clip.reverb_s, np.random.default_rng(clip.room_seed))
        samples *= 0.5 / float(np.abs(samples).max())
    audio.write_flac(clip.path(folder), samples.astype(np.float32), SAMPLE_RATE_HZ)


def spoken(text: str, engine: str, voice: str, language: str, speed: float = 1.0, pitch: float = 1.0) -> np.ndarray:
    """Mono waveform [num_samples] at 16 kHz, as the engine makes it. Raises as `keep` does.

    An engine without an option `pitch` speaks slower or faster and is resampled to its speed: higher means a smaller head,
    too, as formants move along.
    """
    module = plugins.load("synth", engine)
    fields = module.Config.model_fields
    own_pitch = pitch == 1 or "pitch" in fields
    options = {"pitch": pitch} if pitch != 1 and own_pitch else {}
    own_speed = speed if own_pitch else speed / pitch
    if own_speed != 1:
        if "speed" not in fields:
            raise ConfigError(f"The engine {engine} has no option speed, so neither speed nor pitch can be changed.")
        options["speed"] = own_speed
    if "\0" in text:
        raise DataError("holds a zero byte, which no program can be given.")
    samples, rate = module.speak(text, voice, language, plugins.configure(module, options, engine))
    return audio.mono(samples, rate if own_pitch else rate * pitch, SAMPLE_RATE_HZ, f"{engine}/{voice}")


def trimmed(samples: np.ndarray) -> np.ndarray:
    """Without silence at both ends but for 50 ms, peak at half of full scale."""
    peak = float(np.abs(samples).max()) or 1.0
    loud = np.flatnonzero(np.abs(samples) > 0.02 * peak)
    margin = SAMPLE_RATE_HZ // 20
    kept = samples[max(0, loud[0] - margin) : loud[-1] + margin] if loud.size else samples
    return kept / peak * 0.5
