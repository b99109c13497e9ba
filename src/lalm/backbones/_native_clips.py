"""The recordings of rows for a model of one `transformers` class: how long they are, and the features that bring them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lalm.backbones._family import SAMPLE_RATE_HZ, Family
from lalm.backbones._frames import alter
from lalm.backbones._native_cache import HEARD, Heard, joined
from lalm.backbones._native_rows import Clip
from lalm.data import audio
from lalm.data.cache import Arrays, PreparedCache
from lalm.data.spec_augment import changes_of
from lalm.errors import ConfigError, DataError


class Clips:
    """What is heard of recordings. `max_audio_s` cuts longer ones; which were cut is remembered in `cut`.

    `hear` makes vectors [total positions, width] of features; what it makes is kept in `cache`, if there is one.
    Raises ConfigError if `max_audio_s` is more than the family can take.
    """

    def __init__(
        self,
        family: Family,
        module: Any,
        processor: Any,
        max_audio_s: float | None,
        cache: PreparedCache | None,
        hear: Callable[[Mapping[str, Tensor]], Tensor],
    ) -> None:
        self.family, self._extractor, self._hear = family, processor.feature_extractor, hear
        self._max_audio_s, self.longest_s = max_audio_s, family.longest_s(processor)
        self.cut: set[Path] = set()
        hearing = [module.get_submodule(name) for name in (family.audio_encoder, *family.connector)]
        settings = (family.name, hearing[0].config.to_dict(), self._extractor.to_dict(), max_audio_s)
        self._heard = Heard(cache, hearing, settings)
        if max_audio_s is not None and self.longest_s is not None and max_audio_s > self.longest_s:
            raise ConfigError(
                f"backbone.max_audio_s: {max_audio_s:g} s, and {family.name} takes at most {self.longest_s:g} s."
            )

    def num_samples(self, path: Path) -> int:
        """How much of a recording is heard, in samples at 16 kHz. Raises DataError if it cannot be heard whole."""
        header = audio.info(path)
        if self._max_audio_s is not None and header.duration_s > self._max_audio_s:
            self.cut.add(path)
            return int(self._max_audio_s * SAMPLE_RATE_HZ)
        if self.longest_s is not None and header.duration_s > self.longest_s:
            raise DataError(
                f"{path}: {header.duration_s:.1f} s of audio, and {self.family.name} takes at most {self.longest_s:g} s. "
                "Cut the recording, or set backbone.max_audio_s; nothing is truncated in silence."
            )
        if header.sample_rate_hz == SAMPLE_RATE_HZ:
            return round(header.duration_s * SAMPLE_RATE_HZ)
        return len(audio.load(path, SAMPLE_RATE_HZ))

    def num_vectors(self, clip: Clip) -> int:
        """Positions that a clip takes. Raises DataError if it is too short to take one."""
        number = self.family.num_placeholders(self._extractor, clip.num_samples)
        if number < 1:
            raise DataError(f"{clip.path}: {clip.num_samples} samples at 16 kHz are too few to be heard.")
        return number

    @property
    def are_kept(self) -> bool:
        """Whether what is heard is kept: there is a cache, and nothing that hears is trained or was."""
        return self._heard.is_kept

    def given(self, clips: Sequence[Clip]) -> Mapping[str, Tensor]:
        """What brings clips: what was heard of them if that is kept, else their features."""
        return {HEARD: joined(self.heard(clips))} if clips and self.are_kept else self.features(clips)

    def heard(self, clips: Sequence[Clip]) -> list[Arrays]:
        """What is kept of each clip; what is not there yet is heard now."""
        of_path = {clip.path: clip for clip in clips}

        def hear(paths: Sequence[Path]) -> list[Tensor]:
            some = [of_path[path] for path in paths]
            return list(self._hear(self.features(some)).split(list(map(self.num_vectors, some))))

        return self._heard.entries([clip.path for clip in clips], hear)

    def features(self, clips: Sequence[Clip]) -> Mapping[str, Tensor]:
        """`forward`'s arguments for clips; those of changed copies are altered as their files say."""
        if not clips:
            return {}
        samples, changes = list(map(_samples, clips)), [changes_of(clip.path) for clip in clips]
        with torch.autocast("cpu", enabled=False):  # the spectrum is computed in float32, whatever surrounds it
            features = self.family.features(self._extractor, samples)
        if any(changes):
            altered = alter(self._extractor, features["input_features"], samples, changes)
            features = {**features, "input_features": altered}
        return features


def _samples(clip: Clip) -> np.ndarray:
    try:
        samples = audio.load(clip.path, SAMPLE_RATE_HZ)
    except DataError as error:
        raise DataError(f"Row '{clip.row}': {error}") from None
    if len(samples) < clip.num_samples:
        raise DataError(f"Row '{clip.row}': {clip.path}: has fewer samples than its header says.")
    return samples[: clip.num_samples]
