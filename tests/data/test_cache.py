"""What was heard is kept: on disk, mapped, checked, bounded, and never trusted when it is damaged."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from safetensors.numpy import load_file

from lalm.data.cache import PreparedCache
from lalm.errors import ConfigError


class Encoder:
    """Counts how often it hears; what it makes of a recording says which one it was."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def __call__(self, paths):
        self.heard += [path.stem for path in paths]
        return [{"frames": np.full((50, 10), int(path.stem), np.float32), "ids": np.arange(3)} for path in paths]


@pytest.fixture
def clips(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.wav" for number in range(10)]
    for number, path in enumerate(paths):
        soundfile.write(path, np.full(100, number / 20, np.float32), 16_000)
    return paths


def entries(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


def test_a_recording_is_heard_once_and_kept_for_other_processes(clips, tmp_path):
    encoder, folder = Encoder(), tmp_path / "cache"
    first = PreparedCache(folder).get(clips, encoder, "weights")
    again = PreparedCache(folder).get([*clips, clips[0]], encoder, "weights")
    assert encoder.heard == [path.stem for path in clips]
    for number, (one, other) in enumerate(zip(first, again, strict=False)):
        assert one["frames"].shape == (50, 10)
        assert (one["frames"] == number).all()
        np.testing.assert_array_equal(other["frames"], one["frames"])
        assert sorted(other) == sorted(one) == ["frames", "ids"]
    assert [load_file(file)["ids"].tolist() for file in entries(folder)] == [[0, 1, 2]] * len(clips)


def test_other_weights_and_other_sound_are_other_entries(clips, tmp_path):
    encoder, folder = Encoder(), tmp_path / "cache"
    cache = PreparedCache(folder)
    cache.get(clips[:1], encoder, "weights")
    cache.get(clips[:1], encoder, "other weights")
    soundfile.write(clips[0], np.zeros(200, np.float32), 16_000)
    cache.get(clips[:1], encoder, "weights")
    assert encoder.heard == ["0", "0", "0"]
    assert len(entries(folder)) == 3


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "not one", "no checksum"])
def test_a_damaged_entry_is_heard_anew(damage, clips, tmp_path):
    encoder, folder = Encoder(), tmp_path / "cache"
    PreparedCache(folder).get(clips[:1], encoder, "weights")
    (file,) = entries(folder)
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[-5] ^= 1
    file.write_bytes(
        {
            "empty": b"",
            "cut": whole[:-20],
            "flipped": bytes(flipped),
            "not one": b"x" * 400,
            "no checksum": whole.replace(b"crc32", b"crc33"),
        }[damage]
    )
    (found,) = PreparedCache(folder).get(clips[:1], encoder, "weights")
    assert (found["frames"] == 0).all()
    assert encoder.heard == ["0", "0"]
    assert file.read_bytes() == whole


def test_what_was_not_used_for_longest_goes_first(clips, tmp_path):
    encoder, folder = Encoder(), tmp_path / "cache"
    PreparedCache(folder).get(clips, encoder, "weights")
    size = entries(folder)[0].stat().st_size
    old = time.time() - 3 * 24 * 3600
    for file in entries(folder):
        os.utime(file, (old, old))
    PreparedCache(folder).get(clips[:2], encoder, "weights")  # used today
    for file in entries(folder):
        if file.stat().st_mtime < time.time() - 3600:
            os.utime(file, (old + int(load_file(file)["frames"][0, 0]), old))
    encoder.heard.clear()
    bounded = PreparedCache(folder, max_bytes=10 * size)
    bounded.get(clips[:1], encoder, "other weights")  # the eleventh
    assert len(entries(folder)) == 9
    kept = {int(load_file(file)["frames"][0, 0]) for file in folder.glob("weights/*/*")}
    assert {0, 1} <= kept, "those used today stay"
    assert kept == {0, 1} | set(sorted(kept)[2:])
    assert encoder.heard == ["0"]


def test_a_cache_full_of_what_is_in_use_takes_no_more_and_says_so(clips, tmp_path, capsys):
    encoder, folder = Encoder(), tmp_path / "cache"
    PreparedCache(folder).get(clips[:4], encoder, "weights")
    size = entries(folder)[0].stat().st_size
    found = PreparedCache(folder, max_bytes=4 * size).get(clips[4:], encoder, "weights")
    assert len(entries(folder)) == 4
    assert [int(one["frames"][0, 0]) for one in found] == [4, 5, 6, 7, 8, 9]
    assert "LALM_CACHE_GB" in capsys.readouterr().err


def test_an_entry_that_another_process_deletes_is_heard_again_when_it_is_used(clips, tmp_path, monkeypatch):
    monkeypatch.setattr("lalm.data.cache.MAPPED", 1)
    encoder, folder = Encoder(), tmp_path / "cache"
    found = PreparedCache(folder).get(clips[:2], encoder, "weights")
    for file in entries(folder):
        file.unlink()
    assert [int(one["frames"][0, 0]) for one in found] == [0, 1]
    assert encoder.heard == ["0", "1", "0", "1"]


def test_without_a_folder_all_is_in_memory(clips):
    encoder = Encoder()
    cache = PreparedCache(None)
    cache.get(clips, encoder, "weights")
    cache.get(clips, encoder, "weights")
    assert len(encoder.heard) == len(clips)


@pytest.mark.parametrize("value", ["much", "-1", "nan"])
def test_a_bound_that_is_no_number_is_an_error(value, tmp_path, monkeypatch):
    monkeypatch.setenv("LALM_CACHE_GB", value)
    with pytest.raises(ConfigError, match="LALM_CACHE_GB"):
        PreparedCache(tmp_path)


PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from lalm.data import cache as lalm_cache
from lalm.data.cache import PreparedCache
lalm_cache.RECENT_S = float(sys.argv[2])
def compute(paths):
    return [{"frames": np.full((50, 10), int(path.stem), np.float32)} for path in paths]
clips = sorted(Path(sys.argv[1]).glob("*.wav"))
for turn in range(20):
    cache = PreparedCache(Path(sys.argv[1]) / "cache", max_bytes=60_000)
    for clip, found in zip(clips, cache.get(clips, compute, f"weights {turn % 3}")):
        assert (found["frames"] == int(clip.stem)).all()
"""


@pytest.mark.parametrize("recent_s", [24 * 3600, 0], ids=["nothing goes", "entries go while others read"])
def test_processes_side_by_side_never_read_half_an_entry(recent_s, clips, tmp_path):
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), str(recent_s)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for process in processes:
        _, error = process.communicate(timeout=120)
        assert process.returncode == 0, error
    assert 0 < sum(file.stat().st_size for file in entries(tmp_path / "cache")) <= 60_000 * 1.2


def test_a_bound_is_one_for_all_processes_that_write(tmp_path):
    """Four caches that looked at the same empty folder, and wrote in turn."""
    clips = [tmp_path / f"{number}.wav" for number in range(80)]
    for number, path in enumerate(clips):
        soundfile.write(path, np.full(100, number / 100, np.float32), 16_000)
    caches = [PreparedCache(tmp_path / "cache", max_bytes=60_000) for _ in range(4)]
    for number, clip in enumerate(clips):
        caches[number % 4].get([clip], Encoder(), "weights")
    assert 40_000 < sum(file.stat().st_size for file in entries(tmp_path / "cache")) <= 60_000 * 1.2


def test_a_folder_that_cannot_be_written_is_said_once_and_nothing_ends(clips, tmp_path, capsys):
    (tmp_path / "cache").write_text("a file stands where the folder should")
    encoder = Encoder()
    cache = PreparedCache(tmp_path / "cache")
    found = [*cache.get(clips[:3], encoder, "weights"), *cache.get(clips[3:6], encoder, "weights")]
    assert [int(one["frames"][0, 0]) for one in found] == [0, 1, 2, 3, 4, 5]
    assert capsys.readouterr().err.count("cannot be written") == 1
    assert len(encoder.heard) == 6


@pytest.mark.parametrize("on_disk", [False, True])
def test_what_is_held_in_memory_is_bounded(on_disk, clips, tmp_path, monkeypatch):
    monkeypatch.setattr("lalm.data.cache.KEPT_IN_MEMORY", 5000)
    monkeypatch.setattr("lalm.data.cache.MAPPED", 1)
    encoder = Encoder()
    cache = PreparedCache(tmp_path / "cache" if on_disk else None, max_bytes=2100)  # room for none
    found = cache.get(clips, encoder, "weights")
    assert cache._memory_bytes == sum(held for _, held in cache._memory.values()) <= 5000
    assert [int(one["frames"][0, 0]) for one in found] == list(range(10)), "those that went are heard again"
    assert cache._memory_bytes <= 5000


def test_a_bound_of_nothing_keeps_nothing_on_disk(clips, tmp_path, monkeypatch):
    monkeypatch.setenv("LALM_CACHE_GB", "0")
    PreparedCache(tmp_path / "cache").get(clips, Encoder(), "weights")
    assert not (tmp_path / "cache").exists()
