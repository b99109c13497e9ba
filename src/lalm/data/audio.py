"""Reading recordings: any rate, any number of channels, one clear error; and writing them, whole or not at all.

soundfile decodes, soxr resamples.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from lalm.data.truncation import cut_reason, is_cut
from lalm.errors import DataError
from lalm.rundir import atomic


@dataclass(frozen=True)
class AudioInfo:
    """What the header says."""

    duration_s: float
    sample_rate_hz: int
    num_channels: int


def info(path: Path) -> AudioInfo:
    """Header of an audio file. Raises DataError (missing, empty, not audio, cut off, no samples)."""
    _check_file(path)
    reason = cut_reason(path)
    if reason:
        raise DataError(f"{path}: is cut off: {reason}.")
    try:
        header = soundfile.info(str(path))
    except (soundfile.LibsndfileError, RuntimeError, TypeError) as error:
        raise DataError(
            f"{path}: is not audio that can be read ({_reason(error)}). Allowed: WAV, FLAC, OGG, MP3."
        ) from None
    if header.frames <= 0 or header.samplerate <= 0:
        raise DataError(f"{path}: holds no samples.")
    return AudioInfo(header.frames / header.samplerate, header.samplerate, header.channels)


def load(path: Path, sample_rate_hz: int = 16_000) -> np.ndarray:
    """Mono float32 waveform [num_samples] in -1..1 at `sample_rate_hz`; channels are averaged.

    Raises DataError for a file that is missing, empty, not audio, cut off, without samples, or with NaN or infinity.
    """
    samples, rate = decode(path)
    return mono(samples, rate, sample_rate_hz, str(path))


def decode(path: Path) -> tuple[np.ndarray, int]:
    """Samples float32 [num_samples, channels] as they are, NaN and all, and their rate in Hz.

    Raises DataError for a file that is missing, empty, not audio, cut off or without samples.
    """
    expected = info(path)
    try:
        samples, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError, MemoryError, ValueError) as error:  # a header may announce years
        raise DataError(f"{path}: cannot be decoded to its end ({_reason(error)}); it may be cut off.") from None
    if is_cut(len(samples) / rate, expected.duration_s):
        raise DataError(
            f"{path}: is cut off: its header announces {expected.duration_s:.2f} s, {len(samples) / rate:.2f} s are there."
        )
    return samples, rate


def check(paths: Iterable[Path]) -> None:
    """Decode every file to its end. Raises DataError that lists all files that cannot be used, with the reason."""
    problems = []
    num_files = 0
    for path in dict.fromkeys(paths):
        num_files += 1
        try:
            load(path)
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError(f"{len(problems)} of {num_files} recordings cannot be used.", problems)


def mono(samples: np.ndarray, rate_hz: float, sample_rate_hz: int, name: str) -> np.ndarray:
    """Mono float32 [num_samples] at `sample_rate_hz` from [num_samples] or [num_samples, channels]. Raises DataError."""
    samples = np.asarray(samples, dtype=np.float32)
    if samples.ndim == 2:
        samples = samples.mean(axis=1)
    if samples.ndim != 1 or samples.size == 0:
        raise DataError(
            f"{name}: holds no samples." if samples.size == 0 else f"{name}: has {samples.ndim} dimensions."
        )
    if not np.isfinite(samples).all():
        raise DataError(
            f"{name}: holds NaN or infinite samples, {int((~np.isfinite(samples)).sum())} of {samples.size}."
        )
    if rate_hz != sample_rate_hz:
        samples = soxr.resample(samples, rate_hz, sample_rate_hz)
    return np.ascontiguousarray(samples, dtype=np.float32)


def write_flac(path: Path, samples: np.ndarray, sample_rate_hz: int, comment: str | None = None) -> None:
    """Mono samples [num_samples] as FLAC of 16 bits, whole or not at all; `comment` is kept within the file."""
    packed = io.BytesIO()
    with soundfile.SoundFile(packed, "w", sample_rate_hz, 1, subtype="PCM_16", format="FLAC") as file:
        if comment is not None:
            file.comment = comment
        file.write(samples)
    with atomic(path, "wb") as stream:
        stream.write(packed.getvalue())


def comment_of(path: Path) -> str:
    """The comment within an audio file, empty if there is none. Raises DataError as `info` does."""
    info(path)
    with soundfile.SoundFile(str(path)) as file:
        return str(file.comment)


def content_hash(path: Path) -> str:
    """sha256 of the file's bytes. Raises DataError if it is missing."""
    _check_file(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def is_file(path: Path) -> bool:
    """Whether a file is there; a name that no file can have is none."""
    try:
        return path.is_file()
    except OSError:
        return False


def _check_file(path: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise DataError(
            f"{str(path).encode(errors='backslashreplace').decode()}: its name is not UTF-8. Rename it."
        ) from None
    if not is_file(path):
        raise DataError(f"{path}: there is no such file.")
    if not os.access(path, os.R_OK):
        raise DataError(f"{path}: may not be read (no permission).")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: is empty (0 bytes).")


def _reason(error: Exception) -> str:
    reason = str(error).rsplit(": ", 1)[-1].strip().rstrip(".") or type(error).__name__
    # libsndfile says this of a file that is there and has nothing in it that it knows
    return "nothing in it could be decoded" if "does not exist" in reason else reason
