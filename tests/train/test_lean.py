"""Training in less memory gives the same weights where it should, and says clearly where the machine cannot do it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import several
import torch
from safetensors.torch import load_file

from lalm.config import Recipe
from lalm.errors import ConfigError, MissingExtraError
from lalm.evaluate.predict import predict_run
from lalm.study.single import train
from lalm.train import lean
from lalm.train.checkpoint import ADAPTER_FILE
from lalm.train.optim import computes_in_bf16, uses_bf16
from lalm.train.setup import attach, load_model
from lalm.train.steps import stage_keys


def with_train(recipe: Recipe, **settings) -> Recipe:
    return recipe.model_copy(update={"train": recipe.train.model_copy(update=settings)})


def kept_bytes(recipe: Recipe, examples) -> int:
    """What the way forward leaves for the way back."""
    model = load_model(recipe)
    attach(recipe, model)
    model.module.train()
    kept: list[int] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel() * tensor.element_size())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.loss(model.batch([*examples["text"][:3], *examples["speech"][:2]]))
    return sum(kept)


# -- gradient checkpointing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["wide", "full"])
def test_layers_that_are_computed_again_give_the_same_weights(name, recipe, tmp_path):
    plain = several.run(several.prepared(recipe, name, 1), name, tmp_path / "plain")
    again = several.run(several.prepared(recipe, name, 1, gradient_checkpointing=True), name, tmp_path / "again")
    assert max(float((plain[key] - again[key]).abs().max()) for key in plain) < 1e-6


def test_dropout_is_computed_again_as_it_was(recipe, tmp_path):
    recipe = recipe.model_copy(update={"tuner": recipe.tuner.model_copy(update={"lora_dropout": 0.5})})
    done = [
        train(with_train(recipe, gradient_checkpointing=again), tmp_path / f"{again}", quiet=True)
        for again in (False, True)
    ]
    plain, again = (load_file(run.adapter / ADAPTER_FILE) for run in done)
    assert max(float((plain[key] - again[key]).abs().max()) for key in plain) < 1e-6
    assert predict_run(done[1].root).is_file()


def test_less_is_kept_for_the_way_back(recipe, examples):
    groups = ("llm.attention", "llm.mlp", "connector", "audio_encoder")
    plain, again = (
        kept_bytes(with_train(recipe, groups=groups, gradient_checkpointing=on), examples) for on in (False, True)
    )
    assert again < 0.6 * plain


def test_a_model_without_layers_is_refused(recipe):
    model = load_model(recipe)
    model.module = torch.nn.Linear(2, 2)
    with pytest.raises(ConfigError, match=r"train\.gradient_checkpointing: this model is not made of layers"):
        lean.recompute(model)


def test_memory_options_do_not_change_what_a_run_is(recipe, examples):
    model = load_model(recipe)
    args = [model, several.stages(0), examples]
    keys = stage_keys(*args, recipe.train, "identity")
    assert keys == stage_keys(*args, recipe.train.model_copy(update={"gradient_checkpointing": True}), "identity")
    assert keys != stage_keys(*args, recipe.train, "identity", num_processes=2)


# -- four bits and bfloat16 ------------------------------------------------------------------------------------------


def test_without_bitsandbytes_four_bits_are_refused_before_a_model_is_loaded(recipe, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    elsewhere = recipe.model_copy(update={"backbone": recipe.backbone.model_copy(update={"tiny": False})})
    monkeypatch.setenv("LALM_HOME", str(tmp_path / "nothing"))
    with pytest.raises(MissingExtraError, match=r"bitsandbytes is needed for train\.load_in_4bit.*pip install"):
        load_model(with_train(elsewhere, load_in_4bit=True))


def test_a_device_that_cannot_do_four_bits_is_named():
    pytest.importorskip("bitsandbytes")
    with pytest.raises(ConfigError, match=r"cannot do this on a meta here\. It can on: .*cpu"):
        lean.check_4bit(torch.device("meta"))


def test_a_model_in_four_bits_trains_its_adapters(recipe, tmp_path):
    bitsandbytes = pytest.importorskip("bitsandbytes")
    cfg = with_train(recipe, load_in_4bit=True, learning_rate=1e-2)
    model = load_model(cfg)
    plain = load_model(recipe)
    parts = [name for group in ("llm.attention", "llm.mlp") for name in model.groups()[group]]
    assert parts == [name for group in ("llm.attention", "llm.mlp") for name in plain.groups()[group]]
    for name in parts:
        part, before = model.module.get_submodule(name).weight, plain.module.get_submodule(name).weight
        assert type(part) is bitsandbytes.nn.Params4bit
        assert part.numel() * 2 == before.numel()
        near = bitsandbytes.functional.dequantize_4bit(part.data, part.quant_state)
        assert float(torch.nn.functional.cosine_similarity(near.flatten(), before.flatten(), dim=0)) > 0.9
    assert model.identity["load_in_4bit"] == "nf4"
    run = train(cfg, tmp_path / "run", quiet=True)
    weights = load_file(run.adapter / ADAPTER_FILE)
    assert all(float(tensor.abs().max()) > 0 for tensor in weights.values())
    log = [json.loads(line) for line in run.log.read_text(encoding="utf-8").splitlines()]
    assert log[-1]["loss"] < 0.8 * log[0]["loss"]
    assert json.loads(run.info.read_text(encoding="utf-8"))["model"]["load_in_4bit"] == "nf4"


def test_full_tuning_of_four_bits_is_refused(recipe):
    pytest.importorskip("bitsandbytes")
    cfg = with_train(recipe, load_in_4bit=True).model_copy(
        update={"tuner": recipe.tuner.model_validate({"name": "full"})}
    )
    with pytest.raises(
        ConfigError, match=r"train\.load_in_4bit.*the tuner full trains the weights.*Use the tuner lora"
    ):
        attach(cfg, load_model(cfg))


def test_bfloat16_is_refused_where_it_is_not_native_and_before_a_model_is_loaded(recipe, tmp_path):
    if computes_in_bf16(torch.device("cpu")):
        assert uses_bf16(with_train(recipe, bf16=True).train, torch.device("cpu"))
        return
    with pytest.raises(ConfigError, match=r"train\.bf16: this machine's cpu does not compute in bfloat16"):
        train(with_train(recipe, bf16=True), tmp_path / "run", quiet=True)
    assert not Path(tmp_path / "run").exists()
