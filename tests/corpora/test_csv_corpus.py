"""The csv corpus: columns by name or by option, slots in every layout, and every fault named by line and column."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from lalm import plugins
from lalm.errors import ConfigError, DataError
from lalm.records import Slot

CSV = plugins.load("corpora", "csv")


def table(folder, content, name="labels.csv", recordings=()):
    for file in recordings:
        (folder / file).parent.mkdir(exist_ok=True)
        soundfile.write(folder / file, 0.1 * np.random.default_rng(0).standard_normal(4000), 16_000)
    (folder / name).write_text(content, encoding="utf-8")
    return folder / name


def rows(root, split="train", **options):
    return list(CSV.read(root, split, CSV.Config(**options)))


def problems(root, split="train", **options):
    with pytest.raises((DataError, ConfigError)) as error:
        rows(root, split, **options)
    return str(error.value)


def test_slots_stand_in_a_json_column_a_prefixed_column_or_a_chosen_one(tmp_path):
    content = (
        "text,intent,slots,slot:room,device,notes\n"
        '"on, please",on,"{""when"": ""now""}",hall,lamp,x\n'
        'off,off,"[{""type"": ""when"", ""value"": ""later""}]",,,\n'
    )
    first, second = rows(table(tmp_path, content), slot_columns=("device",))
    assert first.frame.slots == (Slot("when", "now"), Slot("room", "hall"), Slot("device", "lamp"))
    assert second.frame.slots == (Slot("when", "later"),)
    assert (first.text, first.frame.intent, dict(first.meta)) == ("on, please", "on", {"notes": "x"})
    assert first.id == "labels-2"


def test_a_cell_can_hold_several_values_of_a_type(tmp_path):
    path = table(tmp_path, "text,intent,slot:song\nplay a and b,play,a | b\n")
    assert rows(path, slot_separator="|")[0].frame.slots == (Slot("song", "a"), Slot("song", "b"))
    assert rows(path)[0].frame.slots == (Slot("song", "a | b"),)


def test_every_column_can_have_another_name(tmp_path):
    content = "nr;satz;datei;absicht;werte;sprache;wer;dauer;teil\n7;an;a.wav;on;{};de;eva;1.5;Validation\n"
    path = table(tmp_path, content, recordings=["rec/a.wav"])
    names = {"id": "nr", "text": "satz", "audio": "datei", "intent": "absicht", "slots": "werte"}
    names |= {"language": "sprache", "speaker": "wer", "duration_s": "dauer", "split": "teil"}
    options = {f"{use}_column": name for use, name in names.items()}
    (row,) = rows(path, "dev", delimiter=";", audio_folder="rec", **options)
    assert (row.id, row.text, row.language, row.speaker, row.duration_s, row.split) == (
        "7",
        "an",
        "de",
        "eva",
        1.5,
        "dev",
    )
    assert row.audio == tmp_path / "rec" / "a.wav"
    assert row.source == "recorded"


def test_a_folder_holds_a_file_for_each_split_or_one_for_all(tmp_path):
    table(tmp_path, "text,intent\na,x\n", "train.csv")
    table(tmp_path, "text\tintent\nb\ty\n", "test.tsv")
    assert [row.text for row in rows(tmp_path)] == ["a"]
    assert [(row.text, row.split) for row in rows(tmp_path, "test")] == [("b", "test")]
    assert rows(tmp_path, "dev") == []
    single = tmp_path / "single"
    single.mkdir()
    table(single, "text,intent,split\na,x,train\nb,x,test\nc,x,\n", "mine.csv")
    assert [row.text for row in rows(single)] == ["a", "c"]
    table(single, "text,intent\na,x\n", "other.csv")
    assert "holds several tables (mine.csv, other.csv)" in problems(single)


def test_lengths_come_from_the_files_where_no_column_gives_them(tmp_path):
    path = table(tmp_path, "audio,intent\na.wav,x\n", recordings=["a.wav"])
    assert rows(path)[0].duration_s == 0.25


@pytest.mark.parametrize(
    ("header", "options", "reason"),
    [
        ("text,label", {}, "data.corpus.intent_column: {path} has no column 'intent'. Allowed: label."),
        ("text,intnt", {}, "Did you mean 'intnt'?"),
        ("words,intent", {}, "neither a column of sentences nor one of recordings"),
        ("text,intent", {"speaker_column": "who"}, "data.corpus.speaker_column: {path} has no column 'who'"),
        (
            "text,intent,rooms",
            {"slot_columns": ("room",)},
            "data.corpus.slot_columns: {path} has no column 'room'. Did",
        ),
    ],
)
def test_columns_that_are_not_there_are_named_with_those_that_are(tmp_path, header, options, reason):
    path = table(tmp_path, f"{header}\n{','.join('x' * len(header.split(',')))}\n")
    assert reason.format(path=path) in problems(path, **options)


def test_rows_without_intents_are_read_where_that_is_said(tmp_path):
    path = table(tmp_path, "text,slot:room\nin the hall,hall\n")
    assert rows(path, intent_column=None)[0].frame.intent is None


def test_all_faults_of_all_rows_are_listed_by_line_and_column(tmp_path):
    content = (
        "id,text,audio,intent,slots,duration_s,split\n"
        "a,hello,,x,room=hall,,\n"
        "a,hello,,x,,,\n"
        ",,,x,,,\n"
        ",,../up.wav,x,,,\n"
        ",hello,,x,,minus,holdout\n"
        ",,gone.wav,x,,-1,\n"
    )
    path = table(tmp_path, content)
    found = problems(path)
    for part in (
        "line 2: column 'slots': is \"room=hall\", which is not JSON",
        "line 3: column 'id': 'a' stands on line 2 already",
        "line 4: has neither a sentence nor a recording",
        "line 5: column 'audio': '../up.wav' leaves the data folder",
        "line 6: column 'duration_s': is 'minus', a number of seconds above 0",
        "line 6: column 'split': is 'holdout'; allowed: dev, devel",
        "line 7: column 'duration_s': is '-1'",
    ):
        assert f"{path}, {part}" in found


def test_all_recordings_that_cannot_be_used_are_listed(tmp_path):
    path = table(tmp_path, "audio,intent\na.wav,x\nb.wav,x\nc.wav,x\n", recordings=["b.wav"])
    (tmp_path / "c.wav").write_text("no sound", encoding="utf-8")
    found = problems(path)
    assert "2 recordings cannot be used" in found
    assert f"row 'labels-2': {tmp_path / 'a.wav'}: there is no such file" in found
    assert f"row 'labels-4': {tmp_path / 'c.wav'}: is not audio" in found


def test_recordings_outside_are_read_where_that_is_allowed(tmp_path):
    inner = tmp_path / "in"
    inner.mkdir()
    path = table(inner, f"audio,intent\n{tmp_path}/a.wav,x\n")
    table(tmp_path, "x,y\n", recordings=["a.wav"])
    assert rows(path, allow_outside_paths=True)[0].audio == tmp_path / "a.wav"
