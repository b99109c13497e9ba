"""`lalm data synth`: what is spoken, what is written, what is kept, what is refused."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lalm import plugins
from lalm.cli import main
from lalm.config import DataSection
from lalm.data import audio
from lalm.data.manifest import read_manifest
from lalm.data.pools import load_pools
from lalm.errors import ConfigError, DataError, MissingExtraError, UserError
from lalm.speak.clips import Clip, keep, spoken
from lalm.speak.engines import engines_asked_for, list_engines, plain_voices
from lalm.speak.rows import Manner, deal_to_splits, plan, rows_of, speak_rows

SAMPLES_A_SECOND = 16_000


def frequency_hz(samples: np.ndarray, rate_hz: int = SAMPLES_A_SECOND) -> float:
    """Where most of the energy is."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 1 << 18))
    return float(np.argmax(spectrum)) * rate_hz / (1 << 18)


def test_the_whole_command_with_engines_that_every_machine_has(tmp_path, manifest, engines, capsys):
    """Also in processes of their own, which must be told of a user's folder of engines."""
    splits = ["train"] * 6 + ["dev", "test"]
    rows = [
        {
            "id": f"r{i}",
            "text": f"say {'abcdefgh'[i]}",
            "intent": "say",
            "slots": [{"type": "x", "value": "y"}],
            "split": s,
        }
        for i, s in enumerate(splits)
    ]
    soundfile.write(tmp_path / "a.wav", np.full(800, 0.1), 16_000)
    rows += [{"id": "heard", "audio": "a.wav", "text": "say it", "intent": "say"}]
    source, out = manifest(rows), tmp_path / "out"
    command = ["data", "synth", str(source), "--engine", "tones", "--plugins", str(engines), "--out", str(out)]
    command += ["--speed", "0.8,1.2", "--pitch", "0.9,1.1", "--room", "0.1,0.2", "--copies", "2", "--seed", "3"]
    assert main(command) == 0
    said = capsys.readouterr()
    assert "Spoke 16 rows" in said.out
    assert "left out: 1 row with a recording" in said.out
    assert "16/16" not in said.err, "the first clip is spoken before the others"
    assert "about" in said.err

    made = read_manifest(out / "manifest.jsonl")
    assert [(row.meta["text_id"], row.split) for row in made[::2]] == [(row["id"], row["split"]) for row in rows[:-1]]
    assert len({row.id for row in made}) == len({row.audio for row in made}) == 16
    by_split = {split: {row.speaker for row in made if row.split == split} for split in splits}
    assert sum(len(voices) for voices in by_split.values()) == len(set().union(*by_split.values())) <= 6
    for row in made:
        assert row.source == "synthetic"
        assert row.frame.intent == "say"
        assert row.frame.slots[0].value == "y"
        assert row.speaker == f"tones/{row.meta['voice']}"
        assert row.meta["licence"] == "CC0-1.0"
        assert 0.8 <= row.meta["speed"] <= 1.2
        assert 0.9 <= row.meta["pitch"] <= 1.1
        assert 0.1 <= row.meta["room_s"] <= 0.2
        header = audio.info(row.audio)
        assert (header.sample_rate_hz, header.num_channels) == (16_000, 1)
        assert row.duration_s == pytest.approx(header.duration_s, abs=1e-3)
    assert {path.suffix for path in (out / "audio").iterdir()} == {".flac"}
    pools = load_pools(
        DataSection.model_validate({"corpus": "jsonl", "root": source, "synthetic": out / "manifest.jsonl"})
    )
    assert len(pools.synthetic) == 12, "it is what data.synthetic wants, without the rows of dev and test"

    before = {path: path.stat().st_mtime_ns for path in (out / "audio").iterdir()}
    lines = (out / "manifest.jsonl").read_bytes()
    victim = sorted(before)[0]
    sound = victim.read_bytes()
    victim.unlink()
    assert main(command) == 0
    assert "15 clips were there already" in capsys.readouterr().out
    assert (out / "manifest.jsonl").read_bytes() == lines
    assert victim.read_bytes() == sound, "the same seed gives the same bytes"
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in before.items() if path != victim)


def test_a_killed_command_leaves_whole_clips_no_manifest_and_no_workers_and_goes_on(tmp_path, manifest, engines):
    source, out = manifest(14), tmp_path / "out"
    command = ["data", "synth", str(source), "--engine", "slow_tones", "--plugins", str(engines), "--out", str(out)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    process = subprocess.Popen([sys.executable, "-m", "lalm", *command], **quiet)
    end = time.monotonic() + 120
    while len(list(out.glob("audio/*.flac"))) < 3 and time.monotonic() < end:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    left_s = time.monotonic() + 30
    while _group_lives(process.pid) and time.monotonic() < left_s:
        time.sleep(0.05)
    assert not _group_lives(process.pid), "workers end with the process that started them"
    kept = {path: path.read_bytes() for path in out.glob("audio/*.flac")}
    assert 3 <= len(kept) < 14
    assert all(len(audio.load(path)) > 0 for path in kept)
    assert not (out / "manifest.jsonl").exists()
    assert main(command) == 0
    assert len(read_manifest(out / "manifest.jsonl")) == 14
    assert all(path.read_bytes() == content for path, content in kept.items())


def _group_lives(group: int) -> bool:
    """Whether a process of the group runs; one that has ended and is not waited for does not count."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[2] == str(group) and fields[0] != "Z":
            return True
    return False


def test_what_cannot_be_spoken_is_listed_and_the_rest_is_kept(tmp_path, manifest):
    source = manifest([{"id": "a", "text": "yes", "intent": "x"}, {"id": "b", "text": "...", "intent": "x"}])
    with pytest.raises(
        DataError, match=r"1 sentence could not be spoken.*\n.*row 'b.speech0': tones/\w+ says nothing of '\.\.\.'"
    ):
        speak_rows(rows_of(source, None, None), tmp_path / "out", Manner(("tones",)))
    assert len(list((tmp_path / "out" / "audio").iterdir())) == 1
    assert not (tmp_path / "out" / "manifest.jsonl").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--engine", "tonse"], "Did you mean 'tones'?"),
        ([], "Name at least one engine with --engine: absent, espeak_ng, flite"),
        (["--engine", "absent"], "The program absent is needed .* Install it with: apt install absent"),
        (["--engine", "tones", "--voices", "low,hihg"], "tones has no voice 'hihg'. Did you mean 'high'?"),
        (["--engine", "tones", "--voices", "tnes=low"], "'tnes' is no engine of this command. Did you mean 'tones'?"),
        (
            ["--engine", "tones", "--engine", "slow_tones", "--voices", "low"],
            "write whose they are: --voices ENGINE=low",
        ),
        (["--engine", "tones", "--language", "de"], "The engine tones does not speak 'de', but: en, fr."),
        (["--engine", "tones", "--speed", "9"], r"--speed 9,9: allowed is LOW,HIGH between 0.5 and 2"),
        (["--engine", "tones", "--pitch", "1.2,0.8"], r"--pitch 1.2,0.8: allowed is"),
        (["--engine", "tones", "--copies", "0"], "--copies 0: at least 1"),
        (["--engine", "tones", "--voices", "low", "--copies", "2"], "too few voices for 'en'.*the same sound"),
        (["--engine", "tones", "--split", "dev"], "There are no text rows of split 'dev'"),
        (["--engine", "slow_tones", "--speed", "1.1"], "slow_tones has no option speed"),
    ],
)
def test_mistakes_are_answered_before_anything_is_spoken(options, said, tmp_path, manifest, capsys):
    out = tmp_path / "out"
    assert main(["data", "synth", str(manifest(2)), "--out", str(out), *options]) == 2
    found = capsys.readouterr().err
    assert re.search(said, found, re.DOTALL), found
    assert "Traceback" not in found
    assert not out.exists()


def test_a_manifest_of_others_is_not_overwritten(tmp_path, manifest):
    source = manifest(2, "manifest.jsonl")
    before = source.read_bytes()
    with pytest.raises(UserError, match="was not written by this command"):
        speak_rows(rows_of(source, None, None), tmp_path, Manner(("tones",)))
    assert source.read_bytes() == before
    with pytest.raises(DataError, match="no such file"):
        rows_of(tmp_path / "nowhere.jsonl", None, None)
    with pytest.raises(ConfigError, match="--corpus fsdd needs --root"):
        rows_of(None, "fsdd", None)
    assert len(rows_of(None, "home", None)) == 480, "it comes with the package"
    with pytest.raises(ConfigError, match="Name a manifest"):
        rows_of(None, None, None)


def test_words_of_recordings_are_spoken_where_that_is_asked_for(tmp_path, manifest):
    soundfile.write(tmp_path / "a.wav", np.full(800, 0.1), 16_000)
    rows = [
        {"id": "a", "audio": "a.wav", "text": "say it", "intent": "say", "speaker": "ann", "split": "test"},
        {"id": "b", "audio": "a.wav", "intent": "say", "split": "test"},
        {"id": "c", "audio": "a.wav", "text": "say it", "intent": "say", "source": "synthetic", "split": "test"},
    ]
    source = rows_of(manifest(rows), None, None)
    with pytest.raises(DataError, match=r"no text rows .*--recorded"):
        speak_rows(source, tmp_path / "out", Manner(("tones",)))
    speak_rows(source, tmp_path / "out", Manner(("tones",), recorded=True))
    (row,) = read_manifest(tmp_path / "out" / "manifest.jsonl")
    assert (row.meta["text_id"], row.text, row.split, row.source) == ("a", "say it", "test", "synthetic")
    assert row.speaker.startswith("tones/")
    assert row.audio.parent == tmp_path / "out" / "audio"


def test_two_commands_for_two_splits_keep_voices_apart(tmp_path, manifest):
    rows = [
        {"id": f"{s}{i}", "text": f"say {i * 'b'}", "intent": "x", "split": s} for s, i in (("train", 0), ("test", 1))
    ]
    voices = {}
    for split in ("train", "test"):
        speak_rows(rows_of(manifest(rows), None, None), tmp_path / split, Manner(("tones",)), split)
        made = read_manifest(tmp_path / split / "manifest.jsonl")
        assert {row.split for row in made} == {split}
        voices[split] = {row.speaker for row in made}
    assert not voices["train"] & voices["test"]


def test_an_engine_for_one_split_speaks_there_and_the_others_share_the_rest(tmp_path, manifest, engines):
    (tmp_path / "synth").mkdir()
    shutil.copy(engines / "synth" / "tones.py", tmp_path / "synth" / "bells.py")
    plugins.add_roots([tmp_path])
    splits = ["train"] * 9 + ["test"] * 3
    source = manifest([{"id": f"{split}{i}", "text": "say it", "split": split} for i, split in enumerate(splits)])
    command = ["data", "synth", str(source), "--engine", "tones@test", "--engine", "bells", "--out"]
    assert main([*command, str(tmp_path / "out")]) == 0
    made = read_manifest(tmp_path / "out" / "manifest.jsonl")
    spoken_by = {(row.meta["engine"], row.split): row.meta["voice"] for row in made}
    assert {split for engine, split in spoken_by if engine == "tones"} == {"test"}
    assert ("bells", "train") in spoken_by
    with pytest.raises(UserError, match="none is left for train"):
        deal_to_splits(rows_of(source, None, None), Manner(("tones",), only={"tones": "test"}), None)


@pytest.mark.parametrize(
    ("asked", "said"),
    [(["pico@tests"], r"'tests' is no split.*Did you mean 'test'"), (["pico", "pico@test"], "pico was named before")],
)
def test_an_engine_for_no_split_or_named_twice_is_refused(asked, said):
    with pytest.raises(ConfigError, match=said):
        engines_asked_for(asked)


def test_rows_of_several_languages_and_ids_that_stand_in_two_splits(manifest):
    rows = rows_of(
        manifest([{"id": "a", "text": "a", "intent": "x", "language": "fr"}, {"id": "b", "text": "b"}]), None, None
    )
    dealt = {"en": {("tones", "low"): "train"}, "fr": {("tones", "high"): "train"}}
    found = plan([*map(_train, rows)], dealt, Manner(("tones",)))
    assert [(row.language, clip.voice) for row, (clip,) in found] == [("fr", "high"), ("en", "low")]
    twice = [_train(rows[0]), _train(rows[0], "test")]
    both = {"fr": {("tones", "high"): "train", ("tones", "low"): "test"}}
    assert [row.id for row, _ in plan(twice, both, Manner(("tones",)))] == ["train.a.speech0", "test.a.speech0"]
    with pytest.raises(DataError, match=r"1 id .*more than once(.|\n)*train\.a"):
        plan([twice[0], twice[0]], both, Manner(("tones",)))


def _train(row, split="train"):
    return replace(row, split=split)


def test_a_clip_is_named_by_all_that_is_heard(tmp_path):
    base = Clip("go", "tones", "low", "en")
    others = [
        Clip("no", "tones", "low", "en"),
        Clip("go", "tones", "high", "en"),
        Clip("go", "tones", "low", "fr"),
        Clip("go", "tones", "low", "en", speed=1.1),
        Clip("go", "tones", "low", "en", pitch=1.1),
        Clip("go", "tones", "low", "en", reverb_s=0.2, room_seed=1),
        Clip("go", "tones", "low", "en", reverb_s=0.2, room_seed=2),
    ]
    assert len({clip.name for clip in (base, *others)}) == 1 + len(others)
    sounds = []
    for clip in (base, *others[3:]):
        keep(clip, tmp_path)
        sounds.append(clip.path(tmp_path).read_bytes())
    assert len(set(sounds)) == len(sounds)


def test_speed_and_pitch_of_an_engine_without_pitch():
    """Pitch by resampling: the tone is higher by the factor, and takes as long as before."""
    text = "k" * 60
    plain = spoken(text, "tones", "low", "en")
    assert frequency_hz(plain) == pytest.approx(180, rel=0.01)
    higher = spoken(text, "tones", "low", "en", pitch=1.25)
    assert frequency_hz(higher) == pytest.approx(225, rel=0.01)
    assert len(higher) == pytest.approx(len(plain), rel=0.01)
    faster = spoken(text, "tones", "low", "en", speed=1.25)
    assert frequency_hz(faster) == pytest.approx(180, rel=0.01)
    assert len(faster) == pytest.approx(len(plain) / 1.25, rel=0.01)


def test_engines_are_listed_with_what_is_missing(engines, capsys):
    assert main(["data", "synth", "--list", "--engine", "tones", "--engine", "absent", "--plugins", str(engines)]) == 0
    text = capsys.readouterr().out
    assert "languages  en, fr" in text
    assert "voices     en: low, middle, high, shrill, deep, thin\n" in text, "and no mixture of two"
    assert "Install it with: apt install absent" in text
    assert "voices     fr: low" in list_engines("fr", ["tones"])
    assert main(["ls", "synth", "--plugins", str(engines)]) == 0
    assert {"flite", "espeak_ng", "kokoro", "pico", "piper", "tones"} <= set(capsys.readouterr().out.split())


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"the program {program} is not installed")


@needs("flite")
def test_flite_speaks(tmp_path, manifest):
    speak_rows(rows_of(manifest(1), None, None), tmp_path / "out", Manner(("flite",), speed=(0.9, 1.1)))
    (made,) = read_manifest(tmp_path / "out" / "manifest.jsonl")
    assert made.meta["engine"] == "flite"
    assert (made.duration_s or 0) > 0.3
    fast, slow = (spoken("turn on the light", "flite", "slt", "en", speed=speed) for speed in (1.3, 0.8))
    assert len(slow) > 1.3 * len(fast)


@needs("espeak-ng")
def test_espeak_changes_pitch_itself(tmp_path):
    low, own, high = (spoken("aaaaaa", "espeak_ng", "en-us+m3", "en", pitch=pitch) for pitch in (0.7, 1.0, 1.6))
    periods = [_period_s(samples) for samples in (low, own, high)]
    assert periods[0] > 1.05 * periods[1] > 1.2 * periods[2]
    assert len(own) == pytest.approx(len(high), rel=0.1)
    module = plugins.load("synth", "espeak_ng")
    assert {"en", "fr", "de"} <= set(module.languages(module.Config()))
    assert "fr+f3" in plain_voices(module, "fr")


def _period_s(samples: np.ndarray) -> float:
    """Median distance of like stretches of 40 ms, of the loud ones, in seconds (50 to 400 Hz)."""
    found = []
    for start in range(0, len(samples) - 640, 320):
        frame = samples[start : start + 640]
        if np.mean(frame**2) > 0.3 * np.mean(samples**2):
            own = np.correlate(frame, frame, "full")[639:]
            found.append((40 + int(np.argmax(own[40:320]))) / SAMPLES_A_SECOND)
    return float(np.median(found))


@needs("flite")
@pytest.mark.skipif(find_spec("ttspico") is None, reason="the package ttspico is not installed")
def test_pico_speaks_its_languages_the_same_way_every_time():
    module = plugins.load("synth", "pico")
    lines = {"en": "turn on the light", "fr": "allume la lumière", "es": "enciende la luz", "it": "accendi la luce"}
    for language, line in lines.items():
        voice = module.voices(language, module.Config())[0]
        plain, slow, high = (
            spoken(line, "pico", voice, language, **how) for how in ({}, {"speed": 0.7}, {"pitch": 1.5})
        )
        assert 0.6 < len(plain) / 16_000 < 3
        assert len(slow) > 1.2 * len(plain)
        assert len(high) == pytest.approx(len(plain), rel=0.15)
        assert not np.array_equal(high, plain)
        assert np.array_equal(plain, spoken(line, "pico", voice, language))
    marked = spoken("allume <speed level='20'>la</speed> lumière", "pico", "fr-FR", "fr")
    assert len(marked) > len(spoken("allume la lumière", "pico", "fr-FR", "fr")), "tags are words, not commands"
    assert set(lines) < set(module.languages(module.Config()))
    assert module.voices("ja", module.Config()) == []


def test_pico_is_named_with_what_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ttspico", None)
    with pytest.raises(MissingExtraError, match=r"pico .*pip install ttspico"):
        plugins.load("synth", "pico").languages(plugins.load("synth", "pico").Config())


def test_a_program_that_goes_missing_is_named_with_what_installs_it(tmp_path, manifest, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["data", "synth", str(manifest(1)), "--engine", "flite", "--out", str(tmp_path / "out")]) == 2
    assert "Install it with: apt install flite (or brew install flite)" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_kept_clips_are_whole_files_of_sixteen_bits(tmp_path):
    keep(Clip("hello", "tones", "low", "en"), tmp_path)
    (path,) = tmp_path.iterdir()
    header = soundfile.info(path)
    assert (header.format, header.subtype, header.samplerate) == ("FLAC", "PCM_16", 16_000)
    assert np.abs(audio.load(path)).max() == pytest.approx(0.5, abs=1e-3)
