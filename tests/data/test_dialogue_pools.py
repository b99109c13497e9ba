"""Pools and budgets of dialogues: spoken rows, written twins, minutes of turns, recordings checked and kept apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lalm.config import DataSection
from lalm.data import audio, budget
from lalm.data.pools import check_recordings, load_pools
from lalm.errors import DataError
from lalm.records import Frame, Turn, Utterance
from lalm.train.copies import copies, num_copies
from lalm.train.provenance import data_hash


def dialogue(name: str, folder: Path, seconds: float = 0.5, **more: object) -> dict[str, object]:
    """A row with two recordings of noise, a passage and a request."""
    for part, seed in (("n", 0), ("u", 1)):
        noise = 0.1 * np.random.default_rng([seed, *name.encode()]).standard_normal(int(16_000 * seconds))
        soundfile.write(folder / f"{name}-{part}.wav", noise, 16_000)
    turns = [
        {"role": "narrator", "text": f"This is {name}.", "audio": f"{name}-n.wav"},
        {"role": "user", "text": "Who is it?", "audio": f"{name}-u.wav"},
    ]
    return {"id": name, "turns": turns, "answers": [name], **more}


def data(folder: Path, *rows: dict[str, object], **options: object) -> DataSection:
    (folder / "m.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return DataSection.model_validate({"corpus": "jsonl", "root": folder / "m.jsonl", **options})


def test_a_dialogue_is_a_speech_row_and_its_twin_a_text_row(tmp_path):
    rows = [dialogue("a", tmp_path), dialogue("b", tmp_path), dialogue("c", tmp_path, split="test")]
    written = {"id": "w", "turns": [{"role": "user", "text": "Who is it?"}], "answers": ["nobody"]}
    pools = load_pools(data(tmp_path, *rows, written, speech_share=0.5))
    assert ([row.id for row in pools.text], len(pools.speech), [row.id for row in pools.test]) == (
        ["w", "a", "b"],
        1,
        ["c"],
    )
    assert all(not row.recordings for row in pools.text)
    assert (pools.num_pool_speech, pools.pool_speech_s) == (2, pytest.approx(2.0))


def test_minutes_are_those_of_the_turns(tmp_path):
    rows = [dialogue(name, tmp_path) for name in "abcd"]  # a second each, half of it the passage
    assert len(load_pools(data(tmp_path, *rows, speech_minutes=2.5 / 60)).speech) == 2
    unknown = Utterance("x", turns=(Turn("user", None, tmp_path / "a-n.wav"),), source="recorded")
    with pytest.raises(DataError, match="1 recording without duration_s, first 'x'"):
        budget.draw([unknown], minutes=1)


def test_budgets_are_balanced_over_ambiguous_requests_and_rows_of_frames_keep_their_order():
    from lalm.records import Clarification

    asked = Clarification("Which?", ((Turn("user", "a"), ("b",)),))
    rows = [Utterance(f"r{i}", text="a", clarification=asked if i % 2 else None) for i in range(12)]
    half = budget.draw(rows, items=6, seed=3)
    assert sum(row.clarification is not None for row in half) == 3
    plain = [Utterance(f"r{i}", text="a", frame=Frame("on" if i % 3 else "off")) for i in range(9)]
    assert sorted(row.frame.intent for row in budget.draw(plain, items=3)) == ["off", "on", "on"]


def test_recordings_of_turns_are_not_in_training_and_test(tmp_path):
    both = dialogue("a", tmp_path)
    other = dialogue("b", tmp_path, split="test")
    other["turns"][0]["audio"] = "a-n.wav"
    with pytest.raises(DataError, match="1 recording in training and in test") as error:
        load_pools(data(tmp_path, both, other))
    assert error.value.problems == (str(tmp_path / "a-n.wav"),)


def test_every_recording_of_a_dialogue_is_decoded_before_a_model_is_loaded(tmp_path):
    reply = {"text": "The first.", "audio": "c-u.wav", "answers": ["c"]}
    clarification = {"question": "Which?", "replies": [reply]}
    rows = [dialogue("a", tmp_path), dialogue("b", tmp_path, split="test", clarification=clarification)]
    dialogue("c", tmp_path)
    pools = load_pools(data(tmp_path, *rows))
    check_recordings(pools)
    for name in ("a-u.wav", "b-n.wav", "c-u.wav"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:3000])
    with pytest.raises(DataError, match="3 of 5 recordings cannot be used"):
        check_recordings(pools)


def test_rows_that_say_nothing_of_what_is_right_are_refused(tmp_path):
    row = {"id": "a", "turns": [{"role": "user", "text": "Who is it?"}]}
    with pytest.raises(DataError, match="none of the 1 training rows has an 'intent', 'slots' or 'answers'"):
        load_pools(data(tmp_path, row))


def test_every_recording_of_a_dialogue_is_copied_with_its_own_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("LALM_HOME", str(tmp_path / "home"))
    section = data(tmp_path, dialogue("a", tmp_path), augment={"copies": 2, "rate_probability": 1.0})
    pools = load_pools(section)
    made = copies(section, pools)["speech"]
    assert num_copies(section, pools) == len(made) == 2
    assert [row.id for row in made] == ["a.copy1", "a.copy2"]
    files = [path for row in made for path in row.recordings]
    assert len(set(files)) == 4
    for row in made:
        assert [turn.text for turn in row.turns] == ["This is a.", "Who is it?"]
        assert [turn.duration_s for turn in row.turns] == [
            round(audio.info(path).duration_s, 3) for path in row.recordings
        ]


def test_what_a_run_was_trained_on_is_named_by_its_turns(tmp_path):
    before = data_hash(load_pools(data(tmp_path, dialogue("a", tmp_path))))
    assert data_hash(load_pools(data(tmp_path, dialogue("a", tmp_path)))) == before
    changed = dialogue("a", tmp_path)
    changed["turns"][1]["text"] = "Who was it?"
    assert data_hash(load_pools(data(tmp_path, changed))) != before
    assert data_hash(load_pools(data(tmp_path, dialogue("a", tmp_path, seconds=0.6)))) != before
