"""The shipped corpus: what its grammar promises, what is in the package, and how its reader answers."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
import soundfile

from lalm.connectors._plain import plain_words
from lalm.corpora import home
from lalm.corpora._home_grammar import PROGRAMS, RULES, VALUES, sentences
from lalm.corpora._home_make import TEST_VOICES, TRAIN_VOICES, plan
from lalm.data import audio
from lalm.data.pools import load_pools
from lalm.errors import DataError
from lalm.study.demo import STUDY
from lalm.study.plan import load_study, runs

MAX_BYTES = 10_000_000


@pytest.fixture(scope="module")
def rows():
    """The shipped rows by split, as read by the plug-in."""
    return {split: list(home.read(home.FOLDER, split, home.Config())) for split in ("train", "dev", "test")}


@pytest.fixture(scope="module")
def manifest():
    """The shipped manifest, line by line, read by nothing of ours."""
    return [json.loads(line) for line in (home.FOLDER / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]


# -- the grammar -----------------------------------------------------------------------------------------------------


def test_grammar_is_seeded_and_gives_distinct_sentences():
    drawn = sentences(32, 0)
    assert drawn == sentences(32, 0)
    assert drawn != sentences(32, 1)
    assert len({text for text, _ in drawn}) == len(drawn) == 32 * len(RULES)


def test_grammar_says_when_it_has_no_more_sentences():
    with pytest.raises(ValueError, match=r"does not give \d+ distinct sentences"):
        sentences(5000, 0)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_sentences_are_as_spoken_and_frames_stand_in_them(seed):
    for text, frame in sentences(40, seed):
        assert re.fullmatch(r"[a-z']+( [a-z']+)*", text), text
        assert text == plain_words(text)  # as a transcript would write it
        place = 0
        for slot in frame.slots:  # in the order of the sentence, word for word
            found = re.search(rf"\b{re.escape(slot.value)}\b", text[place:])
            assert found, (text, slot)
            place += found.end()


def test_slot_values_come_from_the_lists():
    allowed = {(name if name != "weekday" else "day", value) for name, values in VALUES.items() for value in values}
    allowed |= {("program", value) for values in PROGRAMS.values() for value in values}
    used = {(slot.type, slot.value) for _, frame in sentences(40, 3) for slot in frame.slots}
    assert used <= allowed
    assert len(used) > 0.9 * len(allowed)


# -- the shipped rows ------------------------------------------------------------------------------------------------


def test_counts(rows):
    assert {split: len(found) for split, found in rows.items()} == {"train": 360, "dev": 0, "test": 120}
    assert sum(row.audio is not None for row in rows["train"]) == 150
    assert all(row.audio is not None for row in rows["test"])
    everything = rows["train"] + rows["test"]
    assert len({row.frame.intent for row in everything}) == 15
    assert len({slot.type for row in everything for slot in row.frame.slots}) == 17


def test_intents_are_even(rows):
    assert set(Counter(row.frame.intent for row in rows["train"]).values()) == {24}
    assert set(Counter(row.frame.intent for row in rows["train"] if row.audio).values()) == {10}
    assert set(Counter(row.frame.intent for row in rows["test"]).values()) == {8}


def test_manifest_is_what_the_generator_plans(manifest):
    planned = [
        (item.id, item.text, item.frame.to_json()["slots"], item.split, item.voice and "/".join(item.voice))
        for item in plan()
    ]
    assert [(r["id"], r["text"], r["slots"], r["split"], r["speaker"]) for r in manifest] == planned


def test_no_sentence_of_the_test_is_trained_on_and_little_is_new(rows):
    train, test = ({row.text for row in rows[split]} for split in ("train", "test"))
    assert len(train) == 360
    assert len(test) == 120
    assert not train & test
    values = {split: {(s.type, s.value) for row in rows[split] for s in row.frame.slots} for split in ("train", "test")}
    assert {slot.type for row in rows["test"] for slot in row.frame.slots} == {kind for kind, _ in values["test"]}
    assert len(values["test"] - values["train"]) == 5  # the README says so


def test_no_voice_of_the_test_is_heard_in_training(rows):
    speakers = {split: {row.speaker for row in rows[split] if row.audio} for split in ("train", "test")}
    assert {f"{engine}/{voice}" for engine, voice, _ in TRAIN_VOICES} == speakers["train"]
    assert {f"{engine}/{voice}" for engine, voice, _ in TEST_VOICES} == speakers["test"]
    engines = {split: {name.split("/")[0] for name in found} for split, found in speakers.items()}
    assert not engines["train"] & engines["test"]


def test_speech_is_said_to_be_synthetic_and_stands_for_recordings(manifest, rows):
    assert {row["source"] for row in manifest if row["audio"]} == {"synthetic"}
    assert {row["source"] for row in manifest if not row["audio"]} == {"text"}
    assert {row.source for row in rows["train"] if row.audio} == {"recorded"}
    for row in manifest:
        if row["audio"]:
            assert {"engine", "voice", "licence", "speed", "snr_db"} <= row["meta"].keys()


def test_recordings_decode_to_what_the_manifest_says(rows):
    spoken = [row for split in ("train", "test") for row in rows[split] if row.audio]
    for row in spoken:
        header = audio.info(row.audio)
        assert (header.sample_rate_hz, header.num_channels) == (16_000, 1)
        assert header.duration_s == pytest.approx(row.duration_s, abs=0.01)
    for row in spoken[::15]:
        samples, rate = soundfile.read(row.audio)
        assert len(samples) / rate == pytest.approx(row.duration_s, abs=0.01)
        assert 0.1 < abs(samples).max() <= 1.0


def test_folder_is_small_and_holds_nothing_else(manifest):
    files = [path for path in home.FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MAX_BYTES
    named = {row["audio"] for row in manifest if row["audio"]} | {"manifest.jsonl", "README.md"}
    assert {path.relative_to(home.FOLDER).as_posix() for path in files} == named


# -- the reader ------------------------------------------------------------------------------------------------------


def test_pools_of_the_demo():
    study, base = load_study(STUDY)
    data = next(run for run in runs(study, base) if run.share == 1.0).recipe.data
    pools = load_pools(data)
    assert (len(pools.text), len(pools.speech), len(pools.synthetic), len(pools.test)) == (360, 150, 0, 120)
    few = load_pools(data.model_copy(update={"speech_share": 0.1})).speech
    assert len({row.frame.intent for row in few}) == len(few) == 15  # a tenth is one recording of every intent


def test_make_tiny_is_read_back(tmp_path):
    home.make_tiny(tmp_path, 0)
    found = {split: list(home.read(tmp_path, split, home.Config())) for split in ("train", "test")}
    assert [len(found[split]) for split in ("train", "test")] == [15, 4]
    assert sum(row.audio is not None for row in found["train"]) == 5
    assert not {row.text for row in found["train"]} & {row.text for row in found["test"]}


def test_a_folder_without_manifest_names_the_shipped_one(tmp_path):
    with pytest.raises(DataError, match=re.escape(str(home.FOLDER))):
        list(home.read(tmp_path, "train", home.Config()))


def test_missing_recordings_are_all_named(tmp_path):
    home.make_tiny(tmp_path, 0)
    gone = sorted((tmp_path / "audio").iterdir())[:2]
    for path in gone:
        path.unlink()
    with pytest.raises(DataError) as caught:
        list(home.read(tmp_path, "train", home.Config()))
    assert [path.stem in str(caught.value) for path in gone] == [True, True]


def test_a_damaged_package_is_named(tmp_path, monkeypatch):
    home.make_tiny(tmp_path, 0)
    monkeypatch.setattr(home, "FOLDER", Path(tmp_path))
    with pytest.raises(DataError, match="360 and 150 came with the package"):
        list(home.read(tmp_path, "train", home.Config()))
