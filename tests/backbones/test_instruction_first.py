"""Backbones of one class whose rows begin alike: the beginning computed once, against the class's own forward over whole rows."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from lalm import plugins
from lalm.backbones import _native
from lalm.config import parse_recipe
from lalm.errors import ConfigError
from lalm.records import Example
from lalm.train.setup import load_model
from lalm.tuners import full, lora

NAMES = ("audio_flamingo3", "glm_asr", "qwen2_audio", "qwen3_asr", "voxtral")
INSTRUCTION = 'Name the intent of what is said, one of "on", "off" and "play", as one line of JSON.'


def made(name: str):
    """The tiny model; its instruction stands first."""
    backbone = plugins.load("backbones", name)
    return backbone.load(
        backbone.Config(tiny=True, seed=4, **({} if name == "qwen3_asr" else {"instruction_first": True}))
    )


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[Path]:
    folder, rng = tmp_path_factory.mktemp("clips"), np.random.default_rng(5)
    paths = [folder / f"{number}.flac" for number in range(3)]
    for path, seconds in zip(paths, (0.5, 1.3, 0.9), strict=True):
        soundfile.write(path, 0.1 * rng.standard_normal(int(seconds * 16_000)), 16_000)
    return paths


@pytest.fixture
def rows(clips) -> list[Example]:
    """Recordings and sentences, one of them twice."""
    spoken = [
        Example(str(number), INSTRUCTION, '{"a": "%s"}' % ("x" * (number + 1)), audio=path)
        for number, path in enumerate(clips)
    ]
    written = [Example(text, INSTRUCTION, '{"a": "y"}', text=text) for text in ("turn it on", "turn it on", "no")]
    return [*spoken, *written]


@contextlib.contextmanager
def whole_rows(model):
    """Inside, nothing is computed once: whole rows go through the class's own forward."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_native, "common_prefix", lambda rows, placeholder: ())
        patch.setattr(model, "_instruction_first", False)
        yield


@pytest.mark.parametrize("name", NAMES)
def test_losses_and_gradients_are_those_of_whole_rows(name, rows):
    model = made(name)
    rows = rows[:3] if name == "qwen3_asr" else rows  # a sentence stands before the instruction there
    torch.manual_seed(1)
    trainable = lora.attach(model, ["llm.attention", "llm.mlp"], lora.Config(r=3))
    weights = [model.module.get_parameter(one) for one in trainable]
    for weight in weights:  # B of LoRA begins at zero, where A has no gradient
        torch.nn.init.normal_(weight, std=0.2)
    found = []
    for context in (contextlib.nullcontext(), whole_rows(model)):
        with context:
            batch = model.batch(rows)
            nll, tokens = model.loss(batch)
        found.append((len(batch.prefix), nll, tokens, torch.autograd.grad(nll.sum(), weights)))
    (shared, nll, tokens, gradients), (nothing, plain_nll, plain_tokens, plain_gradients) = found
    assert shared > len(INSTRUCTION) / 2
    assert nothing == 0
    assert torch.equal(tokens, plain_tokens)
    assert torch.allclose(nll, plain_nll, rtol=1e-5, atol=0)
    for one, other in zip(gradients, plain_gradients, strict=True):
        assert float(other.abs().max()) > 1e-3
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()))


def test_gradients_of_a_connector_are_those_of_whole_rows(rows):
    model = made("qwen2_audio")
    weights = [model.module.get_parameter(one) for one in full.attach(model, ["connector"], full.Config())]
    found = []
    for context in (contextlib.nullcontext(), whole_rows(model)):
        with context:
            found.append(torch.autograd.grad(model.loss(model.batch(rows))[0].sum(), weights))
    for one, other in zip(*found, strict=True):
        assert float(other.abs().max()) > 1e-3
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-5 * float(other.abs().max()))


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_answers_are_those_of_whole_rows(name, num_beams, rows):
    model = made(name)
    rows = rows[:3] if name == "qwen3_asr" else rows
    answers = model.generate(rows, 8, num_beams)
    with whole_rows(model):
        assert answers == model.generate(rows, 8, num_beams)
    assert len(set(answers)) > 1


def test_the_instruction_stands_before_the_input_in_both_kinds_of_rows(rows):
    model = made("qwen2_audio")
    batch = model.batch(rows)
    said = batch.decoded_prompts(model.tokenizer)
    assert all(text.index(INSTRUCTION) < text.rindex("<|im_end|>") for text in said)
    assert said[0].index(INSTRUCTION) < said[0].index("[audio]")
    assert said[3].index(INSTRUCTION) < said[3].index("turn it on")
    assert batch.decoded_labels(model.tokenizer)[2] == '{"a": "xxx"}<|im_end|>'
    assert model.beginnings == "computed once a step, and seen by all rows"
    assert model.identity["instruction_first"] is True


def test_a_single_row_shares_nothing_and_equal_ones_all_but_their_last_token(rows):
    model = made("qwen2_audio")
    assert model.batch(rows[:1]).prefix == ()
    with torch.no_grad():
        alone = torch.cat([model.loss(model.batch([row]))[0] for row in rows])
        assert torch.allclose(alone, model.loss(model.batch(rows))[0], rtol=1e-5, atol=0)
    twice = model.batch(rows[3:5])
    assert len(twice.prefix) == len(model.row(rows[3]).prompt) - 1


def test_where_the_recording_stands_first_whole_rows_are_computed(rows):
    backbone = plugins.load("backbones", "qwen2_audio")
    model = backbone.load(backbone.Config(tiny=True))
    batch = model.batch(rows[:2])
    assert INSTRUCTION[:9] not in model.tokenizer.decode(batch.prefix)
    assert INSTRUCTION in batch.decoded_prompts(model.tokenizer)[1].partition("[audio]")[2]
    assert "backbone.instruction_first" in model.beginnings
    assert "instruction_first" not in model.identity


def test_a_family_with_one_place_for_words_takes_no_such_option(tmp_path):
    values = {"data": {"corpus": "jsonl"}, "backbone": {"name": "qwen3_asr", "tiny": True, "instruction_first": True}}
    with pytest.raises(ConfigError, match="one place for all words"):
        load_model(parse_recipe(values, tmp_path))
