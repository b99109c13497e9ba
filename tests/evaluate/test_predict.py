"""Answers of a trained run: as a library, on the command line, and from one recording, all the same. On the tiny model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from tones import HIGH, LOW, RATE_HZ

import lalm
from lalm.cli import main
from lalm.config import load_recipe
from lalm.data.manifest import write_manifest
from lalm.errors import DataError, UserError
from lalm.evaluate.predict import predict_run, rows_to_answer
from lalm.evaluate.understander import Understander
from lalm.records import Frame, Turn, Utterance


@pytest.fixture(scope="module")
def understand(trained: Path) -> Any:
    return lalm.load(str(trained))


def predictions(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_predict_answers_the_test_set_of_the_recipe(run: Path):
    path = predict_run(run)
    assert path == run / "predictions" / "test.jsonl"
    rows = predictions(path)
    assert [row["id"] for row in rows] == [f"test-{index}" for index in range(4)]
    assert [row["prediction"]["intent"] for row in rows] == ["on", "off", "on", "off"], "it has learned to hear"
    assert all(row["status"] == "ok" and row["gold"] == row["prediction"] for row in rows)
    assert set(rows[0]) == {"id", "gold", "prediction", "raw", "status", "latency_s", "audio", "text"}
    assert main(["score", str(path), "--metrics", "exact_match"]) == 0


def test_the_library_answers_as_predict_does(run: Path, understand: Any):
    for row in predictions(predict_run(run)):
        frame = understand(row["audio"])
        assert isinstance(frame, Frame)
        assert frame == Frame.from_json(row["prediction"])
        samples, rate_hz = soundfile.read(row["audio"], dtype="float32")
        assert understand(samples) == frame
        assert understand(np.stack([samples, samples], axis=1), sample_rate_hz=rate_hz) == frame, (
            "channels are averaged"
        )
        assert understand(Path(row["audio"])) == frame


def test_a_recording_is_asked_in_its_language(run: Path, understand: Any, monkeypatch: pytest.MonkeyPatch):
    asked = []
    monkeypatch.setattr(understand._model, "generate", lambda rows, *_: [asked.append(rows[0].language) or "{}"])
    understand(LOW)
    understand(LOW, language="fr-CA")
    assert asked == ["en", "fr"], "the one that it was trained on, or the one that is said"
    with pytest.raises(UserError, match=r"language: 'frnch' is no known language\. Did you mean 'fr'"):
        understand(LOW, language="frnch")
    recipe, model = understand._recipe, understand._model
    with pytest.raises(UserError, match=r"trained on several languages \(en, fr\)(.|\n)*language='en'"):
        Understander(recipe, model, languages=("en", "fr"))(LOW)


def test_other_rates_are_heard_alike(understand: Any):
    for samples, intent in ((LOW, "on"), (HIGH, "off")):
        assert understand(np.repeat(samples, 2), sample_rate_hz=2 * RATE_HZ).intent == intent


def test_a_file_that_was_overwritten_is_heard_anew(understand: Any, tmp_path: Path):
    path = tmp_path / "microphone.wav"
    soundfile.write(path, LOW, RATE_HZ)
    assert understand(path).intent == "on"
    soundfile.write(path, HIGH, RATE_HZ)
    assert understand(path).intent == "off"


@pytest.mark.parametrize(
    ("recording", "message"),
    [
        (np.array([], dtype=np.float32), "holds no samples"),
        (np.array([0.1, np.nan], dtype=np.float32), "NaN"),
        (np.zeros((2, 3, 4), dtype=np.float32), "3 dimensions"),
        ("nowhere.wav", "no such file"),
    ],
)
def test_what_cannot_be_heard_is_said(understand: Any, recording: Any, message: str):
    with pytest.raises(DataError, match=message):
        understand(recording)


def test_an_answer_that_cannot_be_parsed_is_a_frame_without_intent(run: Path, understand: Any):
    short = type(understand)(
        understand._recipe.model_copy(
            update={"evaluate": understand._recipe.evaluate.model_copy(update={"max_new_tokens": 5})}
        ),
        understand._model,
    )
    assert short(LOW) == Frame(None)


def test_a_manifest_is_answered_whole_or_by_split(run: Path, tmp_path: Path):
    soundfile.write(tmp_path / "low.wav", LOW, RATE_HZ)
    new = [
        Utterance("new", audio=tmp_path / "low.wav", source="recorded"),
        Utterance("held", "turn it on", split="dev"),
    ]
    write_manifest(tmp_path / "kitchen.jsonl", new)
    path = predict_run(run, tmp_path / "kitchen.jsonl")
    assert path.name == "kitchen.jsonl"
    rows = predictions(path)
    assert [row["id"] for row in rows] == ["new", "held"]
    assert rows[0]["gold"] == {"intent": None, "slots": []}
    assert rows[0]["prediction"]["intent"] == "on"
    out = tmp_path / "answers.jsonl"
    arguments = ["predict", str(run), str(tmp_path / "kitchen.jsonl"), "--split", "dev", "--out", str(out)]
    assert main(arguments) == 0
    assert [row["id"] for row in predictions(out)] == ["held"]


def test_another_set_is_never_called_as_the_run_s_own(run: Path, tmp_path: Path):
    before = predict_run(run).read_bytes()
    (tmp_path / "other").mkdir()
    write_manifest(tmp_path / "other" / "test.jsonl", [Utterance("new", "turn it on")])
    assert predict_run(run, tmp_path / "other" / "test.jsonl").name == "other-test.jsonl"
    assert (run / "predictions" / "test.jsonl").read_bytes() == before


def test_what_is_read_and_files_of_another_kind_are_not_overwritten(run: Path, tmp_path: Path, capsys):
    write_manifest(tmp_path / "m.jsonl", [Utterance("new", "turn it on")])
    before = (tmp_path / "m.jsonl").read_bytes()
    (tmp_path / "labels.csv").write_text("text,intent\n")
    answers = str(predict_run(run))
    for command, what in (
        (["predict", str(run), str(tmp_path / "m.jsonl"), "--out", str(tmp_path / "m.jsonl")], "is what is read here"),
        (["predict", str(run), "--out", str(tmp_path / "labels.csv")], "exists and is no .jsonl file"),
        (["score", answers, "--out", answers], "is what is read here"),
        (["score", answers, "--gold", "x"], "--gold belong to --corpus"),
        (["report", str(run), "--out", str(tmp_path / "labels.csv")], "exists and is no .html"),
        (["data", "validate", str(tmp_path / "m.jsonl"), "--html", str(tmp_path / "m.jsonl")], "is what is read here"),
    ):
        assert main(command) == 2, command
        assert what in capsys.readouterr().err
    assert (tmp_path / "m.jsonl").read_bytes() == before
    assert (tmp_path / "labels.csv").read_text() == "text,intent\n"


def test_a_folder_alone_means_its_test_set(run: Path, tmp_path: Path):
    recipe = load_recipe(run / "recipe.yaml")
    splits = [Utterance(split, "turn it on", split=split) for split in ("train", "dev", "test")]
    write_manifest(tmp_path / "manifest.jsonl", splits)
    for given, ids in (
        ((None, None, tmp_path), ["test"]),
        ((tmp_path / "manifest.jsonl", None, None), ["train", "dev", "test"]),
    ):
        rows, _ = rows_to_answer(recipe, *given, None)
        assert [row.id for row in rows] == ids


def test_rows_that_the_task_asks_nothing_about_are_counted(run: Path, tmp_path: Path, capsys):
    asked, talk = Utterance("new", "turn it on"), Utterance("talk", turns=(Turn("user", "hello"),), question="who?")
    write_manifest(tmp_path / "mixed.jsonl", [asked, talk])
    assert len(predictions(predict_run(run, tmp_path / "mixed.jsonl"))) == 1
    assert "1 of 2 rows hold nothing that the task slu asks about" in capsys.readouterr().err
    write_manifest(tmp_path / "talk.jsonl", [talk])
    with pytest.raises(UserError, match=r"None of the 1 row holds what the task slu asks about"):
        predict_run(run, tmp_path / "talk.jsonl")


def test_a_corpus_is_answered_from_its_folder(run: Path, tmp_path: Path):
    lalm.plugins.load("corpora", "fsdd").make_tiny(tmp_path, 0)
    out = tmp_path / "answers.jsonl"
    assert main(["predict", str(run), "--corpus", "fsdd", "--root", str(tmp_path), "--out", str(out)]) == 0
    assert {row["gold"]["intent"] for row in predictions(out)} == {"zero", "three", "seven"}


def test_mistakes_are_named_before_the_model_is_loaded(run: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"not a finished run folder: recipe\.yaml is missing"):
        predict_run(tmp_path)
    with pytest.raises(UserError, match="Did you mean 'test'"):
        predict_run(run, split="tset")
    with pytest.raises(UserError, match="needs --root"):
        predict_run(run, corpus="fsdd")
    with pytest.raises(UserError, match="the split 'dev' holds no rows"):
        predict_run(run, split="dev")
    with pytest.raises(UserError, match="Did you mean 'fsdd'"):
        predict_run(run, corpus="fsd", root=tmp_path)


def test_damaged_weights_are_named(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    weights = next((copy / "adapter").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    assert main(["predict", str(copy)]) == 2
    message = capsys.readouterr().err
    assert str(weights) in message
    assert "damaged" in message
