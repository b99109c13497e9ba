"""One loss: the mean over all answer tokens of a global batch, however it is cut, as plain torch computes it row by row."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import several
import torch
from safetensors.torch import load_file

from lalm.rundir import RunDir
from lalm.train.loop import fit
from lalm.train.optim import schedule
from lalm.train.setup import attach, load_model
from lalm.train.steps import plan_steps

CUTS = ((8, 1), (4, 2), (2, 4), (1, 8))  # rows a micro-batch, micro-batches a step
NAME = "lora"


def by_hand(cfg, pools, stages) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    """The same training written out: rows one by one, losses divided by the tokens of the step, torch's own AdamW."""
    model = load_model(cfg)
    trainable, _ = attach(cfg, model)
    parameters = [model.module.get_parameter(name) for name in trainable]
    steps = plan_steps(model, stages, pools, cfg.train)
    model.module.train()
    optimizer, stage_of_optimizer, lines = None, None, []
    for step in steps:
        stage = stages[step.stage]
        if step.stage != stage_of_optimizer:
            optimizer = torch.optim.AdamW(parameters, weight_decay=cfg.train.weight_decay)
            stage_of_optimizer = step.stage
        total = sum(other.stage == step.stage for other in steps)
        rate = cfg.train.learning_rate * stage.learning_rate_scale * schedule(cfg.train, stage, step.index, total)
        optimizer.param_groups[0]["lr"] = rate
        rows = [pools[pool][index] for micro in step.micro_batches for pool, index in micro]
        found = [model.loss(model.batch([row])) for row in rows]
        losses, tokens = [nll[0] for nll, _ in found], [int(number[0]) for _, number in found]
        line: dict[str, float] = {}
        for key in {"loss", *(f"loss/{row.modality}" for row in rows), *(f"loss/task/{row.task}" for row in rows)}:
            of_key = [key in ("loss", f"loss/{row.modality}", f"loss/task/{row.task}") for row in rows]
            nll = sum(float(loss.detach()) for loss, counts in zip(losses, of_key, strict=True) if counts)
            line[key] = nll / sum(number for number, counts in zip(tokens, of_key, strict=True) if counts)
        optimizer.zero_grad()
        (sum(losses) / sum(tokens)).backward()
        norm = torch.stack([p.grad.norm() for p in parameters if p.grad is not None]).norm()
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad *= min(1.0, cfg.train.max_grad_norm / float(norm + 1e-6))
        optimizer.step()
        lines.append({**line, "grad_norm": float(norm), "learning_rate": rate})
    return {name: p.detach().clone() for name, p in zip(trainable, parameters, strict=True)}, lines


@pytest.fixture(scope="module")
def expected(recipe, examples):
    cfg = several.prepared(recipe, NAME, 1)
    seed = several.RUNS[NAME][1]
    return by_hand(cfg, several.mixture(examples, seed), several.stages(seed))


def check(weights, lines, expected) -> None:
    for name, tensor in expected[0].items():
        assert torch.allclose(weights[name], tensor, atol=1e-4), name
    assert len(lines) == len(expected[1])
    for line, by_hand_line in zip(lines, expected[1], strict=True):
        assert {key for key in line if key.startswith("loss")} == {
            key for key in by_hand_line if key.startswith("loss")
        }
        assert {key: line[key] for key in by_hand_line} == pytest.approx(by_hand_line, rel=2e-3)


@pytest.mark.parametrize("cut", CUTS, ids=[f"{rows}x{number}" for rows, number in CUTS])
def test_micro_batches_change_nothing(cut, recipe, expected, tmp_path):
    size, accumulation = cut
    settings = {"per_device_train_batch_size": size, "gradient_accumulation_steps": accumulation}
    weights = several.run(several.prepared(recipe, NAME, 1, **settings), NAME, tmp_path)
    check(weights, [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()], expected)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_two_processes_change_nothing(strategy, two_processes, expected):
    weights = load_file(two_processes / f"{strategy}-{NAME}-0.safetensors")
    log = (two_processes / strategy / NAME / "log.jsonl").read_text()
    check(weights, [json.loads(line) for line in log.splitlines()], expected)


def test_a_mean_of_means_would_be_another_loss(recipe, examples, expected):
    """The rows' answers differ so much in length that the tests above would notice."""
    seed = several.RUNS[NAME][1]
    pools = several.mixture(examples, seed)
    model = load_model(several.prepared(recipe, NAME, 1))
    with torch.no_grad():
        found = [model.loss(model.batch([row])) for row in pools["text"][:8]]
    mean_of_means = sum(float(nll[0] / number[0]) for nll, number in found) / len(found)
    mean = sum(float(nll[0]) for nll, _ in found) / sum(int(number[0]) for _, number in found)
    assert abs(mean - mean_of_means) > 0.01 * mean


def test_weight_decay_leaves_out_what_a_step_did_not_use(recipe, examples, expected, tmp_path):
    """A step of sentences alone does not move the parts that hear, nor lets it their moments fade."""
    cfg = several.prepared(recipe, NAME, 1)
    pools = several.mixture(examples, several.RUNS[NAME][1])
    model = load_model(cfg)
    trainable, identity = attach(cfg, model)
    before = {name: model.module.get_parameter(name).detach().clone() for name in trainable}
    text = [replace(several.stages(0)[0], epochs=2)]
    fit(model, trainable, text, pools, cfg.train, RunDir(tmp_path), identity=identity, quiet=True)
    for name, tensor in before.items():
        moved = not torch.equal(tensor, model.module.get_parameter(name))
        assert moved == name.startswith("llm."), name
