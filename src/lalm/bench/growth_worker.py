"""One point of a curve, in a process of its own: `python -m lalm.bench.growth_worker FILE`, the answer as JSON on its last line."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import soundfile
import torch

from lalm.bench.scenarios import RATE_HZ, SCENARIOS, WORDS, clip, material, of_length
from lalm.config import Recipe, parse_recipe
from lalm.data.manifest import write_manifest
from lalm.data.pools import load_pools
from lalm.records import Example, Frame, Slot, Stage, Utterance
from lalm.rundir import RunDir, read_json
from lalm.train.distributed import team
from lalm.train.loop import fit
from lalm.train.setup import attach, load_model, make_examples
from lalm.train.steps import plan_steps, stage_keys

STAGE = Stage("all", {"text": 1.0, "speech": 1.0}, epochs=1, warmup_ratio=0.0)


@dataclass(frozen=True)
class _Work:
    size: float
    tiny: bool
    folder: Path

    def recipe(self, batch_size: int) -> Recipe:
        """LoRA on `smol`; the manifest is `manifest.jsonl` of the folder."""
        backbone = {"name": "smol", "connector": {"name": "mlp"}, "tiny": self.tiny}
        train = {"per_device_train_batch_size": batch_size, "bf16": False, "save_steps": 10**6}
        data = {"corpus": "jsonl", "root": str(self.folder / "manifest.jsonl")}
        return parse_recipe(
            {"data": data, "backbone": backbone, "tuner": {"name": "lora"}, "train": train}, self.folder
        )

    def instruction(self, model: Any, num_tokens: int) -> str:
        count = lambda text: len(model.tokenizer(text, add_special_tokens=False)["input_ids"])  # noqa: E731
        return of_length(20 if self.tiny else num_tokens, count, Random(0))


def main(file: Path) -> None:
    """Measure the point that the file asks for (`growth.py` writes it)."""
    asked = read_json(file)
    torch.set_num_threads(asked["threads"])
    measure: dict[str, Callable[[_Work], dict[str, float]]] = {
        "rows": _rows,
        "clip": _clip,
        "labels": _labels,
        "processes": _processes,
    }
    seconds = measure[asked["curve"]](_Work(asked["size"], asked["tiny"], Path(asked["folder"])))
    if team().is_main:
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": seconds, "peak_mib": peak_mib}))


def _rows(work: _Work) -> dict[str, float]:
    """Written rows: reading and checking the manifest, and tokens, plan and the names of its stages, before the first step."""
    rng = Random(0)
    words = [" ".join(rng.choices(WORDS, k=rng.randint(4, 12))) for _ in range(int(work.size))]
    rows = [
        Utterance(str(number), text=text, frame=Frame("play", (Slot("what", text.split()[0]),)), split="train")
        for number, text in enumerate(words)
    ]
    write_manifest(work.folder / "manifest.jsonl", rows)
    recipe = work.recipe(8)
    model = load_model(recipe)
    _, identity = attach(recipe, model)
    begun = time.monotonic()
    examples = make_examples(recipe, load_pools(recipe.data))
    read = time.monotonic()
    steps = plan_steps(model, [STAGE], examples, recipe.train)
    stage_keys(model, [STAGE], examples, recipe.train, identity)
    assert sum(len(micro) for step in steps for micro in step.micro_batches) == len(rows)
    return {"manifest to examples": read - begun, "tokens and plan": time.monotonic() - read}


def _clip(work: _Work) -> dict[str, float]:
    """Clips of one length: a step when they are heard for the first time, a step afterwards, an answer each."""
    recipe = work.recipe(4)
    model = load_model(recipe)
    names, identity = attach(recipe, model)
    rows = []
    for number in range(4):
        path = work.folder / f"{number}.wav"
        soundfile.write(path, clip(work.size, np.random.default_rng(number)), RATE_HZ)
        rows.append(Example(str(number), work.instruction(model, 200), _answer(number), audio=path))
    train = lambda: _fit(work, recipe, model, names, identity, {"speech": rows})  # noqa: E731
    return {"first step": train(), "later steps": train(), "four answers": _answers(model, rows)}


def _labels(work: _Work) -> dict[str, float]:
    """Written rows whose prompt names so many labels."""
    recipe = work.recipe(8)
    model = load_model(recipe)
    names, identity = attach(recipe, model)
    rng = Random(0)
    labels = ", ".join(f"{rng.choice(WORDS)}_{rng.choice(WORDS)}" for _ in range(int(work.size)))
    rows = [
        Example(
            str(number), f"Name the intent, one of: {labels}", _answer(number), text=" ".join(rng.choices(WORDS, k=8))
        )
        for number in range(8)
    ]
    train = lambda: _fit(work, recipe, model, names, identity, {"text": rows})  # noqa: E731
    train()
    return {"a step": train(), "eight answers": _answers(model, rows)}


def _processes(work: _Work) -> dict[str, float]:
    """The same steps of 16 rows, like those of `short`, by so many processes of one thread each."""
    recipe = work.recipe(16 // int(work.size))
    model = load_model(recipe)
    names, identity = attach(recipe, model)
    scenario = replace(SCENARIOS["tiny" if work.tiny else "short"], batch_size=16, num_steps=2)
    made = lambda: material(  # noqa: E731
        work.folder, scenario, lambda text: len(model.tokenizer(text, add_special_tokens=False)["input_ids"])
    )
    if team().is_main:  # the others find its recordings
        made()
    team().wait()
    rows = made()
    train = lambda: _fit(work, recipe, model, names, identity, {"speech": rows})  # noqa: E731
    train()
    return {"two steps": train()}


def _fit(work: _Work, recipe: Recipe, model: Any, names: Sequence[str], identity: Any, pools: dict[str, Any]) -> float:
    """Seconds of one epoch; the last checkpoint, which is written once a run, is among them."""
    folder = work.folder / f"run-{time.monotonic_ns()}"
    if team().is_main:
        folder.mkdir()
    folder = team().from_main(folder)
    team().wait()
    begun = time.monotonic()
    fit(model, names, [STAGE], pools, recipe.train, RunDir(folder), identity=identity, quiet=True)
    return time.monotonic() - begun


def _answers(model: Any, rows: Sequence[Example]) -> float:
    begun = time.monotonic()
    model.generate(rows, 40, min_new_tokens=40)
    return time.monotonic() - begun


def _answer(number: int) -> str:
    return json.dumps({"intent": WORDS[number % len(WORDS)], "slots": []})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
