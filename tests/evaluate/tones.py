"""Two tones that stand for words: what the tiny model of these tests is taught to hear."""

from __future__ import annotations

import numpy as np

RATE_HZ = 16_000


def tone(hz: float, duration_s: float) -> np.ndarray:
    """A pure tone [num_samples] with a soft start."""
    time_s = np.arange(int(RATE_HZ * duration_s)) / RATE_HZ
    return (0.3 * np.sin(2 * np.pi * hz * time_s) * np.minimum(1, time_s * 50)).astype(np.float32)


LOW, HIGH = tone(220, 0.25), tone(1900, 0.65)
