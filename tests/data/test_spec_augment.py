"""SpecAugment and TERA's alterations: their shares over many draws, and how they travel with a recording."""

from __future__ import annotations

import numpy as np
import pytest

from lalm.data import audio
from lalm.data.spec_augment import FeatureChanges, altered, changes_of, spec_augment, tera
from lalm.errors import DataError
from lalm.sections import SpecAugmentSection, TeraSection

BINS, FRAMES = 80, 300


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    """Numbers of which none equals its mean, each bin at a level of its own."""
    rng = np.random.default_rng(0)
    return (rng.standard_normal((BINS, FRAMES)) + np.linspace(-1, 1, BINS)[:, None]).astype(np.float32)


def runs(flags: np.ndarray) -> list[int]:
    """Lengths of the stretches of True."""
    edges = np.flatnonzero(np.diff(np.r_[0, flags.astype(int), 0]))
    return list(edges[1::2] - edges[::2])


def test_one_frequency_mask_is_as_wide_as_drawn_and_at_the_mean(features):
    cfg = SpecAugmentSection.model_validate({"num_freq_masks": 1, "num_time_masks": 0, "freq_mask_width": 27})
    widths, first = [], []
    for seed in range(600):
        made = spec_augment(features, cfg, np.random.default_rng(seed))
        masked = (made != features).all(axis=1)
        assert ((made != features).any(axis=1) == masked).all(), "whole bins"
        assert np.allclose(made[masked], features.mean())
        widths.append(int(masked.sum()))
        first += [int(np.flatnonzero(masked)[0])] if masked.any() else []
    assert (min(widths), max(widths)) == (0, 27)
    assert np.mean(widths) == pytest.approx(13.5, abs=0.7)
    assert np.bincount(widths).min() > 8, "every width is as likely as another"
    assert min(first) == 0
    assert max(first) > BINS - 15


def test_time_masks_are_no_longer_than_their_share(features):
    cfg = SpecAugmentSection.model_validate({"num_freq_masks": 0, "num_time_masks": 1, "time_mask_width": 70})
    longest = []
    for seed in range(500):
        masked = (spec_augment(features, cfg, np.random.default_rng(seed)) != features).all(axis=0)
        assert len(runs(masked)) <= 1
        longest.append(int(masked.sum()))
    assert max(longest) == 60, "0.2 of 300 frames is less than 70"
    assert np.mean(longest) == pytest.approx(30, abs=2)
    short = spec_augment(features[:, :3], cfg, np.random.default_rng(0))
    assert np.array_equal(short, features[:, :3]), "a share of less than a frame masks nothing"


def test_masks_of_the_default_policy_cover_a_share(features):
    cfg = SpecAugmentSection.model_validate({})
    shares = [np.mean(spec_augment(features, cfg, np.random.default_rng(seed)) != features) for seed in range(600)]
    rows, columns = (
        1 - (1 - 7.5 / BINS) ** 2,
        1 - (1 - 30 / FRAMES) ** 2,
    )  # two masks each, independent, half as wide on average
    assert np.mean(shares) == pytest.approx(1 - (1 - rows) * (1 - columns), abs=0.015)
    assert max(shares) < 0.65


def test_tera_alters_the_share_of_frames_that_it_says(features):
    cfg = TeraSection.model_validate(
        {"channel_share": 0, "magnitude_probability": 0, "masked_probability": 1, "replaced_probability": 0}
    )
    long = np.tile(features, (1, 3))[:, :700]
    covered = np.zeros(700)
    for seed in range(300):
        made = tera(long, cfg, np.random.default_rng(seed))
        masked = (made != long).all(axis=0)
        assert np.mean(masked) == pytest.approx(0.15, abs=0.01)
        assert all(length % 7 == 0 for length in runs(masked)), "whole spans that do not overlap"
        assert np.allclose(made[:, masked], long.mean(axis=1, keepdims=True), atol=1e-6), "each bin at its own mean"
        covered += masked
    assert covered[50:-50].min() > 0.5 * covered[50:-50].mean(), "everywhere"


def test_tera_masks_replaces_or_leaves_as_often_as_it_says(features):
    cfg = TeraSection.model_validate({"channel_share": 0, "magnitude_probability": 0})
    kinds = {"masked": 0, "replaced": 0, "left": 0}
    columns = {features[:, frame].tobytes() for frame in range(FRAMES)}
    for seed in range(800):
        made = tera(features, cfg, np.random.default_rng(seed))
        changed = np.flatnonzero((made != features).any(axis=0))
        if not len(changed):
            kinds["left"] += 1
        elif all(made[:, frame].tobytes() in columns for frame in changed):
            kinds["replaced"] += 1
        else:
            assert np.allclose(made[:, changed], features.mean(axis=1, keepdims=True), atol=1e-6)
            kinds["masked"] += 1
    shares = np.array([kinds["masked"], kinds["replaced"], kinds["left"]]) / 800
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=3 * np.sqrt(0.8 * 0.2 / 800))


def test_tera_masks_one_band_of_at_most_a_fifth(features):
    cfg = TeraSection.model_validate({"time_share": 0, "magnitude_probability": 0})
    widths = []
    for seed in range(800):
        masked = (tera(features, cfg, np.random.default_rng(seed)) != features).all(axis=1)
        assert len(runs(masked)) <= 1
        widths.append(int(masked.sum()))
    assert (min(widths), max(widths)) == (0, BINS // 5)
    assert np.mean(widths) == pytest.approx(BINS / 10, abs=0.6)


def test_tera_adds_noise_as_often_and_as_loud_as_it_says(features):
    cfg = TeraSection.model_validate({"time_share": 0, "channel_share": 0, "magnitude_probability": 0.15})
    wide = features * np.linspace(0.5, 4, BINS, dtype=np.float32)[:, None]
    added = [tera(wide, cfg, np.random.default_rng(seed)) - wide for seed in range(600)]
    noisy = [one for one in added if one.any()]
    assert len(noisy) / 600 == pytest.approx(0.15, abs=0.045)
    ratio = np.std(noisy, axis=(0, 2)) / wide.std(axis=1)
    assert ratio == pytest.approx(np.full(BINS, 0.2), abs=0.01), "in standard deviations of each bin"


@pytest.mark.parametrize("num_frames", [0, 1, 2, 6, 7, 20])
def test_short_recordings_are_altered_without_a_fault(features, num_frames):
    short = features[:, :num_frames] if num_frames else np.zeros((BINS, 1), np.float32)
    for seed in range(50):
        rng = np.random.default_rng(seed)
        assert np.isfinite(tera(short, TeraSection.model_validate({"time_share": 1}), rng)).all()
        assert np.isfinite(spec_augment(short, SpecAugmentSection.model_validate({"freq_mask_width": 500}), rng)).all()


def test_padding_stays_and_the_same_name_draws_the_same(features):
    changes = FeatureChanges(
        seed=0, name="a/1", spec_augment=SpecAugmentSection.model_validate({}), tera=TeraSection.model_validate({})
    )
    before = features.copy()
    made = altered(features, 200, changes)
    assert np.array_equal(features, before), "what is given is not written to"
    assert np.array_equal(made[:, 200:], features[:, 200:])
    assert (made[:, :200] != features[:, :200]).any()
    assert np.array_equal(made, altered(features, 200, changes))
    assert not np.array_equal(made, altered(features, 200, changes.model_copy(update={"name": "a/2"})))
    assert not np.array_equal(made, altered(features, 200, changes.model_copy(update={"seed": 1})))


def test_alterations_travel_in_the_comment_of_the_file(tmp_path):
    changes = FeatureChanges(seed=3, name="ü/1", tera=TeraSection.model_validate({"time_width": 5}))
    samples = 0.1 * np.sin(np.arange(4000) * 0.1).astype(np.float32)
    audio.write_flac(tmp_path / "copy.flac", samples, 16_000, changes.comment())
    audio.write_flac(tmp_path / "plain.flac", samples, 16_000)
    audio.write_flac(tmp_path / "other.flac", samples, 16_000, "recorded in a garden")
    audio.write_flac(
        tmp_path / "bad.flac", samples, 16_000, 'lalm features {"seed": 0, "name": "x", "tera": {"time_share": 7}}'
    )
    assert changes_of(tmp_path / "copy.flac") == changes
    assert changes_of(tmp_path / "plain.flac") is None
    assert changes_of(tmp_path / "other.flac") is None
    with pytest.raises(DataError, match=r"bad\.flac: its comment says that features are to be altered, but not how"):
        changes_of(tmp_path / "bad.flac")
    hashes = {audio.content_hash(tmp_path / f"{name}.flac") for name in ("copy", "plain")}
    assert len(hashes) == 2, "so that what was heard of one is never taken for the other"
    assert np.array_equal(audio.load(tmp_path / "copy.flac"), audio.load(tmp_path / "plain.flac"))
