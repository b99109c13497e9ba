"""Every recipe that users start from is run, in small: it trains, its loss falls, and the run can be judged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lalm import plugins
from lalm.config import load_recipe, read_yaml
from lalm.data.init import init_project
from lalm.evaluate.predict import predict_run
from lalm.study.check import check_recipe
from lalm.study.single import train
from lalm.train.setup import load_model

RECIPES = Path(__file__).parents[1] / "recipes"
NAMES = sorted(
    path.stem for path in RECIPES.glob("*.yaml") if "data" in read_yaml(path)
)  # `lalm align` reads the others


def test_all_recipes_are_found():
    assert NAMES == ["csv", "curriculum", "qwen2_audio_slurp", "text_only"]


@pytest.mark.parametrize("name", ["transfer/english_to_french", "transfer/sentences", "questions/texts"])
def test_recipes_over_several_corpora_name_folders_of_the_checkout(name):
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    assert recipe.data.root == RECIPES.parent
    for part in recipe.data.corpus.options["parts"].values():
        options = {key: value for key, value in part["corpus"].items() if key != "name"}
        plugins.configure(plugins.load("corpora", part["corpus"]["name"]), options, "corpus")
        inside = not part["root"].startswith(("..", "out/"))
        assert not inside or (RECIPES.parent / part["root"]).is_dir()


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"qwen2_audio_slurp"}))
def test_a_recipe_trains_and_its_run_answers_the_test_set(name, tmp_path):
    path = RECIPES / f"{name}.yaml"
    corpus = load_recipe(path).data.corpus.name
    plugins.load("corpora", corpus).make_tiny(tmp_path / "corpus", seed=0)
    small = ["backbone.tiny=true", "train.learning_rate=0.02", "train.per_device_train_batch_size=2"]
    small += ["train.logging_steps=1", "evaluate.max_new_tokens=8", f"data.root={tmp_path / 'corpus'}"]
    recipe = load_recipe(path, small)
    run = train(recipe, tmp_path / "run", quiet=True)
    info = json.loads(run.info.read_text(encoding="utf-8"))
    log = [json.loads(line) for line in run.log.read_text(encoding="utf-8").splitlines()]
    losses = [row["loss"] for row in log if "loss" in row]
    assert info["num_text"] == 6
    assert info["num_speech"] == (0 if name == "text_only" else 2)
    assert len(losses) == info["steps"]
    assert sum(losses[-3:]) < 0.7 * sum(losses[:3])  # it learns, and by more than chance
    rows = predict_run(run.root).read_text(encoding="utf-8").splitlines()
    assert len(rows) == 2
    assert f"{info['steps']} steps" in check_recipe(recipe)


def test_the_study_s_curriculum_runs_on_slurp_s_own_layout(tmp_path):
    plugins.load("corpora", "slurp").make_tiny(tmp_path / "slurp", seed=0)
    as_it_is = load_recipe(RECIPES / "qwen2_audio_slurp.yaml")
    assert as_it_is.train.per_device_train_batch_size * as_it_is.train.gradient_accumulation_steps == 128
    small = [
        "backbone.tiny=true",
        f"data.root={tmp_path / 'slurp'}",
        "data.speech_share=0.5",
        "train.learning_rate=0.01",
    ]
    small += ["train.per_device_train_batch_size=2", "train.gradient_accumulation_steps=2", "train.logging_steps=1"]
    small += ["evaluate.max_new_tokens=4", "train.bf16=false", "backbone.max_audio_s=0.4"]
    recipe = load_recipe(RECIPES / "qwen2_audio_slurp.yaml", small)
    run = train(recipe, tmp_path / "run", quiet=True)
    info = json.loads(run.info.read_text(encoding="utf-8"))
    log = [json.loads(line) for line in run.log.read_text(encoding="utf-8").splitlines()]
    assert (info["num_text"], info["num_speech"], info["model"]["backbone"]) == (4, 2, "qwen2_audio")
    assert info["recordings_cut"] == 2  # half a second each
    stages = [row["stage"] for row in log]
    assert stages == ["text"] * 2 + ["mixed"] * 3  # 2 epochs of 4 sentences; 4 sentences and 2 recordings three times
    assert ["loss/speech" in row for row in log] == [stage == "mixed" for stage in stages]
    assert all("loss/text" in row for row in log[:2])
    rates = {stage: max(row["learning_rate"] for row in log if row["stage"] == stage) for stage in set(stages)}
    assert rates["mixed"] < rates["text"] <= 0.01
    assert log[-1]["loss"] < log[0]["loss"]
    before = dict(load_model(recipe).module.named_parameters())
    trained = load_file(run.adapter / "trained.safetensors")
    assert all(name.startswith(("model.language_model.", "lm_head.")) for name in trained)
    assert sum(not torch.equal(before[name], value) for name, value in trained.items()) == len(trained)
    assert len(predict_run(run.root).read_text(encoding="utf-8").splitlines()) == 4
    assert "audio_encoder" in check_recipe(recipe)


def test_what_init_writes_is_trained_and_checked(tmp_path):
    plugins.load("corpora", "csv").make_tiny(tmp_path, seed=0)
    init_project(tmp_path / "labels.csv", tmp_path / "audio", tmp_path / "out")
    recipe = load_recipe(tmp_path / "out" / "recipe.yaml", ["backbone.tiny=true", "evaluate.max_new_tokens=8"])
    said = check_recipe(recipe)
    assert "speech     2 recordings, 1 s, 2 speakers (of a pool of 2, 1 s)" in said
    run = train(recipe, tmp_path / "run", quiet=True)
    info = json.loads(run.info.read_text(encoding="utf-8"))
    assert (info["num_text"], info["num_speech"]) == (6, 2)
    assert len(predict_run(run.root).read_text(encoding="utf-8").splitlines()) == 2
