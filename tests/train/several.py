"""Runs of the loop that are the same for one process and for each of several; started as a program by the tests."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors.torch import save_file

from lalm.config import Recipe, load_recipe
from lalm.data.pools import load_pools
from lalm.records import Example, Stage
from lalm.rundir import RunDir
from lalm.train.distributed import end, team
from lalm.train.engines import whole
from lalm.train.loop import fit
from lalm.train.setup import attach, load_model, make_examples

HEARING_TOO = ["llm.attention", "llm.mlp", "connector", "audio_encoder"]
WORDS_ONLY = ["llm.attention", "llm.mlp", "llm.norms", "llm.embeddings"]
TUNERS: dict[str, Any] = {
    "lora": {"name": "lora", "r": 4},
    "full": {"name": "full"},
    "last": {"name": "lora", "r": 4, "last_layers": 1},  # what the layers below make of a row is kept
}
BACKBONES: dict[str, Any] = {"native": {"name": "qwen2_audio", "tiny": True}}  # the others: the recipe's
# name -> tuner, seed of the mixture, settings of one process; several divide the accumulation among them
RUNS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "lora": ("lora", 1, {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}),
    "full": ("full", 2, {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}),
    "rows": ("lora", 3, {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 2}),
    "words": (
        "full",
        5,
        {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "groups": tuple(WORDS_ONLY)},
    ),
    "last": (
        "last",
        6,
        {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "groups": tuple(WORDS_ONLY[:2])},
    ),
    "native": (
        "lora",
        7,
        {
            "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 2,
            "groups": ("llm.attention", "llm.mlp", "connector"),
        },
    ),
    "wide": ("lora", 4, {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}),
}


def mixture(examples: dict[str, list[Example]], seed: int) -> dict[str, list[Example]]:
    """Many sentences of two tasks and few recordings, answers of very different lengths."""
    rng = Random(seed)
    pools: dict[str, list[Example]] = {"text": [], "speech": [], "synthetic": []}
    for pool, number in (("text", rng.randint(9, 13)), ("speech", rng.randint(2, 4))):
        for index in range(number):
            row = rng.choice(examples[pool])
            answer = row.answer * rng.choice((1, 1, 2)) if rng.random() < 0.6 else "{}"
            pools[pool].append(
                replace(row, id=f"{pool}-{index}", answer=answer, task=rng.choice(("slu", "other")), audio=row.audio)
            )
    return pools


def stages(seed: int) -> list[Stage]:
    """Sentences alone, then with recordings among them."""
    return [
        Stage("text", {"text": 1.0}, epochs=1),
        Stage("mixed", {"text": 1.0, "speech": 1.0 + seed % 2}, epochs=2, learning_rate_scale=0.6),
    ]


def prepared(recipe: Recipe, name: str, num_processes: int, **settings: Any) -> Recipe:
    """The recipe of a run, cut for so many processes."""
    tuner, _, cut = RUNS[name]
    cut = {**cut, "gradient_accumulation_steps": cut["gradient_accumulation_steps"] // num_processes}
    train = recipe.train.model_copy(
        update={
            "groups": tuple(HEARING_TOO),
            "learning_rate": 1e-2,
            "weight_decay": 0.01,
            "logging_steps": 1,
            **cut,
            **settings,
        }
    )
    backbone = recipe.backbone.model_validate(BACKBONES[name]) if name in BACKBONES else recipe.backbone
    tuned = recipe.tuner.model_validate(TUNERS[tuner])
    return recipe.model_copy(update={"train": train, "tuner": tuned, "backbone": backbone})


def run(recipe: Recipe, name: str, folder: Path, **options: Any) -> dict[str, torch.Tensor]:
    """Train in `folder`; the trained weights as this process has them in the end."""
    seed = RUNS[name][1]
    pools = mixture(make_examples(recipe, load_pools(recipe.data)), seed)
    model = load_model(recipe)
    trainable, identity = attach(recipe, model)
    folder.mkdir(parents=True, exist_ok=True)
    options = {"quiet": True, **options}
    fit(model, trainable, stages(seed), pools, recipe.train, RunDir(folder), identity=identity, **options)
    return {key: whole(model.module.get_parameter(key)).detach().cpu().contiguous() for key in trainable}


class BrokenOffError(Exception):
    """Stands for a process that ended in the middle."""


class Judge:
    """Development scores as the test wants them; `broken` says after how many calls the process ends."""

    def __init__(self, values: list[float], broken: int | None = None) -> None:
        self.values, self.broken = list(values), broken

    def __call__(self) -> dict[str, float]:
        if self.broken == 0:
            raise BrokenOffError
        self.broken = None if self.broken is None else self.broken - 1
        value = self.values.pop(0)
        return {"exact_match": value if team().is_main else 1.0 - value}  # the main process's word counts


JUDGED: dict[str, Any] = {
    "save_steps": 2,
    "save_total_limit": 1,
    "eval_steps": 1,
    "metric_for_best_model": "exact_match",
    "early_stopping_patience": 2,
}
SCORES = [0.1, 0.2, 0.9, 0.3, 0.2]  # the third is best; two without gain end the training


def main(recipe_file: Path, out: Path, strategies: list[str]) -> None:
    """For each way in which gradients meet: every run, one that is stopped early, and that one broken off and taken up."""
    recipe = load_recipe(recipe_file)
    for strategy in strategies:
        os.environ["ACCELERATE_USE_FSDP"] = str(strategy == "fsdp2").lower()
        team.cache_clear()
        we = team()
        assert (we.size, we.strategy) == (2, strategy), (we.size, we.strategy)

        def keep(name: str, weights: dict[str, torch.Tensor], we: Any = we) -> None:
            save_file(weights, out / f"{we.strategy}-{name}-{we.rank}.safetensors")

        for name in RUNS:
            keep(name, run(prepared(recipe, name, we.size), name, out / strategy / name))
        judged = prepared(recipe, "lora", we.size, **JUDGED)
        keep("whole", run(judged, "lora", out / strategy / "whole", evaluate=Judge(SCORES)))
        with contextlib.suppress(BrokenOffError):
            run(judged, "lora", out / strategy / "broken", evaluate=Judge(SCORES, broken=3))
        assert RunDir(out / strategy / "broken").checkpoints()[-1].name == "checkpoint-3"
        keep("broken", run(judged, "lora", out / strategy / "broken", evaluate=Judge(SCORES[3:]), resume=True))


if __name__ == "__main__":
    faulthandler.enable()  # where it aborts, if it does
    faulthandler.dump_traceback_later(int(sys.argv[4]), exit=True)  # where it hangs, if it does
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3].split(","))
    end(0)
