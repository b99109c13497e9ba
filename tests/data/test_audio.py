"""Recordings of every format, rate and channel count come out as the same mono waveform; broken ones are named."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import soundfile
from scipy.signal import resample_poly

from lalm.data import audio
from lalm.errors import DataError

FORMATS = {  # extension: soundfile's format and subtype
    "wav": ("WAV", "PCM_16"),
    "float.wav": ("WAV", "FLOAT"),
    "24.wav": ("WAVEX", "PCM_24"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}


def sine(rate_hz, seconds=1.0, frequency_hz=440.0):
    """[num_samples]: a tone that fades in and out, so that filters do not ring at its ends."""
    time_s = np.arange(int(rate_hz * seconds)) / rate_hz
    return 0.5 * np.sin(2 * np.pi * frequency_hz * time_s) * np.sin(np.pi * time_s / seconds) ** 2


def write(path, rate_hz, channels, coding):
    tone = sine(rate_hz)
    columns = np.stack([tone * scale for scale in np.linspace(1.0, 0.5, channels)], axis=1)
    soundfile.write(path, columns, rate_hz, format=FORMATS[coding][0], subtype=FORMATS[coding][1])
    return columns.mean(axis=1)


@pytest.mark.parametrize("coding", FORMATS)
@pytest.mark.parametrize(("rate_hz", "channels"), [(8000, 1), (16000, 2), (22050, 2), (44100, 1), (48000, 2)])
def test_any_rate_and_channel_count_becomes_the_same_tone(tmp_path, coding, rate_hz, channels):
    path = tmp_path / f"tone.{coding}"
    original = write(path, rate_hz, channels, coding)
    got = audio.load(path)
    decoded = soundfile.read(path, always_2d=True)[0].mean(axis=1)
    common = np.gcd(rate_hz, 16_000)
    expected = resample_poly(decoded, 16_000 // common, rate_hz // common)
    assert got.dtype == np.float32
    assert got.ndim == 1
    assert abs(len(got) - 16_000) <= 1
    assert np.abs(got[:16_000] - expected[: len(got)]).max() < 2e-3
    assert np.corrcoef(decoded, original)[0, 1] > 0.99  # what was decoded is what was written
    info = audio.info(path)
    assert (info.sample_rate_hz, info.num_channels) == (rate_hz, channels)
    assert info.duration_s == pytest.approx(1.0, abs=0.001)


def test_many_channels_are_averaged(tmp_path):
    columns = np.random.default_rng(0).uniform(-0.5, 0.5, (1600, 6))
    soundfile.write(tmp_path / "six.wav", columns, 16_000, subtype="FLOAT")
    np.testing.assert_allclose(audio.load(tmp_path / "six.wav"), columns.mean(axis=1), atol=1e-6)


def test_resampling_does_not_fold_high_tones_into_speech(tmp_path):
    soundfile.write(tmp_path / "high.wav", sine(48_000, frequency_hz=12_000), 48_000, subtype="FLOAT")
    assert np.abs(audio.load(tmp_path / "high.wav")).max() < 1e-3  # 12 kHz cannot be in a waveform of 16 kHz


@pytest.mark.parametrize("coding", FORMATS)
@pytest.mark.parametrize("share", [0.9, 0.5, 0.05])
def test_a_file_that_is_cut_off_is_never_read_as_a_shorter_one(tmp_path, coding, share):
    path = tmp_path / f"cut.{coding}"
    noise = 0.1 * np.random.default_rng(0).standard_normal(3 * 22_050)
    soundfile.write(path, noise, 22_050, format=FORMATS[coding][0], subtype=FORMATS[coding][1])
    whole = path.read_bytes()
    assert len(audio.load(path)) == pytest.approx(48_000, abs=1)
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match=r"cut\.") as error:
        audio.load(path)
    assert "\n" not in str(error.value)


def test_a_streamed_wav_that_could_not_know_its_length_is_whole(tmp_path):
    path = tmp_path / "pipe.wav"
    soundfile.write(path, sine(16_000), 16_000)
    raw = bytearray(path.read_bytes())
    data = raw.index(b"data")
    raw[4:8] = raw[data + 4 : data + 8] = struct.pack("<I", 0xFFFF_FFFF)
    path.write_bytes(raw)
    assert len(audio.load(path)) == 16_000


def broken_files(folder):
    """Path -> what its error must say."""
    tone = sine(16_000)
    soundfile.write(folder / "nan.wav", np.where(np.arange(16_000) < 5, np.nan, tone), 16_000, subtype="FLOAT")
    soundfile.write(folder / "inf.wav", np.where(np.arange(16_000) == 7, np.inf, tone), 16_000, subtype="FLOAT")
    soundfile.write(folder / "none.wav", np.zeros(0), 16_000)
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_text("these are words and no sound\n" * 20, encoding="utf-8")
    (folder / "header.wav").write_bytes((folder / "nan.wav").read_bytes()[:20])
    (folder / "folder.wav").mkdir()
    return {
        folder / "nan.wav": "NaN or infinite samples, 5 of 16000",
        folder / "inf.wav": "NaN or infinite samples, 1 of 16000",
        folder / "none.wav": "holds no samples",
        folder / "empty.wav": "is empty (0 bytes)",
        folder / "text.wav": "is not audio that can be read",
        folder / "header.wav": "is not audio that can be read",
        folder / "folder.wav": "there is no such file",
        folder / "missing.wav": "there is no such file",
    }


def test_broken_files_are_named_with_the_reason(tmp_path):
    for path, reason in broken_files(tmp_path).items():
        with pytest.raises(DataError) as error:
            audio.load(path)
        assert str(error.value).startswith(f"{path}: ")
        assert reason in str(error.value)


def test_check_lists_all_broken_files_and_counts_the_whole_ones(tmp_path):
    broken = broken_files(tmp_path)
    soundfile.write(tmp_path / "good.wav", sine(16_000), 16_000)
    with pytest.raises(DataError, match=f"{len(broken)} of {len(broken) + 1} recordings cannot be used") as error:
        audio.check([*broken, tmp_path / "good.wav", tmp_path / "good.wav"])
    for path, reason in broken.items():
        assert any(problem.startswith(str(path)) and reason in problem for problem in error.value.problems)
    audio.check([tmp_path / "good.wav"])
