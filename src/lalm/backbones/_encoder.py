"""Whisper's encoder over the frames that exist: no padding to thirty seconds.

Whisper adds fixed sinusoidal positions and attends without a mask, so its encoder runs on any length up to thirty
seconds. Its weights were trained on clips padded to thirty seconds, so frames of an unpadded clip differ from frames of
the padded one: everything downstream here is trained and used on unpadded clips, and within a batch the shorter
clips are masked, so that a clip's frames do not depend on its neighbours.

Encoders of Whisper's make in other models (Qwen2-Audio's, Voxtral's, Audio Flamingo 3's) run the same way; two of them
average neighbouring frames before their last norm.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lalm.backbones._listening import SAMPLE_RATE_HZ, TAIL_SILENCE_S, Listening
from lalm.data import audio
from lalm.data.spec_augment import changes_of
from lalm.models.masks import additive_mask
from lalm.models.parts import hearing_key, sampled_hash, settings_key

POOLED = ("qwen2_audio_encoder", "audioflamingo3_encoder")  # average every two frames at the end


class AudioEncoder(nn.Module):
    """Whisper's encoder and feature extractor. `width` is the size of a frame; 50 frames a second, 25 if pooled.

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
        self._pool = 2 if encoder.config.model_type in POOLED else 1
        # the second convolution halves the frame rate
        self.listening = Listening("mel", 2 * self._pool, 2 * encoder.config.max_source_positions)
        self._weights: str | None = None

    def fingerprint(self) -> str:
        """Of the weights (hashed once), the settings of encoder and extractor, the number format and the kind of device."""
        if self._weights is None:
            settings = settings_key(self.feature_extractor.to_dict(), self.encoder.config.to_dict())
            self._weights = sampled_hash(f"tail={TAIL_SILENCE_S} taps={self.taps} {settings}", self.encoder)
        return hearing_key(self._weights, self.encoder)

    def frames(self, paths: Sequence[Path]) -> tuple[Tensor, Tensor]:
        """Encoder frames [B, frames, width] of audio files and their mask [B, frames].

        Raises DataError for unreadable audio, and for a clip that is longer than the encoder's positions.
        """
        waveforms, names = [audio.load(path, SAMPLE_RATE_HZ) for path in paths], [str(path) for path in paths]
        changes = [changes_of(path) for path in paths]
        return self.hear(*self.listening.collate(self.feature_extractor, waveforms, names, changes))

    def encode(self, waveforms: Sequence[np.ndarray], names: Sequence[str]) -> tuple[Tensor, Tensor]:
        """As `frames`, from waveforms at 16 kHz; `names` are for error messages."""
        return self.hear(*self.listening.collate(self.feature_extractor, waveforms, names))

    def hear(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """As `frames`, from what `listening.collate` makes of waveforms."""
        mask = mask.to(self.device)
        return self.forward(features.to(self.device, self.encoder.conv1.weight.dtype), mask), mask

    def lengths(self, mask: Tensor) -> Tensor:
        """Frames of clips [B] by the mask that `listening.collate` makes, without encoding them."""
        return mask.sum(dim=1)

    @property
    def device(self) -> torch.device:
        return next(self.encoder.parameters()).device

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Features [B, mel_bins, mel_frames], mask [B, frames] -> frames [B, frames, width * number of taps]."""
        encoder = self.encoder
        mask = mask.repeat_interleave(self._pool, dim=1)  # of frames before they are pooled
        hidden = nn.functional.gelu(encoder.conv1(features))
        # the second convolution must see the zeros that it pads with, not its neighbour's padding run through the first
        real = mask.repeat_interleave(2, dim=1)[:, None, :]
        hidden = nn.functional.gelu(encoder.conv2(hidden * real))
        hidden = hidden.transpose(1, 2) + encoder.embed_positions.weight[: mask.shape[1]].to(hidden.dtype)
        attention = additive_mask(mask, hidden.dtype)
        tapped = []
        for number in range(max(self.taps) + 1):
            last = number == len(encoder.layers)
            if number in self.taps:
                tapped.append(encoder.layer_norm(self._pooled(hidden)) if last else hidden)
            if number < max(self.taps):
                hidden = encoder.layers[number](hidden, attention)
                hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        return torch.cat(tapped, dim=-1)

    def _pooled(self, hidden: Tensor) -> Tensor:
        """[B, frames, width], every `_pool` neighbours averaged; clips are whole numbers of them."""
        return hidden if self._pool == 1 else hidden.unflatten(1, (-1, self._pool)).mean(dim=2)
