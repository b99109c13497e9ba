"""The hearing check says yes to models that hear and finds each of the faults that it is there for."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch

from lalm import plugins
from lalm.backbones import qwen2_audio
from lalm.cli import main
from lalm.config import parse_recipe
from lalm.errors import DataError
from lalm.records import Example
from lalm.study.check import check_recipe
from lalm.study.hear import hearing_check

INSTRUCTION = "Say what is wanted, as JSON."


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("sounds"), np.random.default_rng(7)
    recordings = []
    for index, length in enumerate((9000, 16_000, 21_000)):
        path = folder / f"{index}.wav"
        soundfile.write(path, 0.1 * rng.standard_normal(length), 16_000)
        recordings.append(Example(path.stem, INSTRUCTION, f'{{"a": {index}}}', audio=path))
    texts = [Example(f"t{n}", INSTRUCTION, f'{{"b": {n}}}', text="turn it on " * (n + 1)) for n in range(3)]
    return texts, recordings


@pytest.fixture
def model():
    return qwen2_audio.make_tiny(0)


def failing(model, rows) -> list[str]:
    return [one.question for one in hearing_check(model, *rows) if not one.holds]


@pytest.mark.parametrize("name", ["smol", "qwen2_audio"])
def test_a_model_that_hears_passes_and_is_left_as_it_was(name, rows):
    model = plugins.load("backbones", name).make_tiny(0)
    model.module.train()
    findings = hearing_check(model, *rows)
    assert [one.question for one in findings if not one.holds] == []
    assert len(findings) == 6
    assert model.module.training
    assert failing(model, ([], rows[1][:1])) == []  # one recording and no text: noise stands for the other one


def test_a_deaf_model_is_found(model, rows):
    heard = model.family.features
    deaf = {**vars(model.family), "features": lambda fe, clips: _scaled(heard(fe, clips), 0.0)}
    model.clips.family = type(model.family)(**deaf)
    assert failing(model, rows) == ["another recording changes the loss", "silence is not speech"]


def test_what_a_batch_does_to_its_rows_is_found(model, rows):
    heard = model.family.features
    crowded = {**vars(model.family), "features": lambda fe, clips: _scaled(heard(fe, clips), float(len(clips)))}
    model.clips.family = type(model.family)(**crowded)
    assert failing(model, rows) == ["a batch of 6 equals batches of one"]


def _scaled(features, factor: float):
    return {name: value * factor if value.is_floating_point() else value for name, value in features.items()}


def test_text_rows_that_hear_their_neighbours_are_found(model, rows):
    own = model.loss

    def leaking(batch):
        nll, counts = own(batch)
        return nll + 0.1 * nll.mean() * bool(batch.features), counts

    model.loss = leaking
    assert failing(model, rows) == [
        "a batch of 6 equals batches of one",
        "text rows do not hear the recordings beside them",
    ]


def test_wrong_labels_and_placeholders_are_found(model, rows):
    own = model.prompts.answer
    model.prompts.answer = lambda text: own(text)[:-1]
    model.audio_positions = lambda examples: (12, 13)
    assert failing(model, rows) == [
        "positions held for audio equal what is heard",
        "the labels are the answers and their end",
    ]


def test_the_command_prints_the_answers_and_the_labels(tmp_path, capsys, monkeypatch):
    plugins.load("corpora", "jsonl").make_tiny(tmp_path, seed=0)
    (tmp_path / "recipe.yaml").write_text(
        "data: {corpus: jsonl, root: .}\nbackbone: {name: qwen2_audio, tiny: true}\ntuner: lora\n", encoding="utf-8"
    )
    assert main(["check", str(tmp_path / "recipe.yaml"), "--hear"]) == 0
    said = capsys.readouterr().out
    assert said.count("  yes  ") == 6
    assert 'for example {"intent": "' in said
    assert "<|im_end|>" in said
    assert "audio_encoder" in said

    monkeypatch.setattr(
        torch.nn.Conv1d,
        "forward",
        lambda self, x: x.new_zeros(len(x), self.out_channels, x.shape[-1] // self.stride[0]),
    )
    assert main(["check", str(tmp_path / "recipe.yaml"), "--hear"]) == 2
    said = capsys.readouterr().err
    assert "This model does not hear as it should." in said
    assert "NO   another recording changes the loss" in said


def test_a_corpus_without_recordings_cannot_be_checked_so(tmp_path):
    rows = '{"id": "a", "text": "on", "intent": "on"}\n{"id": "b", "text": "off", "intent": "off", "split": "test"}\n'
    (tmp_path / "m.jsonl").write_text(rows, encoding="utf-8")
    values = {
        "data": {"corpus": "jsonl", "root": "m.jsonl"},
        "backbone": {"name": "smol", "tiny": True},
        "scheme": "text_only",
    }
    with pytest.raises(DataError, match="--hear: the corpus has no recording"):
        check_recipe(parse_recipe(values, tmp_path), hear=True)


def test_what_a_limit_cuts_is_counted(tmp_path):
    plugins.load("corpora", "jsonl").make_tiny(tmp_path, seed=0)
    values = {
        "data": {"corpus": "jsonl", "root": str(tmp_path)},
        "backbone": {"name": "qwen2_audio", "tiny": True, "max_audio_s": 0.2},
    }
    said = check_recipe(parse_recipe(values, tmp_path))
    assert "2 recordings of 2 cut to backbone.max_audio_s" in said
