"""A manifest written in each format and read back is the same in everything that the format can hold."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lalm.data import audio
from lalm.data.manifest import read_manifest
from lalm.records import Utterance

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def same_sound(one: Path, other: Path) -> None:
    np.testing.assert_allclose(audio.load(one), audio.load(other), atol=1e-4)


def plain(row: Utterance) -> Utterance:
    """The row without what tells where its recording lies."""
    return replace(row, audio=None, meta={})


def original(manifest: Path) -> dict[str, Utterance]:
    return {row.id: row for row in read_manifest(manifest)}


def test_messages_jsonl_holds_everything(manifest, tmp_path, run, rows_of):
    out = tmp_path / "messages" / "all.jsonl"
    assert "Wrote 8 rows" in run("export", "messages_jsonl", manifest, "--out", out)
    run("import", "messages_jsonl", out, "allow_outside_paths=true", "--out", tmp_path / "back")
    ours, back = original(manifest), rows_of(tmp_path / "back")
    assert {name: plain(row) for name, row in back.items()} == {name: plain(row) for name, row in ours.items()}
    for name, row in ours.items():
        assert (back[name].audio is None) == (row.audio is None)
        if row.audio is not None:
            assert back[name].audio.resolve() == row.audio.resolve()


def test_messages_jsonl_without_columns_keeps_what_is_taught(manifest, tmp_path, run, rows_of):
    out = manifest.parent / "plain.jsonl"
    run("export", "messages_jsonl", manifest, "columns=false", "paths=relative", "--out", out)
    for line in out.read_text(encoding="utf-8").splitlines():
        value = json.loads(line)
        assert set(value) == {"messages", "audios"}
        assert sum(one["content"].count("<audio>") for one in value["messages"]) == len(value["audios"])
        assert all(not Path(name).is_absolute() for name in value["audios"])
    run("import", "messages_jsonl", out, "--out", tmp_path / "back")
    ours, back = list(original(manifest).values()), list(rows_of(tmp_path / "back").values())
    assert [row.frame for row in back] == [row.frame for row in ours]
    assert [row.text for row in back] == [None if row.audio else row.text for row in ours]
    assert [row.duration_s for row in back] == [row.duration_s for row in ours]


@pytest.mark.parametrize("how", ["input_audio", "audio_url"])
def test_openai_carries_the_sound_inside(how, manifest, tmp_path, run, rows_of):
    out = tmp_path / "chat.jsonl"
    run("export", "openai", manifest, f"audio={how}", "columns=true", "--out", out)
    for row in original(manifest).values():
        if row.audio is not None:
            row.audio.rename(row.audio.with_suffix(".away"))  # nothing but the file may be needed
    run("import", "openai", out, "--out", tmp_path / "back")
    back = rows_of(tmp_path / "back")
    for name, row in original(manifest).items():
        assert plain(back[name]) == plain(row)
        if row.audio is not None:
            assert back[name].audio.parent == tmp_path / "back" / "audio"
            row.audio.with_suffix(".away").rename(row.audio)
            same_sound(back[name].audio, row.audio)


def test_openai_with_paths(manifest, tmp_path, run, rows_of):
    out = manifest.parent / "chat.jsonl"
    run("export", "openai", manifest, "audio=path", "paths=relative", "columns=true", "--out", out)
    run("import", "openai", out, "--out", tmp_path / "back")
    assert {n: plain(r) for n, r in rows_of(tmp_path / "back").items()} == {
        n: plain(r) for n, r in original(manifest).items()
    }


@pytest.mark.parametrize("text", ["transcript", "semantics"])
def test_nemo_holds_recordings(text, manifest, tmp_path, run, rows_of, refused):
    assert "row 't0': has no recording" in refused("export", "nemo", manifest, "--out", tmp_path / "x.json")
    assert not (tmp_path / "x.json").exists()
    spoken = manifest.with_name("spoken.jsonl")
    rows = [line for line in manifest.read_text(encoding="utf-8").splitlines() if '"audio": null' not in line]
    spoken.write_text("\n".join(rows), encoding="utf-8")
    out = tmp_path / "nemo.json"
    run("export", "nemo", spoken, f"text={text}", "--out", out)
    first = json.loads(out.read_text(encoding="utf-8").splitlines()[0])
    assert {"audio_filepath", "duration", "text"} <= set(first)
    run("import", "nemo", out, "allow_outside_paths=true", "--out", tmp_path / "back")
    back = rows_of(tmp_path / "back")
    assert {n: plain(r) for n, r in back.items()} == {n: plain(r) for n, r in original(spoken).items()}


def test_rasa_holds_text(manifest, tmp_path, run, rows_of):
    out = tmp_path / "nlu.yml"
    run("export", "rasa", manifest, "--out", out)
    assert "- wake me at [seven](time) in the [morning](part)" in out.read_text(encoding="utf-8")
    run("import", "rasa", out, "--out", tmp_path / "back")
    ours = sorted((r.text, r.frame.intent, r.frame.slots) for r in original(manifest).values())
    assert sorted((r.text, r.frame.intent, r.frame.slots) for r in rows_of(tmp_path / "back").values()) == ours
    ontology = json.loads((tmp_path / "back" / "ontology.json").read_text(encoding="utf-8"))
    assert set(ontology["intents"]) == {"light_on", "alarm_set", "music_play", "good_night"}
    assert ontology["slots"]["room"] == {"values": ["hall"], "closed": False}


def test_dialogflow_holds_text(manifest, tmp_path, run, rows_of):
    out = tmp_path / "agent"
    run("export", "dialogflow", manifest, "--out", out)
    names = {path.relative_to(out).as_posix() for path in out.rglob("*.json")}
    assert {"agent.json", "package.json", "intents/alarm_set.json", "intents/alarm_set_usersays_en.json"} <= names
    assert {"entities/room.json", "entities/room_entries_en.json"} <= names
    run("import", "dialogflow", out, "--out", tmp_path / "back")
    ours = sorted((r.text, r.frame.intent, r.frame.slots) for r in original(manifest).values())
    assert sorted((r.text, r.frame.intent, r.frame.slots) for r in rows_of(tmp_path / "back").values()) == ours


def test_slurp_data_with_recordings(manifest, tmp_path, run, rows_of):
    """Its own sentence ids join a sentence and its recordings."""
    rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        row["meta"] = {"slurp_id": int(row["id"][1:]) + 100}
    manifest.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    out = tmp_path / "slurp" / "train.jsonl"
    assert "Wrote 4 rows" in run("export", "slurp", manifest, "--out", out)
    value = json.loads(out.read_text(encoding="utf-8").splitlines()[1])
    assert value["entities"] == [{"type": "time", "span": [3]}, {"type": "part", "span": [6]}]
    assert value["recordings"] == [{"file": "r1.flac"}]
    assert (value["scenario"], value["action"]) == ("alarm", "set")
    run("import", "slurp", out, f"audio={manifest.parent / 'audio'}", "--out", tmp_path / "back")
    back = rows_of(tmp_path / "back")
    assert sorted(back) == ["100", "101", "102", "103", "r0", "r1", "r2", "r3"]
    assert [row.frame for row in back.values()] == [row.frame for row in original(manifest).values()]


@pytest.mark.parametrize("name", ["slurp/devel.jsonl", "slurp/test.jsonl", "massive_fr/test.jsonl"])
def test_the_real_slurp_files_come_back_token_by_token(name, tmp_path, run):
    if not (DATA / name).is_file():
        pytest.skip(f"{DATA / name} is not there: real data do not come with the project")
    run("import", "slurp", DATA / name, "--out", tmp_path / "in")
    run("export", "slurp", tmp_path / "in" / "manifest.jsonl", "--out", tmp_path / "out.jsonl")
    compared = 0
    with (DATA / name).open(encoding="utf-8") as one, (tmp_path / "out.jsonl").open(encoding="utf-8") as other:
        for ours, theirs in zip(map(json.loads, other), map(json.loads, one), strict=True):
            for field in ("slurp_id", "sentence", "intent", "scenario", "action"):
                assert ours[field] == theirs[field]
            assert [t["surface"] for t in ours["tokens"]] == [t["surface"] for t in theirs["tokens"]]
            words = [t["surface"].lower() for t in theirs["tokens"]]
            values = [
                [(e["type"], " ".join(words[i] for i in e["span"])) for e in row["entities"]] for row in (ours, theirs)
            ]
            assert values[0] == values[1]
            compared += 1
    assert compared in (2033, 2974)


def test_slurp_predictions_score_as_they_did(tmp_path, run):
    """Real predictions, read and written again, get the figures that the official scorer gave them."""
    from lalm.evaluate.slurp import score_slurp

    root = DATA / "slurp"
    if not root.is_dir():
        pytest.skip(f"{root} is not there: real data do not come with the project")
    for name, text in (("gold_hermit_predictions.jsonl", True), ("multi_slurp_hermit_predictions.jsonl", False)):
        out = tmp_path / name
        run("import", "slurp", root / name, "kind=predictions", f"gold={root / 'test.jsonl'}", "--out", out)
        run("export", "slurp", out / "manifest.jsonl", "kind=predictions", "--out", out / "again.jsonl")
        gold = root / "test.jsonl"
        assert score_slurp(gold, out / "again.jsonl", text) == score_slurp(gold, root / name, text)


def test_our_predictions_are_scored_by_slurps_rules(tmp_path, run, lines):
    from lalm.evaluate.slurp import score_slurp

    tokens = [{"surface": word} for word in ("mute", "the", "tv")]
    gold = lines(
        tmp_path / "gold.jsonl",
        *(
            {
                "slurp_id": number,
                "sentence": "mute the tv",
                "intent": "audio_volume_mute",
                "scenario": "audio",
                "action": "volume_mute",
                "tokens": tokens,
                "recordings": [{"file": f"a-{number}.flac"}],
                "entities": [{"type": "device_type", "span": [2]}],
            }
            for number in (1, 2, 3)
        ),
    )
    frame = {"intent": "audio_volume_mute", "slots": [{"type": "device_type", "value": "tv"}]}
    other = {"intent": "audio_volume_up", "slots": []}
    answers = [frame, other, None]
    predictions = lines(
        tmp_path / "test.jsonl",
        *(
            {"id": f"a-{n}", "gold": frame, "prediction": given, "raw": "", "status": status, "audio": f"x/a-{n}.flac"}
            for n, (given, status) in enumerate(zip(answers, ("ok", "ok", "failed"), strict=True), 1)
        ),
    )
    out = tmp_path / "slurp.jsonl"
    run("export", "slurp", predictions, "kind=predictions", f"gold={gold}", "--out", out)
    scores = score_slurp(gold, out, False)
    assert scores["missing"] == 0
    assert scores["Intent (scen_act)"]["f1"] == pytest.approx(1 / 3)
    assert scores["Scenario"]["f1"] == pytest.approx(2 / 3)
    assert scores["Entities"] == {"precision": 1.0, "recall": pytest.approx(1 / 3), "f1": pytest.approx(0.5)}


def test_only_one_split_is_written(manifest, tmp_path, run):
    out = tmp_path / "test.jsonl"
    assert "Wrote 2 rows" in run("export", "messages_jsonl", manifest, "--split", "test", "--out", out)
    assert all(json.loads(line)["split"] == "test" for line in out.read_text(encoding="utf-8").splitlines())


def test_recordings_are_copied_when_asked(manifest, tmp_path, run, rows_of):
    out = tmp_path / "messages.jsonl"
    run("export", "messages_jsonl", manifest, "--out", out)
    said = run("import", "messages_jsonl", out, "allow_outside_paths=true", "--out", tmp_path / "where")
    assert "4 recordings outside that folder" in said
    run("import", "messages_jsonl", out, "allow_outside_paths=true", "--copy-audio", "--out", tmp_path / "copied")
    rows = read_manifest(tmp_path / "copied" / "manifest.jsonl")  # refuses paths that leave the folder
    assert len({row.audio for row in rows if row.audio}) == 4
    for name, row in original(manifest).items():
        if row.audio is not None:
            assert rows_of(tmp_path / "copied")[name].audio.read_bytes() == row.audio.read_bytes()


def test_a_corpus_is_imported_by_its_name(tmp_path, run, rows_of):
    from lalm import plugins

    (tmp_path / "csv").mkdir()
    plugins.load("corpora", "csv").make_tiny(tmp_path / "csv", 0)
    run("import", "csv", tmp_path / "csv" / "labels.csv", "--out", tmp_path / "back")
    back = rows_of(tmp_path / "back")
    assert len(back) == 10
    assert {row.split for row in back.values()} == {"train", "test"}
    assert soundfile.info(str(back["s0"].audio)).frames == 6400
