"""One test for every corpus: what `make_tiny` writes, `read` reads, and what it yields keeps the contract."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import lalm
from lalm import plugins
from lalm.config import DataSection
from lalm.data import audio
from lalm.data.columns import AUDIO_EXTENSIONS
from lalm.data.pools import check_recordings, load_pools
from lalm.errors import DataError

NAMES = plugins.names("corpora")
# Options that the tiny corpus needs because it is smaller than the real one.
OPTIONS = {
    "barista": {"test_size": 2},
    "slurp": {"audio": "audio"},
    "minds14": {"test_size": 2, "check_counts": False},
    **{name: {"check_counts": False} for name in ("massive", "speech_massive", "italic", "fluent_speech_commands")},
    "spoken_squad": {"check_counts": False},
    "ask_qa": {"check_counts": False},
}
TEXT_ONLY = {"massive", "ask_qa", "dialogues"}  # corpora without recordings


def test_all_corpora_are_found():
    assert {"barista", "csv", "fsdd", "home", "jsonl", "slurp"} <= set(NAMES)
    assert {"fluent_speech_commands", "italic", "massive", "minds14", "speech_massive"} <= set(NAMES)
    assert len(NAMES) == len(list((Path(lalm.__file__).parent / "corpora").glob("[!_]*.py")))


def tiny(name, folder):
    module = plugins.load("corpora", name)
    folder.mkdir(exist_ok=True)
    module.make_tiny(folder, seed=0)
    return module, module.Config(**OPTIONS.get(name, {}))


@pytest.mark.parametrize("name", NAMES)
def test_a_tiny_corpus_is_read_and_keeps_the_contract(name, tmp_path):
    module, cfg = tiny(name, tmp_path)
    rows = {split: list(module.read(tmp_path, split, cfg)) for split in ("train", "dev", "test")}
    assert any(row.text or all(turn.text for turn in row.turns) for row in rows["train"])
    assert any(row.recordings for row in rows["train"]) == (name not in TEXT_ONLY)
    assert rows["test"]
    for split, part in rows.items():
        assert len({row.id for row in part}) == len(part)
        for row in part:
            assert row.split in (split, None)
            assert (row.source == "text") == (not row.recordings)
            if row.turns:
                assert_asks_something(row)
            else:
                assert row.text or row.audio
                assert row.frame.intent
            for sound in (row, *row.turns):
                if sound.audio is not None:
                    assert sound.audio.is_relative_to(tmp_path)
                    assert sound.duration_s == pytest.approx(audio.info(sound.audio).duration_s, abs=0.01)
    speakers = [{row.speaker for row in rows[split] if row.speaker} for split in ("train", "test")]
    assert not speakers[0] & speakers[1]
    train_files, test_files = ({path for row in rows[split] for path in row.recordings} for split in ("train", "test"))
    assert not test_files & train_files


def assert_asks_something(row):
    """A question or dialogue: pieces in writing or recorded, a request at the end, and what is right."""
    assert row.text is None
    assert row.audio is None
    assert all(turn.text or turn.audio for turn in row.turns)
    assert row.question or row.turns[-1].role == "user"
    assert row.answers or row.clarification


@pytest.mark.parametrize("name", NAMES)
def test_a_tiny_corpus_is_the_same_for_the_same_seed(name, tmp_path):
    for folder in ("a", "b"):
        tiny(name, tmp_path / folder)
    files = {path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file()}
    assert files
    for path in files:
        one, other = tmp_path / "a" / path, tmp_path / "b" / path
        if path.suffix in AUDIO_EXTENSIONS:  # an OGG file bears a random serial number
            np.testing.assert_array_equal(audio.load(one), audio.load(other))
        else:
            assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_a_tiny_corpus_makes_pools(name, tmp_path):
    tiny(name, tmp_path)
    corpus = {"name": name, **OPTIONS.get(name, {})}
    pools = load_pools(DataSection.model_validate({"corpus": corpus, "root": tmp_path}))
    check_recordings(pools)
    assert pools.text
    assert bool(pools.speech) == (name not in TEXT_ONLY)
    assert pools.test
    written = [(row.text, row.frame, row.turns, row.question) for row in pools.text]
    assert len(set(written)) == len(written)


@pytest.mark.parametrize("name", NAMES)
def test_the_licence_is_stated(name):
    assert plugins.load("corpora", name).LICENCE


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_without_the_corpus_is_refused(name, tmp_path):
    module = plugins.load("corpora", name)
    (tmp_path / "file.txt").write_text("no corpus", encoding="utf-8")
    for root in (tmp_path, tmp_path / "file.txt"):
        with pytest.raises(DataError):
            list(module.read(root, "train", module.Config()))


@pytest.mark.parametrize("name", sorted(set(NAMES) - TEXT_ONLY))
def test_a_recording_that_is_empty_is_named(name, tmp_path):
    module, cfg = tiny(name, tmp_path)
    path = next(row.recordings[0] for row in module.read(tmp_path, "test", cfg) if row.recordings)
    path.write_bytes(b"")
    section = DataSection.model_validate({"corpus": {"name": name, **OPTIONS.get(name, {})}, "root": tmp_path})
    with pytest.raises(DataError) as error:
        check_recordings(load_pools(section))
    assert f"{path}: is empty" in str(error.value)
