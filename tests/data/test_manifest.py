"""Manifests come back as they were written, and every kind of bad row is named with line, field, value and remedy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lalm.data import audio
from lalm.data.manifest import read_manifest, row_to_json, write_manifest
from lalm.errors import DataError
from lalm.records import UNKNOWN_FIELDS, Frame, Slot, Utterance

words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
names = st.text("abcdefgh0123-_ äß", min_size=1, max_size=8).filter(lambda name: name.strip() == name)
frames = st.builds(
    Frame, st.none() | words, st.lists(st.builds(Slot, words, words), max_size=3).map(lambda slots: tuple(slots))
)


@st.composite
def utterances(draw):
    text = draw(st.none() | words)
    audio = draw(names.map(lambda name: f"audio/{name}.wav") if text is None else st.none() | names)
    return Utterance(
        id="",
        text=text,
        audio=audio,  # a name here; made a path in the folder of the test
        frame=draw(frames),
        language=draw(st.sampled_from(["en", "fr"])),
        speaker=draw(st.none() | words),
        duration_s=draw(st.none() | st.floats(0.01, 1e5)),
        split=draw(st.sampled_from([None, "train", "dev", "test"])),
        source="text" if audio is None else draw(st.sampled_from(["recorded", "synthetic"])),
        meta=draw(st.dictionaries(words, st.integers() | words, max_size=2)),
    )


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(utterances(), max_size=5))
def test_rows_come_back_as_they_were_written(tmp_path_factory, rows):
    from dataclasses import replace

    folder = tmp_path_factory.mktemp("manifest")
    rows = [replace(row, id=f"r{i}", audio=folder / row.audio if row.audio else None) for i, row in enumerate(rows)]
    assert write_manifest(folder / "m.jsonl", rows) == len(rows)
    assert read_manifest(folder / "m.jsonl") == rows


def test_fields_that_are_not_known_are_kept(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"id": "a", "text": "hello", "mood": "calm", "tags": ["me"]}\n', encoding="utf-8")
    rows = read_manifest(path)
    assert rows[0].meta[UNKNOWN_FIELDS] == {"mood": "calm", "tags": ["me"]}
    write_manifest(path, rows)
    assert json.loads(path.read_text(encoding="utf-8"))["tags"] == ["me"]


def test_a_byte_order_mark_and_windows_line_ends_are_fine(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"id": "a", "text": "caf\xc3\xa9"}\r\n\r\n{"id": "b", "text": "tea"}\r\n')
    assert [row.text for row in read_manifest(path)] == ["café", "tea"]


GOOD = {"id": "x", "text": "hello"}
BAD_ROWS = {  # a line of the file -> what its error must say
    "no JSON": ("{nothing}", "is not one JSON object"),
    "cut line": ('{"id": "x", "text": "hel', "is not one JSON object"),
    "list": ("[1]", "is a list, an object is needed"),
    "null": ("null", "is null, an object is needed"),
    "number": ("3", "is a number, an object is needed"),
    "no id": ({"text": "hello"}, "field 'id' is null, a non-empty string"),
    "id of another type": ({**GOOD, "id": 7}, "field 'id' is 7, a non-empty string"),
    "empty id": ({**GOOD, "id": ""}, "field 'id' is \"\""),
    "neither text nor audio": ({"id": "x"}, "has neither 'text' nor 'audio'"),
    "text of another type": ({**GOOD, "text": ["a"]}, "field 'text' is [\"a\"], a string is needed"),
    "intent of another type": ({**GOOD, "intent": 3}, "field 'intent' is 3, a string is needed"),
    "slots of another type": ({**GOOD, "slots": {"room": "hall"}}, 'field \'slots\' is {"room": "hall"}, a list'),
    "slot without value": ({**GOOD, "slots": [{"type": "room"}]}, 'field \'slots[0]\' is {"type": "room"}'),
    "slot value of another type": ({**GOOD, "slots": [{"type": "n", "value": 2}]}, "field 'slots[0]'"),
    "unknown split": ({**GOOD, "split": "valid"}, "field 'split' is \"valid\"; allowed: train, dev, test"),
    "unknown source": ({**GOOD, "source": "web"}, "field 'source' is \"web\"; allowed: recorded, synthetic, text"),
    "duration zero": ({**GOOD, "duration_s": 0}, "field 'duration_s' is 0, a number of seconds above 0"),
    "duration true": ({**GOOD, "duration_s": True}, "field 'duration_s' is true"),
    "duration NaN": ('{"id": "x", "text": "a", "duration_s": NaN}', "field 'duration_s' is NaN"),
    "duration infinite": ('{"id": "x", "text": "a", "duration_s": Infinity}', "field 'duration_s' is Infinity"),
    "meta of another type": ({**GOOD, "meta": []}, "field 'meta' is [], an object is needed"),
    "path up": ({"id": "x", "audio": "../x.wav"}, "leaves the data folder"),
    "absolute path": ({"id": "x", "audio": "/etc/x.wav"}, "leaves the data folder"),
    "zero byte": ({"id": "x", "audio": "a\0.wav"}, "holds a zero byte"),
    "half a character": ('{"id": "x", "text": "\\ud83d"}', "holds half a character"),
}


@pytest.mark.parametrize("kind", BAD_ROWS)
def test_a_bad_row_is_named_with_line_and_reason(tmp_path, kind):
    line, reason = BAD_ROWS[kind]
    path = tmp_path / "m.jsonl"
    lines = [json.dumps({"id": "first", "text": "a"}), line if isinstance(line, str) else json.dumps(line)]
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(DataError, match="1 problem") as error:
        read_manifest(path)
    assert error.value.problems[0].startswith(f"{path}, line 2: ")
    assert reason in error.value.problems[0]


def test_all_bad_rows_are_listed_and_the_message_stays_short(tmp_path):
    path = tmp_path / "m.jsonl"
    lines = [json.dumps({"id": f"r{i}", "text": "a", "intent": i}) for i in range(50)]
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(DataError) as error:
        read_manifest(path)
    assert len(error.value.problems) == 50
    assert [f"line {i + 1}:" in problem for i, problem in enumerate(error.value.problems)] == [True] * 50
    assert "and 30 more" in str(error.value)


def test_several_faults_of_one_row_and_doubled_ids_are_all_named(tmp_path):
    path = tmp_path / "m.jsonl"
    rows = [{"id": "a", "text": "x"}, {"id": "b", "text": 1, "split": "x"}, {"id": "a", "text": "y"}]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.raises(DataError) as error:
        read_manifest(path)
    listed = "\n".join(error.value.problems)
    for part in ("line 2: field 'text'", "line 2: field 'split'", "line 3: id 'a' stands on line 1 already"):
        assert part in listed


def test_paths_outside_are_read_where_that_is_allowed(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"id": "a", "audio": "../a.wav"}', encoding="utf-8")
    assert read_manifest(path, allow_outside=True)[0].audio == tmp_path / ".." / "a.wav"


def test_a_manifest_that_is_not_there_is_named(tmp_path):
    for path in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            read_manifest(path)


def test_what_holds_unknown_fields_is_no_way_around_the_checks(tmp_path):
    row = {"id": "a", "text": "hi", "intent": "i", "meta": {UNKNOWN_FIELDS: {"audio": "/etc/passwd"}}}
    (tmp_path / "m.jsonl").write_text(json.dumps(row), encoding="utf-8")
    with pytest.raises(DataError, match="which is where unknown fields are kept"):
        read_manifest(tmp_path / "m.jsonl")
    for extra in (5, {"audio": "/etc/passwd", "id": "evil"}):
        (tmp_path / "m.jsonl").write_text(json.dumps({**row, "meta": {"extra": extra}}), encoding="utf-8")
        (found,) = read_manifest(tmp_path / "m.jsonl")
        assert row_to_json(found, tmp_path)["meta"] == {"extra": extra}
        assert (row_to_json(found, tmp_path)["id"], row_to_json(found, tmp_path)["audio"]) == ("a", None)


def test_names_that_no_file_can_have_are_problems_of_their_rows(tmp_path):
    long = "x" * 300 + ".wav"
    assert not audio.is_file(tmp_path / long)
    with pytest.raises(DataError, match="no such file"):
        audio.info(tmp_path / long)
    with pytest.raises(DataError, match=r"nu\\udce9: its name is not UTF-8"):
        audio.info(Path("nu\udce9"))
