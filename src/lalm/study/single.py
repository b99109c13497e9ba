"""One training run, from a recipe to a run folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from lalm import plugins
from lalm.config import Recipe, to_yaml
from lalm.contracts import Model
from lalm.data.pools import LoadedPools, load_pools
from lalm.errors import ConfigError, UserError
from lalm.evaluate.predict import predict_rows
from lalm.evaluate.score import score_rows
from lalm.rundir import RunDir, write_text
from lalm.train.loop import fit
from lalm.train.setup import attach, finish, load_model, make_examples, plan, task_examples, write_labels


def train(recipe: Recipe, out: Path, resume: bool = False, quiet: bool = False) -> RunDir:
    """Train what the recipe says into the folder `out`.

    Raises UserError for a folder that already holds another run, an empty pool, or anything wrong with data or model.
    """
    run = open_run(recipe, out, resume)
    started = time.monotonic()
    pools = load_pools(recipe.data)
    examples = make_examples(recipe, pools)
    stages = plan(recipe, examples)
    model = load_model(recipe)
    trainable, identity = attach(recipe, model)
    write_labels(run, pools)
    evaluate, higher = dev_evaluation(recipe, model, pools)
    result = fit(
        model,
        trainable,
        stages,
        examples,
        recipe.train,
        run,
        identity=identity,
        resume=resume,
        evaluate=evaluate,
        higher_is_better=higher,
        quiet=quiet,
    )
    finish(run, recipe, model, pools, {"steps": result.steps, "answer_tokens": result.answer_tokens}, started)
    return run


def dev_evaluation(recipe: Recipe, model: Model, pools: LoadedPools) -> tuple[Callable[[], Mapping[str, float]] | None, bool]:
    """A function that gives the dev metrics, or None if there is no dev set; and the direction of the chosen metric."""
    chosen = recipe.train.metric_for_best_model
    if not pools.dev:
        if chosen or recipe.train.early_stopping_patience:
            raise ConfigError(
                "train.metric_for_best_model and early_stopping_patience need a development set, and the corpus has none."
            )
        return None, True
    if chosen is None and recipe.train.eval_steps is None:
        return None, True
    names = tuple(dict.fromkeys([*recipe.evaluate.metrics, *([chosen] if chosen else [])]))
    dev = task_examples(recipe, pools.dev)

    def evaluate() -> dict[str, float]:
        rows = predict_rows(model, dev, recipe.evaluate, quiet=True)
        scores = score_rows(rows, names, num_resamples=1, seed=0)["metrics"]
        return {name: scores[name]["value"] for name in names if scores[name]["value"] is not None}

    higher = plugins.load("metrics", chosen).HIGHER_IS_BETTER if chosen else True
    return evaluate, higher


def open_run(recipe: Recipe, out: Path, resume: bool) -> RunDir:
    """The run folder, with the resolved recipe in it."""
    run = RunDir(out)
    text = to_yaml(recipe)
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; a run needs a folder.")
    if run.recipe.is_file():
        if run.recipe.read_text(encoding="utf-8") != text:
            raise UserError(f"{out} already holds a run of another recipe. Choose another folder with --out.")
        if not resume:
            raise UserError(f"{out} already holds this run. Go on with --resume, or choose another folder with --out.")
    elif any(out.iterdir()) if out.is_dir() else False:
        raise UserError(f"{out} is not empty and holds no run. Choose another folder with --out.")
    write_text(run.recipe, text)
    return run
