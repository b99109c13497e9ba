"""Noise at a stated ratio: measured here by a plain definition of its own, from what was added."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from lalm.data import noise
from lalm.errors import DataError

RATE_HZ = 16_000


def voice(duration_s: float, pauses_s: float, seed: int = 0) -> np.ndarray:
    """Syllables of a buzz, with silence (and the hiss of a microphone, 60 dB below) before and after."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(int(RATE_HZ * duration_s)) / RATE_HZ
    buzz = np.sign(np.sin(2 * np.pi * 140 * time_s)) * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * time_s))
    spoken = np.pad(0.2 * buzz, int(RATE_HZ * pauses_s))
    return (spoken + 2e-4 * rng.standard_normal(len(spoken))).astype(np.float32)


def rattle(duration_s: float, seed: int) -> np.ndarray:
    """Coloured noise whose loudness wanders."""
    rng = np.random.default_rng(seed)
    steps = np.cumsum(rng.standard_normal(int(RATE_HZ * duration_s)))
    drift = np.repeat(rng.uniform(0.2, 1.0, len(steps) // 4000 + 1), 4000)[: len(steps)]
    return (0.05 * np.diff(steps, prepend=0) * drift + 1e-4 * np.sin(steps)).astype(np.float32)


def in_db(ratio: float) -> float:
    return 10 * np.log10(ratio)


def loud_power(samples: np.ndarray) -> float:
    """The definition in words: mean of the squares over all 32 ms within 40 dB of the loudest 32 ms."""
    frames = [samples[start : start + 512].astype(float) for start in range(0, len(samples) - 511, 512)]
    loudest = max(float((frame**2).sum()) for frame in frames)
    kept = [frame for frame in frames if in_db(float((frame**2).sum()) / loudest) >= -40]
    return float((np.concatenate(kept) ** 2).mean())


def parts(mixed: np.ndarray, speech: np.ndarray, stretch: np.ndarray) -> tuple[float, float]:
    """How much of the speech and of the noise is in a mixture, by least squares."""
    gains, residual, *_ = np.linalg.lstsq(
        np.stack([speech, stretch], axis=1).astype(float), mixed.astype(float), rcond=None
    )
    assert residual[0] / np.sum(mixed.astype(float) ** 2) < 1e-9, "nothing else is in it"
    return float(gains[0]), float(gains[1])


@pytest.mark.parametrize("snr_db", [24.0, 6.0, 0.0, -7.5])
@pytest.mark.parametrize("pauses_s", [0.0, 1.0])
@pytest.mark.parametrize("noise_s", [5.0, 0.4], ids=["long", "looped"])
def test_the_ratio_is_what_was_asked_for(snr_db: float, pauses_s: float, noise_s: float):
    speech, sources = voice(0.8, pauses_s), [rattle(noise_s, 1), rattle(noise_s, 2)]
    mixed = noise.mix(speech, sources, snr_db, np.random.default_rng(3))
    stretch = noise.draw(sources, len(speech), np.random.default_rng(3))
    speech_gain, noise_gain = parts(mixed, speech, stretch)
    added_power = float(np.mean((noise_gain * stretch.astype(float)) ** 2))
    measured = in_db(loud_power(speech_gain * speech) / added_power)
    assert measured == pytest.approx(snr_db, abs=0.1)
    assert mixed.dtype == np.float32
    assert len(mixed) == len(speech)
    assert np.abs(mixed).max() <= 1
    assert speech_gain == pytest.approx(1.0, abs=1e-4) or np.abs(mixed).max() == pytest.approx(1.0)


def test_silence_around_the_words_changes_nothing():
    close, loose = voice(0.8, 0.0), voice(0.8, 2.0)
    assert in_db(noise.speech_power(loose) / noise.speech_power(close)) == pytest.approx(0, abs=0.2)
    assert in_db(np.mean(loose**2) / np.mean(close**2)) < -7, "which the mean over all of it would not say"


def test_a_loud_sum_is_scaled_down_with_its_ratio_kept():
    speech, sources = 4 * voice(0.5, 0.0), [rattle(3, 1)]
    mixed = noise.mix(speech, sources, 3.0, np.random.default_rng(0))
    assert np.abs(mixed).max() == pytest.approx(1.0)
    gains = parts(mixed, speech, noise.draw(sources, len(speech), np.random.default_rng(0)))
    assert gains[0] < 1


def test_the_same_seed_gives_the_same_bytes_and_the_same_stretch_at_every_ratio():
    speech, sources = voice(0.5, 0.1), [rattle(3, 1), rattle(2, 2), rattle(0.2, 3)]

    def mixed(snr_db: float, seed: int, name: str) -> np.ndarray:
        return noise.mix(speech, sources, snr_db, noise.generator(seed, name))

    assert mixed(6, 0, "a").tobytes() == mixed(6, 0, "a").tobytes()
    assert mixed(6, 0, "a").tobytes() != mixed(6, 0, "b").tobytes()
    assert mixed(6, 0, "a").tobytes() != mixed(6, 1, "a").tobytes()
    soft, loud = (mixed(snr_db, 0, "a") - speech for snr_db in (18, 12))
    assert loud == pytest.approx(soft * 10 ** (6 / 20), abs=1e-5)


def test_every_recording_and_every_place_is_drawn():
    sources = [np.full(1000, level, np.float32) * np.linspace(1, 2, 1000, dtype=np.float32) for level in (1, 10, 100)]
    rng = np.random.default_rng(0)
    found = [noise.draw(sources, 100, rng) for _ in range(300)]
    per_source = [sum(level <= stretch[0] <= 2 * level for stretch in found) for level in (1, 10, 100)]
    assert sum(per_source) == 300
    assert min(per_source) > 60
    starts = [stretch[0] / 10 ** np.floor(np.log10(stretch[0])) for stretch in found]
    assert min(starts) < 1.05
    assert max(starts) > 1.85


def test_a_loop_has_no_click():
    time_s = np.arange(4000) / RATE_HZ
    hum = np.sin(2 * np.pi * 101.5 * time_s).astype(np.float32)  # its end does not meet its beginning
    assert abs(hum[-1] - hum[0]) > 0.5
    stretch = noise.draw([hum], 20_000, np.random.default_rng(0))
    assert len(stretch) == 20_000
    assert np.abs(np.diff(stretch)).max() < 2 * np.abs(np.diff(hum)).max()
    assert len(noise.draw([np.ones(1, np.float32)], 10, np.random.default_rng(0))) == 10


def test_pauses_in_the_noise_are_passed_over():
    mostly_silent = np.zeros(20_000, np.float32)
    mostly_silent[5000:10_000] = rattle(1, 0)[:5000]
    for seed in range(20):
        assert np.any(noise.draw([mostly_silent], 500, np.random.default_rng(seed)))
    needle = np.zeros(1_000_000, np.float32)
    needle[0] = 1.0
    with pytest.raises(DataError, match="pauses alone"):
        noise.draw([needle], 10, np.random.default_rng(0))


def test_silent_speech_has_no_ratio():
    with pytest.raises(DataError, match="no ratio"):
        noise.mix(np.zeros(1000, np.float32), [rattle(1, 0)], 6, np.random.default_rng(0))


def test_a_folder_is_read_in_order_at_any_rate(tmp_path: Path):
    (tmp_path / "deep").mkdir()
    soundfile.write(tmp_path / "deep" / "a.flac", np.repeat(rattle(0.5, 0)[:, None], 2, axis=1), 48_000)
    soundfile.write(tmp_path / "B.WAV", rattle(0.5, 1), 8000)
    soundfile.write(tmp_path / "c.ogg", rattle(0.5, 2), RATE_HZ)
    (tmp_path / "README.txt").write_text("noise", encoding="utf-8")
    (tmp_path / "._c.ogg").write_bytes(b"not audio")
    assert [path.name for path in noise.noise_files(tmp_path)] == ["B.WAV", "c.ogg", "a.flac"]
    lengths = [len(one) for one in noise.read_noise(tmp_path)]
    assert lengths[0] == pytest.approx(16_000, abs=2)
    assert lengths[2] == pytest.approx(8000 / 3, abs=2)
    assert all(one.dtype == np.float32 and one.ndim == 1 for one in noise.read_noise(tmp_path))


def test_what_is_wrong_with_a_folder_is_said(tmp_path: Path):
    with pytest.raises(DataError, match=r"nowhere: there is no such folder"):
        noise.read_noise(tmp_path / "nowhere")
    (tmp_path / "list.txt").write_text("", encoding="utf-8")
    with pytest.raises(DataError, match=r"holds no recordings of noise.*\.flac"):
        noise.read_noise(tmp_path)
    with pytest.raises(DataError, match=r"list\.txt: is no folder"):
        noise.read_noise(tmp_path / "list.txt")
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    soundfile.write(tmp_path / "still.wav", np.zeros(800), RATE_HZ)
    soundfile.write(tmp_path / "good.wav", rattle(0.1, 0), RATE_HZ)
    with pytest.raises(DataError, match="2 of 3 recordings cannot be used") as caught:
        noise.read_noise(tmp_path)
    assert "bad.wav" in str(caught.value)
    assert "still.wav: is silent" in str(caught.value)
