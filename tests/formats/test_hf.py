"""Hugging Face data sets, made by `datasets` itself and read without its decoder."""

from __future__ import annotations

import io
import json
import sys

import numpy as np
import pytest
import soundfile

from lalm.data.manifest import read_manifest
from lalm.records import Frame, Slot

datasets = pytest.importorskip("datasets", reason="needs lalm's extra hf")
pa = pytest.importorskip("pyarrow", reason="needs lalm's extra hf")
datasets.disable_progress_bars()


def dataset(rows, features):
    """Made of a table, since `datasets` itself needs torchcodec to take sound, be it encoded already."""
    return datasets.Dataset(pa.Table.from_pylist(rows, schema=features.arrow_schema))


def sound(seed=0, kind="WAV", rate=16_000):
    encoded = io.BytesIO()
    soundfile.write(encoded, 0.1 * np.random.default_rng(seed).standard_normal(1600), rate, format=kind)
    return encoded.getvalue()


def speech_massive(rows=3):
    """Rows as Speech-MASSIVE has them on the Hub."""
    features = datasets.Features(
        {
            "id": datasets.Value("string"),
            "locale": datasets.Value("string"),
            "scenario": datasets.ClassLabel(names=["alarm", "audio"]),
            "intent_str": datasets.Value("string"),
            "utt": datasets.Value("string"),
            "annot_utt": datasets.Value("string"),
            "labels": datasets.List(datasets.Value("string")),
            "audio": datasets.Audio(sampling_rate=16_000),
            "is_validated": datasets.Value("bool"),
            "speaker_id": datasets.Value("string"),
        }
    )
    made = [
        {
            "id": str(index),
            "locale": "fr-FR",
            "scenario": 0,
            "intent_str": "alarm_set",
            "utt": "réveille-moi à neuf heures",
            "annot_utt": "réveille-moi à [time : neuf heures]",
            "labels": ["Other", "Other", "time", "time"],
            "audio": {"bytes": sound(index), "path": f"test/{index}.wav"},
            "is_validated": True,
            "speaker_id": f"s{index}",
        }
        for index in range(rows)
    ]
    return dataset(made, features)


COLUMNS = ("text_column=utt", "intent_column=intent_str", "annotated_column=annot_utt")


def check_massive(found):
    for index, row in enumerate(found.values()):
        assert (row.text, row.language, row.speaker) == ("réveille-moi à neuf heures", "fr", f"s{index}")
        assert row.frame == Frame("alarm_set", (Slot("time", "neuf heures"),))
        assert row.meta["is_validated"] is True
        assert row.audio.read_bytes() == sound(index)


def test_a_folder_of_parquet_files(tmp_path, run, rows_of):
    (tmp_path / "fr-FR").mkdir()
    speech_massive().to_parquet(tmp_path / "fr-FR" / "validation-00000-of-00001.parquet")
    run("import", "hf", tmp_path / "fr-FR", *COLUMNS, "--out", tmp_path / "in")
    found = rows_of(tmp_path / "in")
    assert {row.split for row in found.values()} == {"dev"}
    check_massive(found)


def test_one_parquet_file(tmp_path, run, rows_of):
    speech_massive().to_parquet(tmp_path / "all.parquet")
    run("import", "hf", tmp_path / "all.parquet", *COLUMNS, "--out", tmp_path / "in")
    check_massive(rows_of(tmp_path / "in"))


def test_a_folder_of_save_to_disk(tmp_path, run, rows_of):
    both = datasets.DatasetDict({"train": speech_massive(), "test": speech_massive(1)})
    both.save_to_disk(tmp_path / "disk")
    speech_massive().save_to_disk(tmp_path / "one")
    run("import", "hf", tmp_path / "disk", *COLUMNS, "only=train", "--out", tmp_path / "in")
    check_massive(rows_of(tmp_path / "in"))
    run("import", "hf", tmp_path / "one", *COLUMNS, "--out", tmp_path / "alone")
    check_massive(rows_of(tmp_path / "alone"))


def test_classes_of_numbers_and_labels_held_back(tmp_path, run, rows_of):
    """MINDS-14's columns; -1 stands for a label that is not given."""
    features = datasets.Features(
        {
            "path": datasets.Value("string"),
            "audio": datasets.Audio(sampling_rate=8_000),
            "transcription": datasets.Value("string"),
            "intent_class": datasets.ClassLabel(names=["abroad", "address"]),
            "lang_id": datasets.ClassLabel(names=["cs-CZ", "de-DE"]),
        }
    )
    rows = [
        {
            "path": "a.wav",
            "audio": {"bytes": sound(0, rate=8000), "path": "a.wav"},
            "transcription": "ich bin umgezogen",
            "intent_class": 1,
            "lang_id": 1,
        },
        {
            "path": "b.wav",
            "audio": {"bytes": sound(1, "FLAC", 8000), "path": "b"},
            "transcription": "hallo",
            "intent_class": -1,
            "lang_id": 1,
        },
    ]
    dataset(rows, features).to_parquet(tmp_path / "train.parquet")
    options = ("intent_column=intent_class", "language_column=lang_id")
    run("import", "hf", tmp_path / "train.parquet", *options, "--out", tmp_path / "in")
    one, two = rows_of(tmp_path / "in").values()
    assert (one.frame.intent, one.language, one.text) == ("address", "de", "ich bin umgezogen")
    assert two.frame.intent is None
    assert two.audio.suffix == ".flac"


@pytest.mark.parametrize("kind", ["jsonl", "csv", "classes"])
def test_an_audio_folder_needs_no_datasets(kind, tmp_path, run, rows_of, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)  # as if it were not installed
    root = tmp_path / "folder"
    for split, name in (("train", "on/a.wav"), ("test", "off/b.wav")):
        path = root / split / name
        path.parent.mkdir(parents=True)
        path.write_bytes(sound())
        intent = name.split("/")[0]
        if kind == "jsonl":
            line = {
                "file_name": name,
                "transcription": f"lights {intent}",
                "intent": intent,
                "slots": [{"type": "what", "value": "lights"}],
            }
            (root / split / "metadata.jsonl").write_text(json.dumps(line) + "\n")
        if kind == "csv":
            text = f'file_name,transcription,intent\n{name},"lights {intent}",{intent}\n'
            (root / split / "metadata.csv").write_text(text)
    options = ["intent_column=label"] if kind == "classes" else []
    run("import", "hf", root, *options, "--copy-audio", "--out", tmp_path / "in")
    found = rows_of(tmp_path / "in")
    assert {(row.split, row.frame.intent) for row in found.values()} == {("train", "on"), ("test", "off")}
    if kind != "classes":
        assert {row.text for row in found.values()} == {"lights on", "lights off"}
    if kind == "jsonl":
        assert {row.frame.slots for row in found.values()} == {(Slot("what", "lights"),)}


def test_a_missing_package_is_named_with_what_installs_it(tmp_path, refused, monkeypatch):
    speech_massive(1).to_parquet(tmp_path / "all.parquet")
    monkeypatch.setitem(sys.modules, "datasets", None)
    for source in (tmp_path / "all.parquet", "FBK-MT/Speech-MASSIVE"):
        said = refused("import", "hf", source, "--out", tmp_path / "in")
        assert "the package datasets is needed for data sets of Hugging Face" in said
        assert "pip install 'lalm[hf]'" in said


def test_our_parquet_is_what_datasets_reads(manifest, tmp_path, run, rows_of, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    run("export", "hf", manifest, "--out", tmp_path / "set")
    loaded = datasets.load_dataset(str(tmp_path / "set"), cache_dir=str(tmp_path / "cache"))
    assert {name: len(part) for name, part in loaded.items()} == {"train": 6, "test": 2}
    assert isinstance(loaded["train"].features["audio"], datasets.Audio)
    part = loaded["train"].cast_column("audio", datasets.Audio(decode=False))
    assert [row["intent"] for row in part if row["audio"]] == ["light_on", "alarm_set", "music_play"]
    run("import", "hf", tmp_path / "set", "--out", tmp_path / "in")
    found = rows_of(tmp_path / "in")
    for row in read_manifest(manifest):
        back = found[row.id]
        assert (back.text, back.frame, back.speaker, back.split) == (row.text, row.frame, row.speaker, row.split)
        if row.audio is not None:
            assert back.audio.read_bytes() == row.audio.read_bytes()


def test_our_audio_folder_is_one(manifest, tmp_path, run, refused, rows_of):
    said = refused("export", "hf", manifest, "layout=audiofolder", "--out", tmp_path / "x")
    assert "row 't0': has no recording" in said
    assert not (tmp_path / "x").exists()
    spoken = [line for line in manifest.read_text(encoding="utf-8").splitlines() if '"audio": null' not in line]
    manifest.write_text("\n".join(spoken), encoding="utf-8")
    run("export", "hf", manifest, "layout=audiofolder", "--out", tmp_path / "set")
    for split, number in (("train", 3), ("test", 1)):
        lines = (tmp_path / "set" / split / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
        names = {json.loads(line)["file_name"] for line in lines}
        assert len(names) == number
        assert {path.name for path in (tmp_path / "set" / split).iterdir()} == names | {"metadata.jsonl"}
    run("import", "hf", tmp_path / "set", "--out", tmp_path / "in")
    found = rows_of(tmp_path / "in")
    for row in read_manifest(manifest):
        assert (found[row.id].frame, found[row.id].split) == (row.frame, row.split)


def test_a_path_in_a_row_cannot_name_any_file_of_the_machine(tmp_path, refused):
    (tmp_path / "secret.wav").write_bytes(sound())
    features = datasets.Features({"audio": datasets.Audio(), "text": datasets.Value("string")})
    rows = [{"audio": {"bytes": None, "path": str(tmp_path / "secret.wav")}, "text": "a"}]
    (tmp_path / "set").mkdir()
    dataset(rows, features).to_parquet(tmp_path / "set" / "train.parquet")
    said = refused("import", "hf", tmp_path / "set", "--out", tmp_path / "in")
    assert "field 'audio'" in said
    assert "leaves the data folder" in said
    assert not (tmp_path / "in").exists()


def test_damaged_files_and_wrong_columns_are_named(tmp_path, refused):
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 nothing of the kind")
    assert "bad.parquet: is no Parquet file" in refused(
        "import", "hf", tmp_path / "bad.parquet", "--out", tmp_path / "in"
    )
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "state.json").write_text("{}")
    assert "cannot be read by datasets" in refused("import", "hf", tmp_path / "disk", "--out", tmp_path / "in")
    speech_massive(1).to_parquet(tmp_path / "all.parquet")
    said = refused("import", "hf", tmp_path / "all.parquet", "text_column=uttt", "--out", tmp_path / "in")
    assert "hf.text_column: all has no column 'uttt'. Did you mean 'utt'?" in said
    said = refused("import", "hf", tmp_path / "nothing" / "there", "--out", tmp_path / "in")
    assert "is neither a folder nor a Parquet file" in said


def test_the_hub_out_of_reach_is_said(tmp_path, refused, monkeypatch):
    import datasets.config
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    said = refused("import", "hf", "nobody/no-such-set", "--out", tmp_path / "in")
    assert "nobody/no-such-set: cannot be read from the Hub" in said
