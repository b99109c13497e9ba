"""Noise mixed into recordings at a stated ratio: real noise from a folder, seeded, at 16 kHz.

What a ratio of speech to noise means depends on how power is measured, so it is said here. Speech: the mean power of the
frames (32 ms) within 40 dB of the loudest one, a plain form of the active speech level of ITU-T P.56. The mean over the
whole recording would fall with every second of silence before the words, so that the same voice would be drowned less
for being cut loosely. Noise: the mean power of the stretch that is added, silent parts included.

The mixer of Picovoice's speech-to-intent benchmark, from which the corpus `barista` is, compares the loudest 128 ms of the
speech with the loudest 128 ms of the noise instead: one bang in a stretch then says how loud all of it is. On its kitchen
noise and the recordings of `barista`, 6 dB here are 3.3 dB there on average (-0.3 to 6.8 for nine in ten recordings).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lalm.data import audio
from lalm.data.columns import AUDIO_EXTENSIONS
from lalm.errors import DataError, many

RATE_HZ = 16_000
_FRAME = 512  # samples: 32 ms
_ACTIVE_DB = 40.0  # frames so far under the loudest one still count as speech
_SILENT_DB = 60.0  # a stretch so far under the mean of its recording is a pause in the noise
_FADE = 320  # samples: 20 ms, over which the end of a loop passes into its beginning
_DRAWS = 20  # stretches tried before a recording of noise is given up as silent


def noise_files(folder: Path) -> list[Path]:
    """The recordings in a folder and in those below it, sorted; hidden files are passed over.

    Raises DataError for a folder that is missing or holds none.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder." if not folder.exists() else f"{folder}: is no folder.")
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in AUDIO_EXTENSIONS and not path.name.startswith(".") and path.is_file()
    )
    if not found:
        raise DataError(f"{folder}: holds no recordings of noise. Known by name: {', '.join(AUDIO_EXTENSIONS)}.")
    return found


def read_noise(folder: Path) -> list[np.ndarray]:
    """Every recording of a folder, mono float32 [num_samples] at 16 kHz, in the order of `noise_files`.

    All of it is held in memory, 230 MB an hour. Raises DataError that lists every file which cannot be used: unreadable,
    or silent from beginning to end.
    """
    recordings, problems = [], []
    files = noise_files(folder)
    for path in files:
        try:
            samples = audio.load(path, RATE_HZ)
        except DataError as error:
            problems.append(str(error))
            continue
        if np.any(samples):
            recordings.append(samples)
        else:
            problems.append(f"{path}: is silent from beginning to end, so it is no noise.")
    if problems:
        raise DataError(f"{folder}: {len(problems)} of {many(len(files), 'recording')} cannot be used.", problems)
    return recordings


def generator(seed: int, name: str) -> np.random.Generator:
    """A generator for one item: the same seed and name draw the same stretch, whatever is drawn for other items."""
    return np.random.default_rng([seed, int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")])


def mix(samples: np.ndarray, noise: Sequence[np.ndarray], snr_db: float, rng: np.random.Generator) -> np.ndarray:
    """Mono float32 speech [num_samples] at 16 kHz with a stretch of noise added, at `snr_db`: the same length.

    `noise` is what `read_noise` gives. Which recording and which stretch of it is drawn from `rng` and depends on
    nothing else but the length, so the same generator state at other ratios gives the same noise, louder or softer.
    Where the sum would go beyond -1..1 it is scaled down as a whole, which leaves the ratio as it is.
    Raises DataError if the speech is silent (no ratio is defined) or no stretch of the noise is not.
    """
    speech = np.asarray(samples, dtype=np.float64)
    power = speech_power(speech)
    if power == 0:
        raise DataError("is silent from beginning to end, so no ratio of speech to noise is defined.")
    stretch = draw(noise, len(speech), rng).astype(np.float64)
    mixed = speech + stretch * np.sqrt(power / np.mean(stretch**2) / 10 ** (snr_db / 10))
    return (mixed / max(1.0, float(np.abs(mixed).max()))).astype(np.float32)


def speech_power(samples: np.ndarray) -> float:
    """Mean power of the frames of speech [num_samples] within 40 dB of the loudest; 0 for silence."""
    samples = np.asarray(samples, dtype=np.float64)
    num_frames = max(1, len(samples) // _FRAME)
    powers = np.mean(samples[: num_frames * _FRAME].reshape(num_frames, -1) ** 2, axis=1)
    return float(powers[powers >= powers.max() * 10 ** (-_ACTIVE_DB / 10)].mean())


def draw(noise: Sequence[np.ndarray], num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """A stretch float32 [num_samples] of one of the recordings: each is as likely as another, each place in it too.

    One that is too short is looped, its end fading into its beginning. Raises DataError if only pauses are found.
    """
    for _ in range(_DRAWS):
        recording = noise[int(rng.integers(len(noise)))]
        floor = np.mean(np.square(recording, dtype=np.float64)) * 10 ** (-_SILENT_DB / 10)
        whole = recording if len(recording) >= num_samples else _looped(recording, num_samples)
        start = int(rng.integers(len(whole) - num_samples + 1))
        stretch = whole[start : start + num_samples]
        if np.mean(np.square(stretch, dtype=np.float64)) > floor:
            return stretch
    raise DataError(
        f"The noise holds pauses alone in {_DRAWS} stretches of {num_samples / RATE_HZ:.1f} s drawn from it."
    )


def _looped(recording: np.ndarray, num_samples: int) -> np.ndarray:
    """The recording repeated, one round longer than asked for so that it can begin anywhere.

    Each round begins with a cross-fade (equal power: the two sides are different noise) from the end of the one before.
    """
    fade = min(_FADE, len(recording) // 2)
    body, tail = recording[: len(recording) - fade].copy(), recording[len(recording) - fade :]
    angle = np.linspace(0, np.pi / 2, fade, endpoint=False, dtype=np.float32)
    body[:fade] = tail * np.cos(angle) + body[:fade] * np.sin(angle)
    return np.tile(body, num_samples // len(body) + 2)
