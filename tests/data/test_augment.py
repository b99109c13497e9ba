"""Changes of waveforms: each is as strong as it says, seeded, and apart from the others."""

from __future__ import annotations

import numpy as np
import pytest

from lalm.data.augment import LINE_BAND_HZ, Augment, augment, by_telephone, changed, coded, in_room, room
from lalm.sections import AugmentSection

RATE_HZ = 16_000
NOTHING = {
    "rate_probability": 0,
    "reverb_probability": 0,
    "noise_probability": 0,
    "silence_s": (0, 0),
    "gain_db": (0, 0),
}


def only(**changes) -> AugmentSection:
    """Settings under which nothing but `changes` happens."""
    return AugmentSection.model_validate({**NOTHING, **changes})


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """Two seconds of noise, soft enough that nothing added to it is clipped."""
    return (0.02 * np.random.default_rng(0).standard_normal(2 * RATE_HZ)).astype(np.float32)


def test_nothing_asked_for_is_nothing_changed(speech):
    assert np.array_equal(changed(speech, only(), [], "a/1"), speech)


@pytest.mark.parametrize("snr_db", [-5.0, 5.0, 20.0])
def test_noise_is_mixed_at_the_ratio_that_is_asked_for(speech, snr_db):
    noise = [np.random.default_rng(1).standard_normal(5 * RATE_HZ).astype(np.float32) * 0.3]
    cfg = only(noise_probability=1, noise_folder="noise", snr_db=(snr_db, snr_db))
    added = changed(speech, cfg, noise, "a/1").astype(np.float64) - speech
    assert 10 * np.log10(np.mean(speech.astype(np.float64) ** 2) / np.mean(added**2)) == pytest.approx(snr_db, abs=0.1)


def test_the_sound_of_a_room_falls_by_sixty_db_in_its_time():
    """The slope of the energy that is still to come (Schroeder), after the direct path, on average over rooms."""
    for reverb_s in (0.2, 0.5):
        slopes = []
        for seed in range(20):
            response = room(RATE_HZ, reverb_s, np.random.default_rng(seed))
            assert response[0] == 1
            tail = response[1:]
            left_db = 10 * np.log10(np.cumsum(tail[::-1] ** 2)[::-1] / np.sum(tail**2))
            times = np.arange(len(tail)) / RATE_HZ
            part = (left_db < -5) & (left_db > -25)
            slopes.append(np.polyfit(times[part], left_db[part], 1)[0])
        assert -60 / np.mean(slopes) == pytest.approx(reverb_s, rel=0.03)
        assert np.sum(tail**2) < 0.65


def test_a_room_keeps_length_and_beginning(speech):
    heard = in_room(speech, RATE_HZ, 0.3, np.random.default_rng(0))
    assert len(heard) == len(speech)
    assert heard[0] == pytest.approx(speech[0], abs=1e-4), "the direct path is not delayed"


def g711_mu_law(values: np.ndarray) -> np.ndarray:
    """Values -1..1 coded and decoded as ITU-T G.711 says: 14 bits, a bias of 33, 8 segments of 16 steps, each twice as coarse."""
    biased = np.minimum(np.rint(np.abs(values) * 32_767 / 4).astype(int) + 33, 8191)
    segment = np.floor(np.log2(biased)).astype(int) - 5
    step = (biased >> (segment + 1)) & 15
    return np.sign(values) * (((2 * step + 33) << segment) - 33) / 8192


def test_mu_law_is_that_of_g711():
    values = np.arange(-32_700, 32_700, 7) / 32_768
    decoded = coded(values, "mulaw").astype(np.float64)
    assert np.array_equal(decoded, g711_mu_law(values))
    assert len(np.unique(decoded)) > 240
    loud, soft = np.abs(values) > 0.125, (np.abs(values) > 0.002) & (np.abs(values) < 0.0156)
    error = np.abs(decoded - values)
    assert error[loud].max() > 8 * error[soft].max(), "companded: soft sounds are coded more finely"


@pytest.mark.parametrize("codec", ["mulaw", "alaw", "gsm"])
def test_a_telephone_line_keeps_its_band_alone(codec):
    rng = np.random.default_rng(0)
    sound = (0.1 * rng.standard_normal(RATE_HZ)).astype(np.float32)
    heard = by_telephone(sound, codec)
    assert len(heard) == len(sound)
    power = np.abs(np.fft.rfft(heard)) ** 2
    hz = np.fft.rfftfreq(len(heard), 1 / RATE_HZ)
    within = (hz > LINE_BAND_HZ[0]) & (hz < LINE_BAND_HZ[1])
    # what a codec adds is noise of its own within 4 kHz; nothing lies beyond
    assert power[hz > 4200].sum() < 1e-3 * power[within].sum()
    assert power[hz < 150].mean() < 0.1 * power[within].mean()
    assert not np.array_equal(heard, by_telephone(sound, "alaw" if codec == "mulaw" else "mulaw"))


def test_rate_silence_and_gain_are_within_their_ranges(speech):
    lengths = [len(changed(speech, only(rate=(0.9, 1.1), rate_probability=1), [], f"a/{n}")) for n in range(30)]
    assert len(speech) / 1.1 - 1 <= min(lengths) < len(speech) / 1.05
    assert len(speech) / 0.95 < max(lengths) <= len(speech) / 0.9 + 1
    padded = [changed(speech, only(silence_s=(0.1, 0.2)), [], f"a/{n}") for n in range(10)]
    before = [int(np.flatnonzero(samples)[0]) for samples in padded]
    assert all(1600 <= number <= 3202 for number in before)
    assert all(len(speech) + 3200 <= len(samples) <= len(speech) + 6400 for samples in padded)
    softer = changed(speech, only(gain_db=(-6, -6)), [], "a/1")
    assert np.allclose(softer, speech * 10 ** (-6 / 20), atol=1e-6)
    louder = changed(speech, only(gain_db=(40, 40)), [], "a/1")
    assert np.abs(louder).max() == pytest.approx(1, abs=1e-6), "never beyond full scale"


def test_probabilities_are_shares_of_the_copies(speech):
    short = speech[:800]
    cfg = only(rate=(1.1, 1.1), rate_probability=0.3)
    share = np.mean([len(changed(short, cfg, [], f"a/{n}")) != len(short) for n in range(500)])
    assert share == pytest.approx(0.3, abs=0.05)


def test_the_same_seed_and_name_give_the_same_samples_and_changes_do_not_touch_each_other(speech):
    cfg = AugmentSection.model_validate({"telephone_probability": 0.5, "codecs": ["mulaw", "gsm"]})
    first = changed(speech, cfg, [speech], "a/1")
    assert np.array_equal(first, changed(speech, cfg, [speech], "a/1"))
    assert not np.array_equal(first, changed(speech, cfg, [speech], "a/2")[: len(first)])
    other = cfg.model_copy(update={"seed": 1})
    assert not np.array_equal(first, changed(speech, other, [speech], "a/1")[: len(first)])
    both = changed(speech, only(rate=(0.9, 1.1), rate_probability=1, gain_db=(-10, 0)), [], "a/1")
    rate = changed(speech, only(rate=(0.9, 1.1), rate_probability=1), [], "a/1")
    ratio = both[np.abs(rate) > 0.01] / rate[np.abs(rate) > 0.01]
    assert len(both) == len(rate)
    assert np.ptp(ratio) < 1e-4, "the same rate with and without a gain"


def test_what_align_does_is_what_it_did():
    """Its frames are kept by recipe: other draws from the same seed would silently belong to other sounds."""
    sound = np.sin(np.arange(8000) * 0.05).astype(np.float32)
    made = [augment(sound, RATE_HZ, Augment.model_validate({}), np.random.default_rng(seed)) for seed in range(6)]
    assert [len(samples) for samples in made] == [9237, 20973, 20023, 26300, 27039, 24937]
    levels = [float(np.sqrt(np.mean(samples**2))) for samples in made]
    assert levels == pytest.approx([0.3637, 0.066, 0.0847, 0.097, 0.0927, 0.1744], abs=1e-4)
