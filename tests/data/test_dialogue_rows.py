"""Rows of questions and dialogues: read, written, checked; every malformed row is named with line, field and value."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lalm.cli import main
from lalm.data.dialogue import heard_s, in_writing
from lalm.data.manifest import read_manifest, write_manifest
from lalm.data.recordings import with_durations
from lalm.data.validate import validate
from lalm.errors import DataError
from lalm.records import Clarification, Turn, Utterance

GOOD = {
    "id": "d",
    "turns": [
        {"role": "narrator", "text": "Mia has two cats, Tom and Kit.", "audio": "n.wav", "duration_s": 0.5},
        {"role": "user", "text": "What is it called?", "audio": "u.wav"},
    ],
    "context": "Cats.",
    "answers": ["Tom"],
    "clarification": {
        "question": "Which cat do you mean?",
        "replies": [{"text": "The black one.", "audio": "r.wav", "answers": ["Tom"]}, {"text": "Both.", "answers": ["Tom and Kit"]}],
    },
}  # fmt: skip


def sounds(folder: Path, *names: str, seconds: float = 0.5) -> None:
    for number, name in enumerate(names):
        noise = 0.1 * np.random.default_rng(number).standard_normal(int(16_000 * seconds))
        soundfile.write(folder / name, noise, 16_000)


def write(folder: Path, *rows: object) -> Path:
    (folder / "m.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return folder / "m.jsonl"


def test_a_dialogue_comes_back_as_it_was_written(tmp_path):
    (row,) = read_manifest(write(tmp_path, GOOD))
    assert row.turns[0] == Turn("narrator", "Mia has two cats, Tom and Kit.", tmp_path / "n.wav", 0.5)
    assert row.recordings == (tmp_path / "n.wav", tmp_path / "u.wav")
    assert row.clarification == Clarification(
        "Which cat do you mean?",
        (
            (Turn("user", "The black one.", tmp_path / "r.wav"), ("Tom",)),
            (Turn("user", "Both."), ("Tom and Kit",)),
        ),
    )
    assert (row.source, row.context, row.answers, row.meta) == ("recorded", "Cats.", ("Tom",), {})
    write_manifest(tmp_path / "again.jsonl", [row])
    assert read_manifest(tmp_path / "again.jsonl") == [row]
    assert str(tmp_path) not in (tmp_path / "again.jsonl").read_text(encoding="utf-8"), "paths are relative"


def test_a_question_may_stand_beside_one_recording(tmp_path):
    (row,) = read_manifest(write(tmp_path, {"id": "a", "audio": "a.wav", "question": "Who?", "answers": ["Mia"]}))
    assert (row.audio, row.question, row.answers, row.meta) == (tmp_path / "a.wav", "Who?", ("Mia",), {})


NARRATED = {"id": "d", "turns": GOOD["turns"][:1]}
BAD = {
    "turns of another type": ({"turns": "hello"}, "field 'turns' is \"hello\", a list of at least one turn"),
    "no turns": ({"turns": []}, "field 'turns' is [], a list of at least one turn"),
    "turn of another type": ({"turns": ["hello"]}, "field 'turns[0]' is \"hello\", an object with"),
    "nothing said": ({"turns": [{"role": "user"}]}, "field 'turns[0]' has neither 'text' nor 'audio'"),
    "unknown role": ({"turns": [{"role": "system", "text": "a"}]}, "field 'turns[0].role' is \"system\"; allowed: narrator"),
    "no role": ({"turns": [{"text": "a"}]}, "field 'turns[0].role' is null; allowed"),
    "text of another type": ({"turns": [{"role": "user", "text": 3, "audio": "a.wav"}]}, "field 'turns[0].text' is 3, a string"),
    "unknown field": ({"turns": [{"role": "user", "text": "a", "content": "b"}]}, "field 'turns[0].content' is not known."),
    "length below zero": ({"turns": [{"role": "user", "text": "a", "duration_s": -1}]}, "field 'turns[0].duration_s' is -1"),
    "a path up": ({"turns": [{"role": "user", "audio": "../a.wav"}]}, "field 'turns[0].audio': '../a.wav' leaves"),
    "text beside turns": ({"text": "hello"}, "field 'text' is \"hello\", and a row with 'turns' has none"),
    "audio beside turns": ({"audio": "a.wav"}, "field 'audio' is \"a.wav\", and a row with 'turns' has none"),
    "answers of another type": ({"answers": "Tom"}, "field 'answers' is \"Tom\", a list of strings is needed"),
    "answers that are no strings": ({"answers": ["Tom", 3]}, "field 'answers[1]' is 3, a non-empty string"),
    "an empty answer": ({"answers": [" "]}, "field 'answers[0]' is \" \", a non-empty string"),
    "question of another type": ({"question": ["Who?"]}, "field 'question' is [\"Who?\"], a string is needed"),
    "nothing asked": ({**NARRATED, "clarification": None}, "ends with a turn of the narrator and there is no 'question'"),
    "clarification in words": ({"clarification": "Which?"}, "field 'clarification' is \"Which?\", an object with"),
    "nothing asked back": ({"clarification": {**GOOD["clarification"], "question": ""}}, "field 'clarification.question' is \"\""),
    "no replies": ({"clarification": {"question": "Which?"}}, "field 'clarification.replies' is null, a list of at least one"),
    "reply without answers": ({"clarification": {"question": "Which?", "replies": [{"text": "a"}]}}, "field 'clarification.replies[0].answers' is missing"),
    "reply of another type": ({"clarification": {"question": "Which?", "replies": ["a"]}}, "field 'clarification.replies[0]' is \"a\""),
    "reply with its own clarification": ({"clarification": {"question": "Which?", "replies": [{"text": "a", "answers": ["b"], "clarification": {}}]}}, "field 'clarification.replies[0].clarification' is not known"),
    "a dialogue that is none": ({"turns": None, "text": "hello"}, "field 'clarification' stands there without 'turns'"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_a_malformed_row_is_named_with_line_field_and_value(tmp_path, kind):
    change, reason = BAD[kind]
    path = write(tmp_path, {"id": "first", "text": "a"}, {**GOOD, **change})
    with pytest.raises(DataError, match="1 problem") as error:
        read_manifest(path)
    assert error.value.problems[0].startswith(f"{path}, line 2: field ")
    assert reason in error.value.problems[0]
    found = validate(path).problems["row"]  # and `lalm data validate` says the same
    assert [(one.line, one.row, reason in one.message) for one in found] == [(2, "d", True)]


def test_the_written_twin_has_the_same_words_and_no_sound(tmp_path):
    (row,) = read_manifest(write(tmp_path, GOOD))
    twin = in_writing(row)
    assert twin is not None
    assert (twin.recordings, twin.source, twin.id, twin.answers) == ((), "text", "d", ("Tom",))
    assert [turn.text for turn in twin.turns] == [turn.text for turn in row.turns]
    assert twin.clarification is not None
    assert all(turn.audio is None for turn, _ in twin.clarification.replies)
    assert in_writing(replace(row, turns=(*row.turns, Turn("user", None, tmp_path / "u.wav")))) is None


def test_lengths_come_from_the_files_and_missing_files_are_named(tmp_path):
    sounds(tmp_path, "n.wav", "u.wav", "r.wav")
    (row,) = with_durations(read_manifest(write(tmp_path, GOOD)), tmp_path)
    assert heard_s(row) == pytest.approx(1.0)
    assert row.clarification is not None
    assert row.clarification.replies[0][0].duration_s == 0.5
    for name in ("u.wav", "r.wav"):
        (tmp_path / name).unlink()
    with pytest.raises(DataError, match="2 recordings cannot be used") as error:
        with_durations([row], tmp_path)
    assert all(f"row 'd': {tmp_path}" in problem for problem in error.value.problems)
    assert heard_s(Utterance("t", turns=(Turn("user", "a"),))) == 0
    assert heard_s(Utterance("t", turns=(Turn("user", None, tmp_path / "a.wav"),))) is None


def test_validate_looks_at_every_recording_of_a_dialogue(tmp_path):
    sounds(tmp_path, "n.wav")
    (tmp_path / "u.wav").write_bytes(b"")
    other = {**GOOD, "id": "e", "split": "test", "turns": [*GOOD["turns"][:1], {"role": "user", "text": "And now?"}]}
    wrong = {"id": "f", "turns": [{"role": "user", "text": "Who?"}], "answers": ["nobody"]}
    found = validate(write(tmp_path, GOOD, other, wrong), decode=True)
    problems = [one for each in found.problems.values() for one in each]
    assert sorted((one.check, one.row, one.field) for one in problems) == [
        ("answer_unsaid", "f", "answers"),
        ("audio_in_both", "e", "audio"),
        ("audio_unreadable", "d", "turns[1].audio"),
    ]
    assert (found.splits["train"].recordings, found.splits["test"].recordings) == (2, 1)
    assert found.splits["train"].seconds == pytest.approx(0.5)


def test_a_dialogue_is_imported_with_its_recordings_and_not_exported_as_one_sentence(tmp_path, capsys):
    sounds(tmp_path, "n.wav", "u.wav", "r.wav")
    write(tmp_path, GOOD).rename(tmp_path / "train.jsonl")
    assert main(["data", "import", "jsonl", str(tmp_path), "--copy-audio", "--out", str(tmp_path / "in")]) == 0
    (row,) = read_manifest(tmp_path / "in" / "manifest.jsonl")
    assert [turn.duration_s for turn in row.turns] == [0.5, 0.5]
    assert all(path.is_file() and path.parent == tmp_path / "in" / "audio" for path in row.recordings)
    out = tmp_path / "out.jsonl"
    assert main(["data", "export", "messages_jsonl", str(tmp_path / "in" / "manifest.jsonl"), "--out", str(out)]) == 2
    assert "row 'd' has turns" in capsys.readouterr().err
    assert not out.exists()
