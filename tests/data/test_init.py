"""`lalm init` on the files that people have: what is understood is said, what cannot be matched is said too."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile

from lalm.config import load_recipe
from lalm.data.init import init_project
from lalm.data.pools import load_pools
from lalm.errors import DataError, UserError

SENTENCES = [("on", "kitchen"), ("off", "hall"), ("on", "attic"), ("off", "kitchen"), ("on", "hall"), ("off", "attic")]


def noise(path, seconds=0.5):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(int(16_000 * seconds)), 16_000)


def labels(folder, header="id,sentence,intent,room", name="labels.csv", ids=True):
    rows = [
        f"{'u' + str(i) if ids else ''},turn {way} the light in the {room},light_{way},{room}"
        for i, (way, room) in enumerate(SENTENCES)
    ]
    (folder / name).write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return folder / name


def manifest(out):
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]


def pools(out):
    """What training would see: the written recipe is read as `lalm train` reads it."""
    return load_pools(load_recipe(out / "recipe.yaml").data)


def test_sentences_alone_become_a_text_only_recipe(tmp_path):
    said = init_project(labels(tmp_path), None, tmp_path / "out")
    for part in (
        "6 sentences, 2 intents, 1 slot type",
        "column 'sentence'",
        "slot type 'room': column 'room' (its values",
    ):
        assert part in said
    assert "trains on text alone" in said
    recipe = load_recipe(tmp_path / "out" / "recipe.yaml")
    assert recipe.scheme.name == "text_only"
    assert recipe.evaluate.metrics == ("intent_accuracy", "entity_f1", "slu_f1", "exact_match")
    loaded = pools(tmp_path / "out")
    assert [row.text for row in loaded.text] == [f"turn {way} the light in the {room}" for way, room in SENTENCES]
    assert [(s.type, s.value) for s in loaded.text[0].frame.slots] == [("room", "kitchen")]
    assert not loaded.speech


def test_recordings_are_found_by_the_id_that_they_are_called(tmp_path):
    for name in ("u0", "u1", "u2", "u3", "other"):
        noise(tmp_path / "rec" / f"{name}.wav")
    said = init_project(labels(tmp_path), tmp_path / "rec", tmp_path / "out")
    assert "4 recordings by name: the id of the sentence (column 'id')" in said
    assert f"1 recording without a label, left out: {tmp_path / 'rec' / 'other.wav'}" in said
    loaded = pools(tmp_path / "out")
    assert (len(loaded.speech), len(loaded.test), len(loaded.text)) == (2, 2, 4)
    assert not {row.text for row in loaded.test} & {row.text for row in loaded.text}
    assert load_recipe(tmp_path / "out" / "recipe.yaml").scheme.name == "curriculum"


def test_recordings_are_found_by_a_column_and_speakers_are_kept_apart(tmp_path):
    lines = ["text,label,wav,spk"]
    for i, (way, room) in enumerate(SENTENCES * 2):
        speaker = f"s{i % 4}"
        noise(tmp_path / "rec" / speaker / f"{i}.wav", 1.0)
        lines.append(f"turn {way} the light in the {room},light_{way},{speaker}/{i}.wav,{speaker}")
    (tmp_path / "labels.tsv").write_text("\n".join(lines).replace(",", "\t"), encoding="utf-8")
    said = init_project(tmp_path / "labels.tsv", tmp_path / "rec", tmp_path / "out")
    assert "columns separated by a tab" in said
    assert "12 recordings by 4 speakers, 12 s" in said
    assert "No speaker is in both." in said
    loaded = pools(tmp_path / "out")
    assert len(loaded.speech) == len(loaded.test) == 6
    assert len({row.speaker for row in loaded.speech}) == len({row.speaker for row in loaded.test}) == 2
    assert {row.speaker for row in loaded.speech} | {row.speaker for row in loaded.test} == {"s0", "s1", "s2", "s3"}


def test_a_file_that_lists_recordings_labels_them_by_their_sentence(tmp_path):
    for name in ("a", "b", "c", "d"):
        noise(tmp_path / "rec" / f"{name}.flac")
    listing = [
        {"file": "a.flac", "who": "ann", "text": "Turn on the light in the kitchen."},
        {"file": "b.flac", "who": "ann", "text": "turn OFF the light, in the hall"},
        {"file": "c.flac", "who": "bea", "text": "turn on the light in the attic"},
        {"file": "d.flac", "who": "bea", "text": "open the window"},
        {"file": "e.flac", "who": "bea", "text": "turn on the light in the attic"},
    ]
    rows = "\n".join(json.dumps({**row, "speaker": row.pop("who")}) for row in listing)
    (tmp_path / "rec" / "recordings.jsonl").write_text(rows, encoding="utf-8")
    said = init_project(labels(tmp_path), tmp_path / "rec", tmp_path / "out")
    assert "recordings.jsonl: 3 recordings (column 'file') with the labels of their sentences" in said
    assert "1 row with a sentence that has no label" in said
    assert "open the window" in said
    assert "1 row with a recording that is not there" in said
    by_id = {row["id"]: row for row in manifest(tmp_path / "out")}
    assert by_id["a"]["intent"] == "light_on"
    assert by_id["a"]["text"] == "turn on the light in the kitchen"  # as the labelled sentence is spelled
    assert by_id["b"]["slots"] == [{"type": "room", "value": "hall"}]
    assert {by_id["a"]["split"], by_id["c"]["split"]} == {"train", "test"}
    assert "d" not in by_id
    assert len(pools(tmp_path / "out").text) == 6


def test_what_a_sentence_file_calls_its_columns_is_guessed_from_what_stands_in_them(tmp_path):
    lines = ["nr;was man sagt;was es heisst;anmerkung"]
    lines += [
        f"{i};turn {way} the {room} light;{'AN' if way == 'on' else 'AUS'};note {i}"
        for i, (way, room) in enumerate(SENTENCES)
    ]
    (tmp_path / "l.csv").write_text("\n".join(lines), encoding="utf-8")
    said = init_project(tmp_path / "l.csv", None, tmp_path / "out")
    assert "columns separated by a semicolon" in said
    assert "sentences: column 'was man sagt' (its values have the most words)" in said
    assert "intents: column 'was es heisst' (few values that come back in many rows)" in said
    assert "kept in meta, not used: nr, anmerkung" in said
    assert [row["intent"] for row in manifest(tmp_path / "out")][:2] == ["AN", "AUS"]
    assert manifest(tmp_path / "out")[0]["meta"] == {"nr": "0", "anmerkung": "note 0"}


def test_recordings_without_any_text_become_a_speech_only_recipe(tmp_path):
    lines = ["file,intent"]
    for i in range(4):
        noise(tmp_path / f"{i}.wav")
        lines.append(f"{i}.wav,say")
    (tmp_path / "l.csv").write_text("\n".join(lines), encoding="utf-8")
    init_project(tmp_path / "l.csv", None, tmp_path / "out")
    assert load_recipe(tmp_path / "out" / "recipe.yaml").scheme.name == "speech_only"
    assert len(pools(tmp_path / "out").speech) == 2


def test_json_lines_with_slots_in_any_layout_are_read(tmp_path):
    rows = [
        {
            "id": 1,
            "utterance": "play jazz in the hall",
            "intent": "play",
            "entities": [{"genre": "jazz"}, {"room": "hall"}],
        },
        {"id": 2, "utterance": "stop it now", "intent": "stop", "entities": {}},
    ]
    (tmp_path / "l.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    init_project(tmp_path / "l.jsonl", None, tmp_path / "out")
    assert manifest(tmp_path / "out")[0]["slots"] == [
        {"type": "genre", "value": "jazz"},
        {"type": "room", "value": "hall"},
    ]
    assert [row["id"] for row in manifest(tmp_path / "out")] == ["1", "2"]


def test_audio_below_the_project_is_named_relatively_and_audio_elsewhere_is_allowed_with_a_reason(tmp_path):
    for name in ("u0", "u1"):
        noise(tmp_path / "rec" / f"{name}.wav")
    init_project(labels(tmp_path), tmp_path / "rec", tmp_path)
    assert {row["audio"] for row in manifest(tmp_path)} == {None, "rec/u0.wav", "rec/u1.wav"}
    assert "allow_outside_paths" not in (tmp_path / "recipe.yaml").read_text(encoding="utf-8")
    said = init_project(labels(tmp_path), tmp_path / "rec", tmp_path / "deep" / "out")
    assert "Recordings lie outside that folder" in said
    assert {row["audio"] for row in manifest(tmp_path / "deep" / "out")} >= {"../../rec/u0.wav"}
    assert load_recipe(tmp_path / "deep" / "out" / "recipe.yaml").data.allow_outside_paths
    assert len(pools(tmp_path / "deep" / "out").speech) == len(pools(tmp_path).speech) == 1


def test_a_recording_in_another_folder_is_not_taken_for_the_one_that_is_named(tmp_path):
    noise(tmp_path / "rec" / "b" / "001.wav")
    noise(tmp_path / "rec" / "moved" / "a" / "002.wav")
    lines = [
        "text,intent,audio",
        "one,count,a/001.wav",
        "two,count,a/002.wav",
        "three,count,/data/rec/moved/a/002.wav",
        "four,count,c/a/002.wav",
    ]
    (tmp_path / "labels.csv").write_text("\n".join(lines[:3]), encoding="utf-8")
    init_project(tmp_path / "labels.csv", tmp_path / "rec", tmp_path)
    assert [row["audio"] for row in manifest(tmp_path)] == [None, "rec/moved/a/002.wav"]
    (tmp_path / "old.csv").write_text("\n".join([lines[0], lines[3]]), encoding="utf-8")
    init_project(tmp_path / "old.csv", tmp_path / "rec", tmp_path / "old")
    assert [row["audio"] for row in manifest(tmp_path / "old")] == ["../rec/moved/a/002.wav"], (
        "a path of another machine"
    )
    (tmp_path / "other.csv").write_text("\n".join([lines[0], lines[1], lines[4]]), encoding="utf-8")
    with pytest.raises(DataError, match=r"line 3: c/a/002\.wav"):  # an inner folder alone is not enough
        init_project(tmp_path / "other.csv", tmp_path / "rec", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_folder_within_one_of_its_own_name(tmp_path):
    noise(tmp_path / "clips" / "clips" / "u0.wav")
    init_project(labels(tmp_path), tmp_path / "clips" / "clips", tmp_path / "clips")
    (audio,) = {row["audio"] for row in manifest(tmp_path / "clips")} - {None}
    assert (tmp_path / "clips" / audio).is_file()


def test_a_column_of_languages_is_checked_where_it_stands(tmp_path):
    (tmp_path / "labels.csv").write_text(
        "text,intent,language\nhello,greet,english\nsalut,greet,fr-FR\n", encoding="utf-8"
    )
    with pytest.raises(DataError, match=r"column 'language': 'english' is no known language\. Did you mean 'en'"):
        init_project(tmp_path / "labels.csv", None, tmp_path / "out")
    (tmp_path / "labels.csv").write_text("text,intent,language,extra\nsalut,greet,fr-FR,more\n", encoding="utf-8")
    init_project(tmp_path / "labels.csv", None, tmp_path / "out")
    (row,) = manifest(tmp_path / "out")
    assert (row["language"], row["meta"]) == ("fr", {"extra": "more"}), "a column of any name is kept"


def test_a_split_column_is_kept(tmp_path):
    lines = ["text,intent,audio,split"]
    for i, split in enumerate(["train", "train", "valid", "test"]):
        noise(tmp_path / f"{i}.wav")
        lines.append(f"say {i % 2} twice,say,{i}.wav,{split}")
    (tmp_path / "l.csv").write_text("\n".join(lines), encoding="utf-8")
    said = init_project(tmp_path / "l.csv", None, tmp_path / "out")
    assert "Pool for training: 2 recordings, 1 s." in said
    assert "Development set: 1 recording, " in said
    assert "1 of the 1 test recordings say a sentence that is also training text." in said
    assert [row["split"] for row in manifest(tmp_path / "out")] == ["train", "train", "dev", "test"]


def test_one_speaker_alone_can_be_trained_on_and_the_limit_is_said(tmp_path):
    lines = ["text,intent,audio,speaker"]
    for i in range(6):
        noise(tmp_path / f"{i}.wav")
        lines.append(f"say number {i},say,{i}.wav,ann")
    (tmp_path / "l.csv").write_text("\n".join(lines), encoding="utf-8")
    said = init_project(tmp_path / "l.csv", tmp_path, tmp_path / "out")
    assert "Only one speaker is named ('ann')" in said
    loaded = pools(tmp_path / "out")
    assert len(loaded.speech) == len(loaded.test) == 3
    assert {row.meta["speaker"] for row in loaded.test} == {"ann"}


def test_the_split_is_the_same_every_time_and_balanced(tmp_path):
    lines = ["text,intent,audio"]
    for i in range(20):
        noise(tmp_path / f"{i}.wav", 0.1)
        lines.append(f"say number {i},{'rare' if i % 5 == 0 else 'often'},{i}.wav")
    (tmp_path / "l.csv").write_text("\n".join(lines), encoding="utf-8")
    for out in ("one", "two"):
        init_project(tmp_path / "l.csv", tmp_path, tmp_path / out)
    assert manifest(tmp_path / "one") == manifest(tmp_path / "two")
    test = [row for row in manifest(tmp_path / "one") if row["split"] == "test"]
    assert len(test) == 10
    assert sum(row["intent"] == "rare" for row in test) == 2


def test_recordings_that_cannot_be_read_or_are_in_other_formats_are_said(tmp_path):
    for name in ("u0", "u1"):
        noise(tmp_path / "rec" / f"{name}.wav")
    (tmp_path / "rec" / "u2.wav").write_text("no sound", encoding="utf-8")
    (tmp_path / "rec" / "u3.m4a").write_bytes(b"x")
    said = init_project(labels(tmp_path), tmp_path / "rec", tmp_path / "out")
    assert "1 recording that cannot be read, left out:" in said
    assert "u2.wav: is not audio" in said
    assert "1 file in formats that are not read" in said
    assert "u2" in {row["id"] for row in manifest(tmp_path / "out") if row["text"] and not row["audio"]}


def refused(text, audio, out):
    with pytest.raises(UserError) as error:
        init_project(text, audio, out)
    assert not (out / "manifest.jsonl").exists() or "not overwritten" in str(error.value)
    assert not (out / "recipe.yaml").exists() or "not overwritten" in str(error.value)
    return str(error.value)


def test_nothing_is_overwritten(tmp_path):
    for name in ("manifest.jsonl", "recipe.yaml"):
        out = tmp_path / name.split(".")[0]
        out.mkdir()
        (out / name).write_text("mine", encoding="utf-8")
        assert f"{out / name} exists already and is not overwritten" in refused(labels(tmp_path), None, out)
        assert (out / name).read_text(encoding="utf-8") == "mine"
        assert [path.name for path in out.iterdir()] == [name]


def test_files_that_say_too_little_are_refused_with_what_is_missing(tmp_path):
    out = tmp_path / "out"

    def said(content, name="l.csv"):
        (tmp_path / name).write_text(content, encoding="utf-8")
        return refused(tmp_path / name, None, out)

    assert "holds no rows" in said("text,intent\n")
    assert "no column looks like sentences. Call it 'text'. Columns: x, y" in said("x,y\n1,2\n")
    assert "no column looks like labels. Call the column of intents 'intent'" in said(
        "text,x\nsay it now,1\nno it is,2\n"
    )
    assert "not one of the 2 rows has an intent or slots" in said("text,intent\nsay it now,\nno it is,\n")
    assert "'.xlsx' files are not read. Allowed: .csv, .tsv" in said("x", "l.xlsx")
    assert "line 2: is not one JSON object" in said('{"text": "a b", "intent": "c"}\n{oops\n', "l.jsonl")
    assert "line 1: column 'intent': is 3, a string is needed" in said('{"text": "a b", "intent": 3}\n', "l.jsonl")
    assert "line 3: column 'id': 'a' stands on line 2 already" in said("id,text,intent\na,b c,d\na,e f,g\n")
    assert "line 2: column 'split': is 'later'" in said("text,intent,split\na b,c,later\n")
    assert "line 2: column 'slots': is \"x=y\", which is not JSON" in said("text,intent,slots\na b,c,x=y\n")
    assert "cannot be read" in refused(tmp_path / "none.csv", None, out)
    assert "there is no such folder" in refused(labels(tmp_path), tmp_path / "nowhere", out)


def test_recordings_of_which_none_can_be_matched_are_an_error_that_says_what_was_tried(tmp_path):
    noise(tmp_path / "rec" / "x.wav")
    error = refused(labels(tmp_path), tmp_path / "rec", tmp_path / "out")
    assert "none of its 1 recordings can be used" in error
    assert "x.wav: no row names it" in error


def test_one_recording_with_two_labels_is_refused(tmp_path):
    noise(tmp_path / "a.wav")
    (tmp_path / "l.csv").write_text("text,intent,audio\nsay it,x,a.wav\nsay that,y,a.wav\n", encoding="utf-8")
    with pytest.raises(DataError, match="1 row with a recording that another row has") as error:
        init_project(tmp_path / "l.csv", tmp_path, tmp_path / "out")
    assert f"l.csv, line 3: {tmp_path / 'a.wav'} stands on line 2 already" in str(error.value)


def test_a_recording_that_its_list_labels_otherwise_is_refused(tmp_path):
    noise(tmp_path / "rec" / "a.wav")
    (tmp_path / "l.csv").write_text("text,intent,audio\nsay it,x,a.wav\n", encoding="utf-8")
    (tmp_path / "rec" / "list.csv").write_text("file,intent\na.wav,y\n", encoding="utf-8")
    with pytest.raises(DataError, match="1 row with a recording that another row has") as error:
        init_project(tmp_path / "l.csv", tmp_path / "rec", tmp_path / "out")
    assert "has another label on line 2 of its file" in str(error.value)


def test_a_speaker_whom_a_split_column_puts_on_both_sides_is_named(tmp_path):
    lines = ["text,intent,audio,speaker,split"]
    for i, (speaker, split) in enumerate([("ann", "train"), ("ann", "test"), ("bea", "train")]):
        noise(tmp_path / f"{i}.wav")
        lines.append(f"say number {i},say,{i}.wav,{speaker},{split}")
    (tmp_path / "l.csv").write_text("\n".join(lines), encoding="utf-8")
    assert "speaker 'ann'" in refused(tmp_path / "l.csv", tmp_path, tmp_path / "out")


def test_sentences_that_are_tested_in_writing_are_counted(tmp_path):
    (tmp_path / "labels.csv").write_text("text,intent,split\nhello,greet,train\nbye,part,test\n", encoding="utf-8")
    said = init_project(tmp_path / "labels.csv", None, tmp_path / "out")
    assert "No recordings: the recipe trains on text alone, and the test set is 1 sentence in writing." in said
