"""One run of a study, in a process of its own: train, answer the test set, score."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from lalm.config import Recipe, load_recipe
from lalm.contracts import Model
from lalm.cores import end_with_parent
from lalm.data.dialogue import example_in_writing
from lalm.data.pools import load_pools
from lalm.errors import UserError
from lalm.evaluate.predict import predict_rows, run_grammar, scores_of, with_heard
from lalm.records import Example
from lalm.rundir import RunDir, write_json, write_jsonl
from lalm.train.checkpoint import load_trained
from lalm.train.loop import fit
from lalm.train.setup import attach, finish, load_model, make_examples, plan, task_examples, write_labels


class SharedStages:
    """Weights after a stage, by the content that made them; written whole, read by every run of the study."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, key: str) -> dict[str, torch.Tensor] | None:
        """The weights, or None if no run has made them yet (or the file is damaged: it is made anew)."""
        path = self._folder / f"{key}.safetensors"
        if not path.is_file():
            return None
        try:
            return load_file(path)
        except (SafetensorError, OSError):
            path.unlink(missing_ok=True)
            return None

    def save(self, key: str, state: dict[str, torch.Tensor]) -> None:
        """Keep the weights of a stage."""
        self._folder.mkdir(parents=True, exist_ok=True)
        part = self._folder / f".{key}.{os.getpid()}.part"
        try:
            save_file(state, part)
            os.replace(part, self._folder / f"{key}.safetensors")
        except (OSError, SafetensorError) as error:
            with contextlib.suppress(OSError):
                part.unlink()
            raise UserError(f"{self._folder}: a shared stage cannot be written ({error}).") from error


def work(study: Path, name: str, oracle_text: bool) -> None:
    """Train and judge the run `name`; its folder holds the recipe already. Done when `scores/test.json` stands.

    A run whose training is finished (`run.json` stands) is judged with the weights that it left.
    """
    run = RunDir(study / "runs" / name)
    recipe = load_recipe(run.recipe)
    started = time.monotonic()
    pools = load_pools(recipe.data)
    model = load_model(recipe)
    trainable, identity = attach(recipe, model)
    write_labels(run, recipe, pools)
    if run.info.is_file():
        load_trained(model, run.adapter)
    else:
        examples = make_examples(recipe, pools)
        stages = plan(recipe, examples)
        result = fit(
            model,
            trainable,
            stages,
            examples,
            recipe.train,
            run,
            identity=identity,
            resume=True,
            store=SharedStages(study / "stages"),
            quiet=True,
        )
        counts = {"steps": result.steps, "shared_steps": result.shared_steps, "answer_tokens": result.answer_tokens}
        finish(run, recipe, model, pools, stages, counts, started)
    judge(run, recipe, model, task_examples(recipe, pools.test), oracle_text)


def judge(run: RunDir, recipe: Recipe, model: Model, test: Sequence[Example], oracle_text: bool) -> None:
    """Predictions and scores of the test set, and of its transcripts if they are asked for and all there.

    Where answers obey a grammar, the test set is answered freely as well (`test_free`). `scores/test.json` comes last.
    """
    grammar = run_grammar(run, recipe.evaluate)
    written = [said for said in map(example_in_writing, test) if said is not None]
    if oracle_text and len(written) == len(test):
        rows = predict_rows(model, written, recipe.evaluate, quiet=True, grammar=grammar)
        write_jsonl(run.predictions("oracle_text"), rows)
        write_json(run.scores("oracle_text"), scores_of(rows, recipe.evaluate))
    for name, obeyed in (*([("test_free", None)] if grammar is not None else []), ("test", grammar)):
        rows = with_heard(model, test, predict_rows(model, test, recipe.evaluate, quiet=True, grammar=obeyed))
        write_jsonl(run.predictions(name), rows)
        write_json(run.scores(name), scores_of(rows, recipe.evaluate))


def main(study: Path, name: str, oracle_text: bool, threads: int) -> None:
    """`work` as a process: what it says goes to `worker.log`, a user's mistake is exit code 2."""
    end_with_parent()
    with (study / "runs" / name / "worker.log").open("wb", buffering=0) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    torch.set_num_threads(threads)
    try:
        work(study, name, oracle_text)
    except UserError as error:
        print(f"lalm: {error}", file=sys.stderr, flush=True)
        sys.exit(2)
