"""Alterations of log-mel features [mel_bins, frames]: masks as in SpecAugment, and those of TERA. Seeded; numpy alone.

Features are those of Whisper's kind, 100 frames a second, not normalised over time. What the papers set to zero, in features
normalised to a mean of zero, is set here to the mean that normalising would take away: the recording's for SpecAugment
(Park et al. 2019, arXiv 1904.08779), each mel bin's for TERA (arXiv 2007.06028).

A changed copy of a recording is a file; what is to be altered in its features stands in the file's comment, so that it
travels with the sound and is part of the file's content, by which encoders keep what they have heard.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import ValidationError

from lalm.data import audio
from lalm.data.noise import generator
from lalm.errors import DataError
from lalm.sections import Section, SpecAugmentSection, TeraSection

_MARK = "lalm features "  # a comment that begins so is a `FeatureChanges`


class FeatureChanges(Section):
    """What is altered in the features of one copy; `seed` and `name` decide what is drawn."""

    seed: int
    name: str
    spec_augment: SpecAugmentSection | None = None
    tera: TeraSection | None = None

    def comment(self) -> str:
        """As it stands in the comment of an audio file."""
        return _MARK + self.model_dump_json()


def changes_of(path: Path) -> FeatureChanges | None:
    """What is to be altered in the features of a recording: None but for copies made so. Raises DataError."""
    comment = audio.comment_of(path)
    if not comment.startswith(_MARK):
        return None
    try:
        return FeatureChanges.model_validate_json(comment[len(_MARK) :])
    except ValidationError as error:
        raise DataError(
            f"{path}: its comment says that features are to be altered, but not how ({error.error_count()} mistakes)."
        ) from None


def altered(features: np.ndarray, num_frames: int, changes: FeatureChanges) -> np.ndarray:
    """A copy of features [mel_bins, frames] of which the first `num_frames`, those of the recording itself, are altered."""
    result = features.copy()
    real = result[:, :num_frames]  # padding behind it stays as it is
    if changes.tera is not None:
        real[:] = tera(real, changes.tera, generator(changes.seed, f"{changes.name}/tera"))
    if changes.spec_augment is not None:
        real[:] = spec_augment(real, changes.spec_augment, generator(changes.seed, f"{changes.name}/spec_augment"))
    return result


def spec_augment(features: np.ndarray, cfg: SpecAugmentSection, rng: np.random.Generator) -> np.ndarray:
    """A copy of features [mel_bins, frames] with bands and stretches at the recording's mean.

    Widths are drawn from 0 to the widest, that one included (the paper leaves it open); places evenly from where they fit.
    No time warping: the paper finds that it gains least, and a copy's rate is changed as sound.
    """
    result = features.copy()
    num_bins, num_frames = features.shape
    mean = features.mean()
    for _ in range(cfg.num_freq_masks):
        first, width = _stretch(num_bins, min(cfg.freq_mask_width, num_bins), rng)
        result[first : first + width] = mean
    longest = min(cfg.time_mask_width, int(cfg.time_mask_share * num_frames))
    for _ in range(cfg.num_time_masks):
        first, width = _stretch(num_frames, longest, rng)
        result[:, first : first + width] = mean
    return result


def tera(features: np.ndarray, cfg: TeraSection, rng: np.random.Generator) -> np.ndarray:
    """A copy of features [mel_bins, frames], altered in time, channel and magnitude.

    Time: spans of `time_width` frames, `time_share` of all frames to the nearest span; all of them are masked, or all become
    other spans, or all stay, as one draw a recording decides (section III-B of the paper, and its code). They do not overlap
    here, so that the share is what it says; the published code lets them.
    Channel: one band of 0 to `channel_share` of the bins is masked over all frames. Magnitude: normal noise on everything,
    `magnitude_std` in the standard deviation of each bin, as the paper's features are normalised to a deviation of one.
    """
    result = features.copy()
    num_bins, num_frames = features.shape
    mean, std = features.mean(axis=1, keepdims=True), features.std(axis=1, keepdims=True)
    number = min(round(cfg.time_share * num_frames / cfg.time_width), num_frames // cfg.time_width)
    chosen = _spans(num_frames, number, cfg.time_width, rng)
    others = _spans(num_frames, number, cfg.time_width, rng)
    which = rng.random()
    if which < cfg.masked_probability:
        result[:, chosen] = mean
    elif which < cfg.masked_probability + cfg.replaced_probability:
        result[:, chosen] = features[:, rng.permutation(others.reshape(-1, cfg.time_width)).ravel()]
    first, width = _stretch(num_bins, int(cfg.channel_share * num_bins), rng)
    result[first : first + width] = mean[first : first + width]
    if rng.random() < cfg.magnitude_probability:
        result += (cfg.magnitude_std * std * rng.standard_normal(features.shape)).astype(features.dtype)
    return result


def _stretch(length: int, widest: int, rng: np.random.Generator) -> tuple[int, int]:
    """Beginning and width of a stretch of 0 to `widest` places within `length`."""
    width = int(rng.integers(widest + 1))
    return int(rng.integers(length - width + 1)), width


def _spans(length: int, number: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """The places [number * width] of spans that do not overlap; every way to lay them is as likely as another."""
    # lay spans of one place each in a row that is shorter by what they lack, then widen them
    starts = np.sort(rng.choice(length - number * (width - 1), number, replace=False)) + np.arange(number) * (width - 1)
    return (starts[:, None] + np.arange(width)).ravel()
