"""`evaluate.constrained`: what a run keeps for it, that every way of answering obeys, and the mistakes of a recipe."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from tones import LOW

import lalm
from lalm.cli import main
from lalm.config import parse_recipe
from lalm.errors import ConfigError, DataError, UserError
from lalm.evaluate.predict import predict_run
from lalm.records import Frame
from lalm.rundir import RunDir
from lalm.study.single import train
from lalm.train import setup


def with_recipe(run: Path, copy: Path, **evaluate: Any) -> RunDir:
    """A copy of a run whose answers are asked for otherwise."""
    shutil.copytree(run, copy)
    there = RunDir(copy)
    recipe = yaml.safe_load(there.recipe.read_text())
    recipe["evaluate"].update(evaluate)
    there.recipe.write_text(yaml.safe_dump(recipe))
    for name in ("test", "test_free"):
        there.predictions(name).unlink(missing_ok=True)
    return there


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_taught_model_says_what_it_says_freely_and_is_never_cut_off(run: Path, tmp_path: Path):
    free = rows(predict_run(with_recipe(run, tmp_path / "free").root))
    held = with_recipe(run, tmp_path / "held", constrained=True, max_new_tokens=5)
    path = predict_run(held.root)
    assert path == held.predictions("test")
    assert [row["raw"] for row in rows(path)] == [row["raw"] for row in free]
    short = rows(held.predictions("test_free"))
    assert {row["status"] for row in short} == {"failed"}, "five tokens are no answer"
    assert lalm.load(str(held.root))(LOW) == Frame("on")
    out = tmp_path / "answers.jsonl"
    assert main(["predict", str(held.root), "--out", str(out)]) == 0
    assert [row["raw"] for row in rows(out)] == [row["raw"] for row in free]


def test_the_ontology_of_the_recipe_is_kept_and_obeyed(run: Path, tmp_path: Path):
    """Where `on` is no intent the taught model must say something else; the recipe's file may be gone by then."""
    named = tmp_path / "ontology.json"
    named.write_text('{"intents": ["off", "dim"]}')
    held = with_recipe(run, tmp_path / "held", constrained=True, ontology=str(named))
    assert {row["prediction"]["intent"] for row in rows(predict_run(held.root))} <= {"off", "dim"}
    named.rename(held.ontology)
    assert lalm.load(held.root)(LOW).intent in ("off", "dim")


@pytest.fixture
def values(corpus: Path) -> dict[str, Any]:
    return {
        "data": {"corpus": {"name": "barista", "test_size": 2}, "root": str(corpus)},
        "backbone": {"name": "smol", "tiny": True, "connector": "mlp"},
        "tuner": {"name": "lora", "r": 2},
        "scheme": {"name": "text_only", "num_train_epochs": 1},
        "train": {"per_device_train_batch_size": 8, "bf16": False},
        "evaluate": {"constrained": True, "ontology": "labels/ontology.json"},
    }


def test_a_run_keeps_what_bounds_its_answers(values, tmp_path: Path):
    (tmp_path / "labels").mkdir()
    ontology = {"intents": ["orderDrink"], "slots": {"size": {"values": ["large"], "closed": True}}}
    (tmp_path / "labels" / "ontology.json").write_text(json.dumps(ontology))
    recipe = parse_recipe(values, tmp_path)
    assert recipe.evaluate.ontology == tmp_path / "labels" / "ontology.json", "a path is relative to the recipe"
    run = train(recipe, tmp_path / "run", quiet=True)
    labels = json.loads(run.labels.read_text())
    assert set(labels) == {"intents", "slots", "most_slots", "null_intent"}
    assert json.loads(run.ontology.read_text()) == ontology
    shutil.rmtree(tmp_path / "labels")
    for row in rows(predict_run(run.root)):
        assert row["status"] == "ok"
        assert row["prediction"]["intent"] == "orderDrink"
        assert {(slot["type"], slot["value"]) for slot in row["prediction"]["slots"]} <= {("size", "large")}
    run.labels.write_text(json.dumps({"intents": [], "slots": {}}))
    with pytest.raises(DataError, match=r"labels\.json.*earlier releases"):
        predict_run(run.root)


def test_mistakes_are_named_before_a_model_is_loaded(values, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(setup, "load_model", None)
    with pytest.raises(ConfigError, match="evaluate: ontology is what constrained answers obey"):
        parse_recipe({**values, "evaluate": {"ontology": "o.json"}}, tmp_path)
    with pytest.raises(UserError, match=r"labels/ontology\.json: cannot be read"):
        train(parse_recipe(values, tmp_path), tmp_path / "run", quiet=True)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "ontology.json").write_text('{"slots": {}}')
    with pytest.raises(DataError, match="names no intent"):
        train(parse_recipe(values, tmp_path), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_task_that_teaches_other_answers_is_refused(values, tmp_path: Path):
    (tmp_path / "mine" / "tasks").mkdir(parents=True)
    (tmp_path / "mine" / "tasks" / "loud.py").write_text(
        '"""Shouts."""\n\nfrom dataclasses import replace\n\nfrom lalm.tasks import slu\n\nConfig = slu.Config\n\n\n'
        "def examples(item, cfg, rng):\n"
        "    return [replace(one, answer=one.answer.upper()) for one in slu.examples(item, cfg, rng)]\n"
    )
    wanted = {**values, "evaluate": {"constrained": True}, "task": "loud", "plugins": [str(tmp_path / "mine")]}
    with pytest.raises(ConfigError, match="the task loud teaches other answers"):
        train(parse_recipe(wanted, tmp_path), tmp_path / "run", quiet=True)
