"""Seeded changes of a waveform that leave its words as they are: rate, silence, room, noise, telephone line, gain.

Rooms are exponentially decaying noise after a direct path (a common stand-in for measured impulse responses). `augment` is
what `lalm align` does to its clips: noise is white, pink or brown, the band that of a telephone or of a dull microphone,
everything is drawn from one generator. `changed` makes the copies of training recordings that `data.augment` of a recipe
asks for: noise is real, and every change has a generator of its own, so that leaving one out alters no other.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import soundfile
import soxr
from pydantic import BaseModel, ConfigDict, Field

from lalm.data.noise import generator, mix
from lalm.sections import AugmentSection

# scipy.signal is imported where it is used: it takes a second, and most runs have no use for it

Range = tuple[float, float]
RATE_HZ = 16_000  # of what `changed` takes and gives
LINE_HZ = 8_000
LINE_BAND_HZ = (300.0, 3400.0)
_CODECS = {"mulaw": "ULAW", "alaw": "ALAW", "gsm": "GSM610"}  # libsndfile's names: G.711, G.711 and GSM 06.10


class Augment(BaseModel):
    """How often and how far each change goes; probabilities 0 to 1, ranges are drawn from evenly."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rate: Range = Field((0.86, 1.16), description="playback rate: pitch and tempo together")
    rate_probability: float = Field(0.8, ge=0, le=1, description="share of clips whose rate is changed")
    reverb_s: Range = Field((0.08, 0.5), description="time in which the room's sound falls by 60 dB, in seconds")
    reverb_probability: float = Field(0.45, ge=0, le=1, description="share of clips put into a room")
    band_probability: float = Field(0.3, ge=0, le=1, description="share of clips whose band is narrowed")
    snr_db: Range = Field((6.0, 32.0), description="speech over noise, in dB")
    noise_probability: float = Field(0.75, ge=0, le=1, description="share of clips with noise")
    gain_db: Range = Field((-20.0, 0.0), description="peak level under full scale, in dB")
    silence_s: Range = Field((0.0, 0.8), description="silence before and, drawn again, after the words, in seconds")


def augment(samples: np.ndarray, sample_rate_hz: int, cfg: Augment, rng: np.random.Generator) -> np.ndarray:
    """A changed copy of mono float32 samples [num_samples], another length, at the same nominal rate."""
    if rng.random() < cfg.rate_probability:
        samples = soxr.resample(samples, sample_rate_hz * rng.uniform(*cfg.rate), sample_rate_hz)
    before, after = (int(sample_rate_hz * rng.uniform(*cfg.silence_s)) for _ in range(2))
    samples = np.pad(samples, (before, after))
    if rng.random() < cfg.reverb_probability:
        samples = in_room(samples, sample_rate_hz, rng.uniform(*cfg.reverb_s), rng)
    if rng.random() < cfg.noise_probability:
        samples = _with_noise(samples, rng.uniform(*cfg.snr_db), rng)
    if rng.random() < cfg.band_probability:
        samples = _narrow(samples, sample_rate_hz, rng)
    peak = float(np.abs(samples).max()) or 1.0
    return (samples / peak * 10 ** (rng.uniform(*cfg.gain_db) / 20)).astype(np.float32)


def changed(samples: np.ndarray, cfg: AugmentSection, noise: Sequence[np.ndarray], name: str) -> np.ndarray:
    """A changed copy of a mono recording [num_samples] at 16 kHz, another length; `noise` as `noise.read_noise` gives it.

    `cfg.seed` and `name` decide all that is drawn. Raises DataError where `noise.mix` does.
    """

    def draws(change: str, probability: float = 1.0) -> np.random.Generator | None:
        """The generator of a change, or None if this copy goes without it."""
        rng = generator(cfg.seed, f"{name}/{change}")
        return rng if rng.random() < probability else None

    if rng := draws("rate", cfg.rate_probability):
        samples = soxr.resample(samples, RATE_HZ * rng.uniform(*cfg.rate), RATE_HZ)
    if rng := draws("silence"):
        before, after = (int(RATE_HZ * rng.uniform(*cfg.silence_s)) for _ in range(2))
        samples = np.pad(samples, (before, after))
    if rng := draws("reverb", cfg.reverb_probability):
        samples = in_room(samples, RATE_HZ, rng.uniform(*cfg.reverb_s), rng)
    if noise and (rng := draws("noise", cfg.noise_probability)):
        samples = mix(samples, noise, rng.uniform(*cfg.snr_db), rng)
    if rng := draws("telephone", cfg.telephone_probability):
        samples = by_telephone(samples, cfg.codecs[int(rng.integers(len(cfg.codecs)))])
    if rng := draws("gain"):
        samples = samples * 10 ** (rng.uniform(*cfg.gain_db) / 20)
    return (samples / max(1.0, float(np.abs(samples).max()))).astype(np.float32)


def in_room(samples: np.ndarray, rate_hz: int, reverb_s: float, rng: np.random.Generator) -> np.ndarray:
    """Samples [num_samples] as heard in a drawn room whose sound falls by 60 dB within `reverb_s`; the same length."""
    from scipy import signal

    return signal.fftconvolve(samples, room(rate_hz, reverb_s, rng))[: len(samples)]


def room(rate_hz: int, reverb_s: float, rng: np.random.Generator) -> np.ndarray:
    """Impulse response [reverb_s * rate_hz]: the direct path, then decaying noise with 4 to 64 % of its energy."""
    length = max(2, int(reverb_s * rate_hz))
    response = rng.standard_normal(length) * 10 ** (-3 * np.arange(length) / length)
    response *= rng.uniform(0.2, 0.8) / np.linalg.norm(response)
    response[0] = 1.0
    return response


def by_telephone(samples: np.ndarray, codec: str) -> np.ndarray:
    """Samples [num_samples] at 16 kHz through a line of 8 kHz: its band, 300 to 3400 Hz, and a codec (`mulaw`, `alaw`, `gsm`)."""
    from scipy import signal

    narrow = soxr.resample(np.asarray(samples, np.float32), RATE_HZ, LINE_HZ)
    narrow = signal.sosfilt(signal.butter(4, LINE_BAND_HZ, "bandpass", fs=LINE_HZ, output="sos"), narrow)
    heard = soxr.resample(coded(np.clip(narrow, -1, 1), codec), LINE_HZ, RATE_HZ)[: len(samples)]
    return np.pad(heard, (0, len(samples) - len(heard)))


def coded(samples: np.ndarray, codec: str) -> np.ndarray:
    """Samples [num_samples] at 8 kHz in -1..1, coded and decoded again, float32 [num_samples]."""
    packed = io.BytesIO()
    soundfile.write(packed, samples, LINE_HZ, format="WAV", subtype=_CODECS[codec])
    packed.seek(0)
    return soundfile.read(packed, dtype="float32")[0][: len(samples)]  # GSM fills up its last block of 40 ms


def _with_noise(samples: np.ndarray, snr_db: float, rng: np.random.Generator) -> np.ndarray:
    spectrum = np.fft.rfft(rng.standard_normal(len(samples)))
    colour = rng.choice([0.0, 0.5, 1.0])  # white, pink, brown: amplitude falls with the frequency to this power
    spectrum /= np.maximum(np.arange(len(spectrum)), 1.0) ** colour
    noise = np.fft.irfft(spectrum, len(samples))
    loud = samples[np.abs(samples) > 0.05 * np.abs(samples).max()]
    power = float(np.mean(loud**2)) if loud.size else 1.0
    return samples + noise * np.sqrt(power / 10 ** (snr_db / 10) / (np.mean(noise**2) + 1e-12))


def _narrow(samples: np.ndarray, rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    from scipy import signal

    low, high = (300.0, 3400.0) if rng.random() < 0.5 else (rng.uniform(50, 150), rng.uniform(3800, 7000))
    bands = signal.butter(4, (low, min(high, 0.45 * rate_hz)), "bandpass", fs=rate_hz, output="sos")
    return signal.sosfilt(bands, samples)
