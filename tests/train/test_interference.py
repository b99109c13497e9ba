"""Cosines between the gradients of tasks: against gradients summed row by row, and where they stand in a run's log."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from lalm import plugins
from lalm.config import parse_recipe
from lalm.data.pools import load_pools
from lalm.records import Example, Stage
from lalm.rundir import RunDir
from lalm.train.interference import NUM_ROWS, fixed_rows, gradient_cosines
from lalm.train.loop import fit
from lalm.train.setup import attach, load_model, make_examples, plan


def rows(task: str, number: int, modality: str = "text") -> list[Example]:
    audio = Path("a.wav") if modality == "speech" else None
    return [Example(f"{task}-{modality}-{i}", "do", "yes", text="words", audio=audio, task=task) for i in range(number)]


def at_once(number: int) -> Any:
    """Cuts rows into portions of so many."""
    return lambda some: [some[start : start + number] for start in range(0, len(some), number)]


# -- by hand -----------------------------------------------------------------------------------------------------------


@dataclass
class Line:
    """A model of two weights whose loss of a row is their product with the row's own direction."""

    directions: dict[str, tuple[float, float]]
    module: nn.Module = field(default_factory=lambda: nn.Linear(2, 1, bias=False))

    def batch(self, examples: Any) -> Any:
        return torch.tensor([self.directions[example.id] for example in examples], dtype=torch.float)

    def loss(self, batch: Any) -> Any:
        return self.module(batch)[:, 0], torch.ones(len(batch), dtype=torch.long)


def test_directions_known_by_hand_come_out_as_their_cosines():
    tasks = {"a": rows("a", 2), "b": rows("b", 2), "c": rows("c", 4)}
    ways = {"a": [(1, 0), (1, 0)], "b": [(-3, 3), (0, 0)], "c": [(0, 1), (0, -1), (1, 0), (1, 0)]}
    model = Line({row.id: way for task, members in tasks.items() for row, way in zip(members, ways[task], strict=True)})
    found = gradient_cosines(model, list(model.module.parameters()), tasks, at_once(3))
    # halves are every second row: of c they are (0, 1) + (1, 0) and (0, -1) + (1, 0)
    assert found == {
        "cosine/a/a": 1.0,
        "cosine/c/c": 0.0,
        "cosine/a/b": pytest.approx(-(0.5**0.5), abs=1e-4),
        "cosine/a/c": pytest.approx(1.0),
        "cosine/b/c": pytest.approx(-(0.5**0.5), abs=1e-4),
    }, "b/b has a half without a direction"
    assert gradient_cosines(model, list(model.module.parameters()), {"a": tasks["a"]}, at_once(3)) == {}


def test_rows_are_fixed_spoken_where_they_can_be_and_not_too_many():
    pools = {
        "text": rows("main", 40),
        "speech": rows("main", 3, "speech"),
        "text:extra": rows("extra", 40),
        "text:lone": rows("lone", 1),
        "text:unused": rows("unused", 5),
    }
    stage = Stage(
        "all", {"text": 1.0, "speech": 1.0, "text:extra": 0.1, "text:lone": 1.0, "text:unused": 0.0}, epochs=1
    )
    found = fixed_rows(stage, pools, seed=0)
    assert found == fixed_rows(stage, pools, seed=0)
    assert {task: len(members) for task, members in found.items()} == {"main": 3, "extra": NUM_ROWS}
    assert all(row.modality == "speech" for row in found["main"])
    assert found["extra"] != fixed_rows(stage, pools, seed=1)["extra"]
    written = replace(stage, passes={"text": 1.0})
    assert all(row.modality == "text" for row in fixed_rows(written, pools, 0)["main"])


# -- a real model ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def several(corpus):
    """A recipe of two auxiliary tasks on barista's tiny corpus."""
    return parse_recipe(
        {
            "data": {"corpus": {"name": "barista", "test_size": 2}, "root": str(corpus), "speech_share": 1.0},
            "backbone": {"name": "smol", "tiny": True, "connector": "mlp"},
            "tuner": {"name": "lora", "r": 4, "lora_dropout": 0.3},
            "scheme": {"name": "multitask", "tasks": {"intent_only": 1.0, "slots_only": 0.5}},
            "train": {"per_device_train_batch_size": 4, "logging_steps": 2, "bf16": False, "learning_rate": 1e-2},
        },
        corpus,
    )


@pytest.fixture(scope="module")
def trained(several, tmp_path_factory) -> SimpleNamespace:
    run = RunDir(tmp_path_factory.mktemp("run"))
    examples = make_examples(several, load_pools(several.data))
    stages = plan(several, examples)
    model = load_model(several)
    names, identity = attach(several, model)
    fit(model, names, stages, examples, several.train, run, identity=identity, quiet=True)
    log = [json.loads(line) for line in run.log.read_text(encoding="utf-8").splitlines()]
    return SimpleNamespace(model=model, names=names, stages=stages, examples=examples, log=log)


def test_cosines_are_those_of_gradients_that_autograd_gives_row_by_row(trained, several):
    model, parameters = trained.model, dict(trained.model.module.named_parameters())
    weights = [parameters[name] for name in trained.names]
    chosen = fixed_rows(trained.stages[-1], trained.examples, several.train.seed)
    assert set(chosen) == {"slu", "intent_only", "slots_only"}

    def gradient(members):
        for weight in weights:
            weight.grad = None
        for row in members:
            model.loss(model.batch([row]))[0].sum().backward()
        made = torch.cat([torch.zeros(w.numel()) if w.grad is None else w.grad.flatten().clone() for w in weights])
        for weight in weights:
            weight.grad = None
        return made.double()

    model.module.eval()
    model.module.train()
    found = gradient_cosines(model, weights, chosen, at_once(3))
    assert model.module.training, "the mode is what it was"
    assert all(weight.grad is None for weight in weights)
    model.module.eval()
    for a in chosen:
        for b in chosen:
            if f"cosine/{a}/{b}" in found and a != b:
                by_hand = torch.cosine_similarity(gradient(chosen[a]), gradient(chosen[b]), dim=0)
                assert found[f"cosine/{a}/{b}"] == pytest.approx(float(by_hand), abs=2e-3)
        halves = [gradient(chosen[a][start::2]) for start in (0, 1)]
        assert found[f"cosine/{a}/{a}"] == pytest.approx(float(torch.cosine_similarity(*halves, dim=0)), abs=2e-3)
    assert len(found) == 6
    assert len({round(value, 2) for value in found.values()}) > 3


def test_the_log_holds_them_at_the_end_of_each_stage_and_losses_by_task_throughout(trained):
    with_cosines = [row for row in trained.log if any(key.startswith("cosine/") for key in row)]
    ends = {row["stage"]: row["step"] for row in trained.log}
    assert [(row["stage"], row["step"]) for row in with_cosines] == list(ends.items())
    assert list(ends) == ["text", "mixed"]
    assert all("loss" in row for row in with_cosines)
    seen = {key for row in trained.log for key in row if key.startswith("loss/task/")}
    assert seen == {"loss/task/slu", "loss/task/intent_only", "loss/task/slots_only"}


def test_measuring_changes_neither_weights_nor_what_is_drawn_at_random(trained, several):
    parameters = dict(trained.model.module.named_parameters())
    weights = [parameters[name] for name in trained.names]
    before, drawn = [weight.detach().clone() for weight in weights], torch.get_rng_state()
    trained.model.module.train()
    chosen = fixed_rows(trained.stages[-1], trained.examples, several.train.seed)
    first = gradient_cosines(trained.model, weights, chosen, at_once(16))
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(weight, old) for weight, old in zip(weights, before, strict=True))
    assert gradient_cosines(trained.model, weights, chosen, at_once(5)) == pytest.approx(first, abs=1e-3), (
        "without dropout, whatever is computed at once"
    )


def test_a_run_of_one_task_has_no_cosines(several, tmp_path):
    one = several.model_copy(update={"scheme": plugins.load("schemes", "multitask").Config().base})
    examples = make_examples(one, load_pools(one.data))
    model = load_model(one)
    names, identity = attach(one, model)
    run = RunDir(tmp_path)
    fit(model, names, plan(one, examples)[:1], examples, one.train, run, identity=identity, quiet=True)
    assert "cosine" not in run.log.read_text(encoding="utf-8")
