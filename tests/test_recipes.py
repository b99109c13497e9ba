"""Every recipe that users start from is run, in small: it trains, its loss falls, and the run can be judged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lalm import plugins
from lalm.config import load_recipe, read_yaml
from lalm.data.init import init_project
from lalm.evaluate.predict import predict_run
from lalm.study.check import check_recipe
from lalm.study.single import train

RECIPES = Path(__file__).parents[1] / "recipes"
NAMES = sorted(
    path.stem for path in RECIPES.glob("*.yaml") if "data" in read_yaml(path)
)  # `lalm align` reads the others


def test_all_recipes_are_found():
    assert NAMES == ["csv", "curriculum", "text_only"]


@pytest.mark.parametrize("name", NAMES)
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
