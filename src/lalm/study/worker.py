"""One run of a study, in a process of its own: train, answer the test set, score."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from lalm.config import load_recipe
from lalm.data.pools import load_pools
from lalm.errors import UserError
from lalm.evaluate.predict import predict_rows, scores_of
from lalm.records import Example
from lalm.rundir import RunDir, write_json, write_jsonl
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
    """Train and judge the run `name`; its folder holds the recipe already. Done when `scores/test.json` stands."""
    run = RunDir(study / "runs" / name)
    recipe = load_recipe(run.recipe)
    started = time.monotonic()
    pools = load_pools(recipe.data)
    examples = make_examples(recipe, pools)
    stages = plan(recipe, examples)
    model = load_model(recipe)
    trainable, identity = attach(recipe, model)
    write_labels(run, pools)
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
    finish(run, recipe, model, pools, counts, started)
    test = task_examples(recipe, pools.test)
    heard = getattr(model, "heard", None)
    rows = predict_rows(model, test, recipe.evaluate, quiet=True)
    if heard is not None:
        rows = [{**row, "heard": words} for row, words in zip(rows, heard(test), strict=True)]
    write_jsonl(run.predictions("test"), rows)
    if oracle_text and pools.test and all(row.text for row in pools.test):
        written = [Example(**{**example.__dict__, "audio": None}) for example in test]
        oracle = predict_rows(model, written, recipe.evaluate, quiet=True)
        write_jsonl(run.predictions("oracle_text"), oracle)
        write_json(run.scores("oracle_text"), scores_of(oracle, recipe.evaluate))
    write_json(run.scores("test"), scores_of(rows, recipe.evaluate))


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    try:
        work(Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "1")
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
