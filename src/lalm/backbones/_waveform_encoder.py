"""Encoders that read the waveform itself (wav2vec 2.0, HuBERT, WavLM and their kin), on the samples that exist.

Their convolutions have no padding, so a clip in a batch gives the frames that it gives alone, if the padding behind it is
masked for the attention. Where a normalisation runs over time (the base sizes), or frames are adapted by more
convolutions at the end, padding would be heard: there every clip is encoded alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lalm.backbones._listening import SAMPLE_RATE_HZ, Listening
from lalm.data import audio
from lalm.data.spec_augment import changes_of
from lalm.models.parts import hearing_key, sampled_hash, settings_key


class WaveformEncoder(nn.Module):
    """A model of `transformers` with its feature extractor. `width` is the size of a frame; about 50 frames a second."""

    encoder: Any

    def __init__(self, encoder: Any, feature_extractor: Any) -> None:
        super().__init__()
        self.encoder = encoder
        self.feature_extractor = feature_extractor
        config = encoder.config
        # spans that are blanked out for training are drawn by numpy, whose state a resumed run would not have
        config.apply_spec_augment = False
        self.width: int = getattr(config, "output_hidden_size", None) or config.hidden_size
        self.listening = Listening("waveform")
        self._alone = getattr(config, "feat_extract_norm", "group") == "group" or getattr(config, "add_adapter", False)
        self._weights: str | None = None

    def fingerprint(self) -> str:
        """Of the weights (hashed once), the settings of encoder and extractor, the number format and the kind of device."""
        if self._weights is None:
            settings = settings_key(self.feature_extractor.to_dict(), self.encoder.config.to_dict())
            self._weights = sampled_hash(f"waveform {settings}", self.encoder)
        return hearing_key(self._weights, self.encoder)

    def frames(self, paths: Sequence[Path]) -> tuple[Tensor, Tensor]:
        """Encoder frames [B, frames, width] of audio files and their mask [B, frames]. Raises DataError for unreadable audio."""
        waveforms, names = [audio.load(path, SAMPLE_RATE_HZ) for path in paths], [str(path) for path in paths]
        changes = [changes_of(path) for path in paths]
        return self.hear(*self.listening.collate(self.feature_extractor, waveforms, names, changes))

    def encode(self, waveforms: Sequence[np.ndarray], names: Sequence[str]) -> tuple[Tensor, Tensor]:
        """As `frames`, from waveforms at 16 kHz."""
        return self.hear(*self.listening.collate(self.feature_extractor, waveforms, names))

    def lengths(self, mask: Tensor) -> Tensor:
        """Frames of clips [B] by the mask of their samples, without encoding them."""
        found: Tensor = self.encoder._get_feat_extract_output_lengths(mask.sum(dim=1))
        return found

    def hear(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """As `frames`, from samples [B, samples] and their mask [B, samples]."""
        first = next(self.encoder.parameters())
        samples, mask = features.to(first.device, first.dtype), mask.to(first.device)
        if self._alone:
            found = [
                self.encoder(row[real][None]).last_hidden_state[0] for row, real in zip(samples, mask, strict=True)
            ]
            lengths = torch.tensor([len(one) for one in found], device=first.device)
            frames = nn.utils.rnn.pad_sequence(found, batch_first=True)
        else:
            frames = self.encoder(samples, attention_mask=mask.long()).last_hidden_state
            lengths = self.encoder._get_feat_extract_output_lengths(mask.sum(dim=1))
        return frames, torch.arange(frames.shape[1], device=first.device)[None] < lengths[:, None]
