"""What is done to waveforms before an encoder hears them: no weights, so that a processor can do it alone.

Shapes: B clips, samples at 16 kHz; mel features have 100 frames a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from lalm.data.spec_augment import FeatureChanges, altered
from lalm.errors import DataError

SAMPLE_RATE_HZ = 16_000
TAIL_SILENCE_S = 0.5  # a margin after the last word, as in training of the connectors
LONGEST_S = (
    30.0  # heard at once by an encoder without a limit of its own: attention grows with the square of the length
)
SHORTEST_S = 0.1  # a waveform encoder's convolutions need 25 ms to say anything


@dataclass(frozen=True)
class Listening:
    """`mel`: log-mel features of whole encoder frames, each of `step` mel frames; `waveform`: normalised samples.

    `longest` is the number of mel frames that the encoder has positions for.
    """

    kind: Literal["mel", "waveform"] = "mel"
    step: int = 2
    longest: int | None = None

    @property
    def longest_samples(self) -> int:
        """How much is heard at once, in samples at 16 kHz; longer recordings are heard in chunks (`_chunks.py`)."""
        if self.longest is None:
            return int(LONGEST_S * SAMPLE_RATE_HZ)
        return self.longest * SAMPLE_RATE_HZ // 100 - int(TAIL_SILENCE_S * SAMPLE_RATE_HZ)

    def features(self, extractor: Any, waveform: np.ndarray) -> Tensor:
        """Features of one waveform [num_samples]: [mel_bins, mel_frames] with the silent margin, or [num_samples]."""
        if self.kind == "waveform":
            padded = np.pad(waveform, (0, max(0, int(SHORTEST_S * SAMPLE_RATE_HZ) - len(waveform))))
            return extractor(padded, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt").input_values[0]
        padded = np.concatenate([waveform, np.zeros(int(TAIL_SILENCE_S * SAMPLE_RATE_HZ), np.float32)])
        padded = np.pad(padded, (0, -len(padded) % (self.step * extractor.hop_length)))
        result = extractor(
            padded, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt", padding="longest", truncation=False
        )
        return result.input_features[0]

    def collate(
        self,
        extractor: Any,
        waveforms: Sequence[np.ndarray],
        names: Sequence[str],
        changes: Sequence[FeatureChanges | None] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Features [B, mel_bins, mel_frames] and mask of encoder frames [B, frames]; or samples [B, samples] and mask
        [B, samples]. `names` are for error messages, `changes` what is altered in each clip's features (None: nothing).

        Raises DataError for a clip that is longer than the encoder's positions, and for one whose features are to be altered
        where there are none.
        """
        with torch.autocast("cpu", enabled=False):  # the spectrum is computed in float32, whatever surrounds it
            features = [self.features(extractor, waveform) for waveform in waveforms]
        for index, change in enumerate(changes or ()):
            if change is not None:
                features[index] = self._altered(extractor, features[index], len(waveforms[index]), change, names[index])
        for feature, name in zip(features, names, strict=True):
            if self.longest is not None and feature.shape[-1] > self.longest:
                raise DataError(
                    f"{name}: {feature.shape[-1] / 100:.1f} s of audio with its margin, and this encoder takes at most "
                    f"{self.longest / 100:.0f} s. Cut the recording; nothing is truncated in silence."
                )
        step = self.step if self.kind == "mel" else 1
        lengths = torch.tensor([feature.shape[-1] // step for feature in features])
        width = int(lengths.max())
        batch = torch.stack([nn.functional.pad(f, (0, step * width - f.shape[-1])) for f in features])
        return batch, torch.arange(width)[None] < lengths[:, None]

    def _altered(self, extractor: Any, features: Tensor, num_samples: int, change: FeatureChanges, name: str) -> Tensor:
        """Features [mel_bins, mel_frames] of a clip, altered but for the margin."""
        if self.kind == "waveform":
            raise DataError(
                f"{name}: data.augment.spec_augment and tera alter mel features, and this encoder hears samples. Take them out."
            )
        num_frames = -(-num_samples // extractor.hop_length)
        return torch.from_numpy(altered(features.numpy(), num_frames, change))
