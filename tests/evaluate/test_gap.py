"""The same items as text, as synthetic speech and as recordings: which rows are matched, and what is made of their answers."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import soundfile
from prediction_rows import made_up, rows_of
from tones import HIGH, LOW, RATE_HZ

from lalm.cli import main
from lalm.config import EvaluateSection
from lalm.data.manifest import write_manifest
from lalm.errors import UserError
from lalm.evaluate import gap
from lalm.evaluate.predict import load_run, predict_rows
from lalm.records import Example, Frame, Utterance
from lalm.rundir import RunDir, read_json
from lalm.train.setup import task_examples

VOICE = Path("voice.wav")


def item(name: str, text: str | None, audio: str | None = None, intent: str = "on") -> Utterance:
    path = Path(audio) if audio is not None else None
    return Utterance(name, text, path, Frame(intent), source="text" if audio is None else "recorded")


def spoken(name: str, text: str | None, text_id: str | None = None, intent: str = "on") -> Utterance:
    meta = {"engine": "flite", "voice": name, **({} if text_id is None else {"text_id": text_id})}
    return Utterance(name, text, Path(f"{name}.wav"), Frame(intent), source="synthetic", meta=meta)


def test_items_are_matched_by_text_id_then_by_words():
    rows = [
        item("a", "Turn it  on", "a.wav"),
        item("b", "turn it on", "b.wav"),
        item("c", "turn it off", "c.wav", "off"),
    ]
    voices = [
        spoken("first", "turn it on"),
        spoken("of-b", "turn it ON", "b"),
        spoken("other-words", "never mind", "a"),
        spoken("again", "turn it on", "b"),
        spoken("mute", None, "c"),
    ]
    found = gap.modalities(rows, voices)
    assert list(found.rows) == ["text", "synthetic", "recording"]
    assert all([row.id for row in members] == ["a", "b"] for members in found.rows.values())
    assert [row.audio for row in found.rows["synthetic"]] == [Path("first.wav"), Path("of-b.wav")]
    assert [row.audio for row in found.rows["recording"]] == [Path("a.wav"), Path("b.wav")]
    assert [(row.audio, row.text) for row in found.rows["text"]] == [(None, "Turn it  on"), (None, "turn it on")]
    assert found.num_available == {"text": 3, "synthetic": 2, "recording": 3}
    assert found.reasons == {}


def test_the_label_is_that_of_the_item():
    found = gap.modalities([item("a", "lights", "a.wav", "on")], [spoken("x", "lights", intent="off")])
    assert found.rows["synthetic"][0].frame == Frame("on")


def test_synthetic_rows_of_the_set_itself_are_no_items():
    found = gap.modalities([item("a", "lights"), spoken("x", "lights")], [])
    assert [row.id for row in found.rows["synthetic"]] == ["a"]
    assert found.num_available == {"text": 1, "synthetic": 1, "recording": 0}
    assert found.reasons == {"recording": "none of the 1 row has a recording"}


def test_a_modality_without_common_items_is_left_out_with_its_reason():
    rows = [item("a", "lights"), item("b", None, "b.wav")]
    found = gap.modalities(rows, [spoken("x", "lights")])
    assert list(found.rows) == ["text", "synthetic"]
    assert found.reasons == {"recording": "none of the 1 item that have it has text and synthetic speech too"}


@pytest.mark.parametrize(
    ("rows", "voices", "source", "message"),
    [
        ([item("a", None, "a.wav")], [], None, "none of the 1 row has a sentence or a transcript"),
        ([item("a", "lights")], [], None, "no manifest of synthetic speech was named"),
        (
            [item("a", "lights")],
            [spoken("x", "music")],
            Path("m"),
            "none of the 1 synthetic row says the words of an item",
        ),
        ([item("a", "lights")], [item("x", "lights", "x.wav")], Path("m.jsonl"), "of m.jsonl is synthetic speech"),
    ],
)
def test_one_modality_is_no_gap(rows: list[Utterance], voices: list[Utterance], source: Path | None, message: str):
    with pytest.raises(UserError, match="two modalities at least") as caught:
        gap.modalities(rows, voices, source)
    assert message in str(caught.value)


def test_a_run_answers_in_every_modality(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    own = tmp_path / "run"
    shutil.copytree(run, own)
    for name, samples in (("low", LOW), ("high", HIGH)):
        soundfile.write(tmp_path / f"{name}.wav", 0.5 * samples, RATE_HZ)
    # the voices have the words the wrong way round: what is said `on` sounds like `off`
    voices = [
        replace(spoken("v1", "turn it on", "test-0"), audio=tmp_path / "high.wav"),
        replace(spoken("v2", "turn it off"), audio=tmp_path / "low.wav"),
    ]
    write_manifest(tmp_path / "voices.jsonl", voices)
    assert main(["gap", str(own), "--synthetic", str(tmp_path / "voices.jsonl")]) == 0
    shown = capsys.readouterr().out
    path = own / "scores" / "test-gap.json"
    assert shown.rstrip().endswith(f"Done: {path}")
    assert "text - recording" in shown
    summary = read_json(path)
    assert summary["num"] == 4
    assert summary["engines"] == ["flite"]
    assert summary["num_voices"] == 2
    exact = {name: one["metrics"]["exact_match"] for name, one in summary["modalities"].items()}
    assert exact["recording"]["value"] == 1.0
    assert exact["synthetic"]["value"] == 0.0
    assert {one["n"] for one in exact.values()} == {4}
    pairs = {(one["a"], one["b"]): one["metrics"]["exact_match"] for one in summary["differences"]}
    assert list(pairs) == [("text", "synthetic"), ("text", "recording"), ("synthetic", "recording")]
    assert pairs["synthetic", "recording"] == {
        "difference": -1.0,
        "low": -1.0,
        "high": -1.0,
        "differing": 4,
        "verdict": "undecided",
    }, "four items, and four decide nothing"
    heard = [row["audio"] for row in rows_of(own / "predictions" / "test-as-synthetic.jsonl")]
    assert [Path(name).stem for name in heard] == ["high", "low", "high", "low"]
    written = rows_of(own / "predictions" / "test-as-text.jsonl")
    recipe, model = load_run(own)
    alone = [
        Utterance(f"test-{i}", f"turn it {'off' if i % 2 else 'on'}", frame=Frame("off" if i % 2 else "on"))
        for i in range(4)
    ]
    expected = predict_rows(model, task_examples(recipe, alone), recipe.evaluate, quiet=True)
    assert [row["raw"] for row in written] == [row["raw"] for row in expected]
    assert all("audio" not in row for row in written)
    assert RunDir(own).sets() == []


def test_what_the_data_do_not_have_is_null(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    own = tmp_path / "run"
    shutil.copytree(run, own)
    assert main(["gap", str(own)]) == 0
    summary = read_json(own / "scores" / "test-gap.json")
    assert summary["modalities"]["synthetic"] is None
    assert summary["reasons"] == {"synthetic": "no manifest of synthetic speech was named (--synthetic)"}
    assert "synthetic speech: none (no manifest" in capsys.readouterr().out


def test_differences_are_those_of_a_plain_paired_bootstrap():
    rng = np.random.default_rng(1)
    hard = rng.random(200)
    right = {name: hard + 0.1 * rng.standard_normal(200) < edge for name, edge in (("text", 0.9), ("recording", 0.75))}
    cfg = EvaluateSection(metrics=("intent_accuracy",), num_resamples=500)
    found = gap.summarise({name: made_up(one) for name, one in right.items()}, cfg)
    assert found["modalities"]["synthetic"] is None
    (pair,) = found["differences"]
    one = pair["metrics"]["intent_accuracy"]
    per_item = right["text"].astype(float) - right["recording"]
    theirs = scipy.stats.bootstrap((per_item,), np.mean, n_resamples=20_000, method="percentile", rng=2)
    assert one["difference"] == pytest.approx(per_item.mean())
    # 4,000 draws of a spread of 0.025: a percentile of them errs by 0.001
    assert one["low"] == pytest.approx(theirs.confidence_interval.low, abs=0.006)
    assert one["high"] == pytest.approx(theirs.confidence_interval.high, abs=0.006)
    assert one["verdict"] == "better"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--synthetic", "nowhere.jsonl"], "nowhere.jsonl: cannot be read"),
        (["--split", "dev"], "the split 'dev' holds no rows"),
        (["nowhere.jsonl"], "nowhere.jsonl"),
    ],
)
def test_mistakes_are_said(run: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str):
    assert main(["gap", str(run), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not RunDir(run).gap("test").exists()


def test_a_run_that_is_not_finished_is_said(tmp_path: Path):
    with pytest.raises(UserError, match="not a finished run folder"):
        gap.measure_gap(tmp_path)


def test_a_task_that_asks_otherwise_of_text_is_refused_before_the_model_is_loaded():
    asked = {"text": [], "recording": [Example("a", "", "", audio=Path("a.wav"))]}
    with pytest.raises(UserError, match=r"The task transcribe of this run asks 0 times about .* and 1 times about"):
        gap._check_alike("transcribe", asked)
