"""Seeded changes of a waveform that leave its words as they are: rate, room, band, noise, gain, silence around it.

Rooms are exponentially decaying noise after a direct path (a common stand-in for measured impulse responses); noise is
white, pink or brown; the band is that of a telephone or of a dull microphone. Everything is drawn from one generator, so
the same seed gives the same samples.
"""

from __future__ import annotations

import numpy as np
import soxr
from pydantic import BaseModel, ConfigDict, Field
from scipy import signal

Range = tuple[float, float]


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
        samples = _room(samples, sample_rate_hz, rng.uniform(*cfg.reverb_s), rng)
    if rng.random() < cfg.noise_probability:
        samples = _with_noise(samples, rng.uniform(*cfg.snr_db), rng)
    if rng.random() < cfg.band_probability:
        samples = _narrow(samples, sample_rate_hz, rng)
    peak = float(np.abs(samples).max()) or 1.0
    return (samples / peak * 10 ** (rng.uniform(*cfg.gain_db) / 20)).astype(np.float32)


def _room(samples: np.ndarray, rate_hz: int, reverb_s: float, rng: np.random.Generator) -> np.ndarray:
    length = max(2, int(reverb_s * rate_hz))
    response = rng.standard_normal(length) * 10 ** (-3 * np.arange(length) / length)
    response *= rng.uniform(0.2, 0.8) / np.linalg.norm(response)
    response[0] = 1.0
    return signal.fftconvolve(samples, response)[: len(samples)]


def _with_noise(samples: np.ndarray, snr_db: float, rng: np.random.Generator) -> np.ndarray:
    spectrum = np.fft.rfft(rng.standard_normal(len(samples)))
    colour = rng.choice([0.0, 0.5, 1.0])  # white, pink, brown: amplitude falls with the frequency to this power
    spectrum /= np.maximum(np.arange(len(spectrum)), 1.0) ** colour
    noise = np.fft.irfft(spectrum, len(samples))
    loud = samples[np.abs(samples) > 0.05 * np.abs(samples).max()]
    power = float(np.mean(loud**2)) if loud.size else 1.0
    return samples + noise * np.sqrt(power / 10 ** (snr_db / 10) / (np.mean(noise**2) + 1e-12))


def _narrow(samples: np.ndarray, rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    low, high = (300.0, 3400.0) if rng.random() < 0.5 else (rng.uniform(50, 150), rng.uniform(3800, 7000))
    bands = signal.butter(4, (low, min(high, 0.45 * rate_hz)), "bandpass", fs=rate_hz, output="sos")
    return signal.sosfilt(bands, samples)
