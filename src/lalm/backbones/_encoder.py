"""Whisper's encoder over the frames that exist: no padding to thirty seconds.

Whisper adds fixed sinusoidal positions and attends without a mask, so its encoder runs on any length up to thirty
seconds. Its weights were trained on clips padded to thirty seconds, so frames of an unpadded clip differ from frames of
the padded one: everything downstream here is trained and used on unpadded clips, and within a batch the shorter
clips are masked, so that a clip's frames do not depend on its neighbours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lalm.data import audio
from lalm.errors import DataError
from lalm.models.masks import additive_mask

SAMPLE_RATE_HZ = 16_000
TAIL_SILENCE_S = 0.5  # a margin after the last word, as in training of the connectors


class AudioEncoder(nn.Module):
    """Whisper's encoder and feature extractor. `width` is the size of a frame; 50 frames a second.

    `taps` says what the connector reads: n < number of layers is the input of layer n, the number of layers is the
    encoder's output after its final norm. Several taps stand side by side along the width.
    """

    encoder: Any

    def __init__(self, encoder: Any, feature_extractor: Any, taps: Sequence[int] | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.feature_extractor = feature_extractor
        self.width: int = encoder.config.d_model
        self.taps = tuple(taps) if taps is not None else (len(encoder.layers),)
        self._fingerprint: str | None = None

    def fingerprint(self) -> str:
        """Hash of the weights; computed once."""
        if self._fingerprint is None:
            digest = hashlib.sha256(f"tail={TAIL_SILENCE_S} taps={self.taps}".encode())
            for name, tensor in self.encoder.state_dict().items():
                digest.update(name.encode())
                sample = tensor.detach().float().flatten()[:: max(1, tensor.numel() // 512)]
                digest.update(sample.contiguous().cpu().numpy().tobytes())
            self._fingerprint = digest.hexdigest()[:12]
        return self._fingerprint

    def features(self, waveform: np.ndarray) -> Tensor:
        """Log-mel features [80, mel_frames] of a waveform [num_samples] at 16 kHz, plus the silent margin."""
        padded = np.concatenate([waveform, np.zeros(int(TAIL_SILENCE_S * SAMPLE_RATE_HZ), np.float32)])
        hop = 2 * self.feature_extractor.hop_length  # the encoder halves the frame rate
        padded = np.pad(padded, (0, -len(padded) % hop))
        result = self.feature_extractor(
            padded, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt", padding="longest", truncation=False
        )
        return result.input_features[0]

    def frames(self, paths: Sequence[Path]) -> tuple[Tensor, Tensor]:
        """Encoder frames [B, frames, width] of audio files and their mask [B, frames].

        Raises DataError for unreadable audio, and for a clip that is longer than the encoder's positions.
        """
        return self.encode([audio.load(path, SAMPLE_RATE_HZ) for path in paths], [str(path) for path in paths])

    def encode(self, waveforms: Sequence[np.ndarray], names: Sequence[str]) -> tuple[Tensor, Tensor]:
        """As `frames`, from waveforms at 16 kHz; `names` are for error messages."""
        with torch.autocast("cpu", enabled=False):  # the spectrum is computed in float32, whatever surrounds it
            features = [self.features(waveform) for waveform in waveforms]
        longest = 2 * self.encoder.config.max_source_positions
        for feature, name in zip(features, names, strict=True):
            if feature.shape[1] > longest:
                raise DataError(
                    f"{name}: {feature.shape[1] / 100:.1f} s of audio with its margin, and this encoder takes at most "
                    f"{longest / 100:.0f} s. Cut the recording; nothing is truncated in silence."
                )
        lengths = torch.tensor([feature.shape[1] // 2 for feature in features])
        width = int(lengths.max())
        batch = torch.stack([nn.functional.pad(f, (0, 2 * width - f.shape[1])) for f in features])
        mask = torch.arange(width)[None] < lengths[:, None]
        return self.forward(batch.to(self.device), mask.to(self.device)), mask.to(self.device)

    @property
    def device(self) -> torch.device:
        return next(self.encoder.parameters()).device

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Features [B, 80, 2 * frames], mask [B, frames] -> frames [B, frames, width * number of taps]."""
        encoder = self.encoder
        hidden = nn.functional.gelu(encoder.conv1(features))
        # the second convolution must see the zeros that it pads with, not its neighbour's padding run through the first
        real = mask.repeat_interleave(2, dim=1)[:, None, :]
        hidden = nn.functional.gelu(encoder.conv2(hidden * real))
        hidden = hidden.transpose(1, 2) + encoder.embed_positions.weight[: mask.shape[1]]
        attention = additive_mask(mask, hidden.dtype)
        tapped = []
        for number in range(max(self.taps) + 1):
            last = number == len(encoder.layers)
            if number in self.taps:
                tapped.append(encoder.layer_norm(hidden) if last else hidden)
            if number < max(self.taps):
                hidden = encoder.layers[number](hidden, attention)
                hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        return torch.cat(tapped, dim=-1)
