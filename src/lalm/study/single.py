"""One training run, from a recipe to a run folder."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lalm import plugins
from lalm.config import Recipe, as_written_now, to_yaml
from lalm.contracts import Model
from lalm.data.grammar import Grammar
from lalm.data.pools import LoadedPools, check_recordings, load_pools
from lalm.errors import ConfigError, UserError
from lalm.evaluate.predict import predict_rows, with_heard
from lalm.evaluate.score import score_rows
from lalm.records import Example
from lalm.rundir import RunDir, write_text
from lalm.study.processes import in_use
from lalm.train.distributed import team
from lalm.train.setup import (
    answers_obey,
    attach,
    check_machine,
    finish,
    load_model,
    make_examples,
    plan,
    task_examples,
    write_labels,
)
from lalm.train.unheard import used_rows, warn_of_unheard


def train(recipe: Recipe, out: Path, resume: bool = False, quiet: bool = False) -> RunDir:
    """Train what the recipe says into the folder `out`; a run that is finished already is left as it is.

    Raises UserError for a folder that holds something else or is in use, an empty pool, or anything wrong with data or
    model; the folder is written to only when all of that is right. Processes of `accelerate launch` call this alike.
    """
    with team().ending_together():
        return _train(recipe, RunDir(out), resume, quiet)


def _train(recipe: Recipe, run: RunDir, resume: bool, quiet: bool) -> RunDir:
    we, started = team(), time.monotonic()
    with we.main_first():
        check_folder(run, recipe, resume)
        finished = run.info.is_file()
        if not finished:
            pools = load_pools(recipe.data)
            check_recordings(pools)
            warn_of_unheard(recipe, used_rows(pools))
            examples = make_examples(recipe, pools)
            stages = plan(recipe, examples)
            check_machine(recipe.train)
            grammar = answers_obey(recipe, pools)
            model = load_model(recipe)
            trainable, identity = attach(recipe, model)
            evaluate, higher = dev_evaluation(recipe, model, pools, grammar)
    we.wait()  # nothing is written before all have looked
    if finished:
        return run
    from lalm.train.loop import fit  # torch; not needed to refuse a recipe or data that are wrong

    with in_use(run.root) if we.is_main else contextlib.nullcontext():
        if we.is_main:
            write_text(run.recipe, to_yaml(recipe))
            write_labels(run, recipe, pools)
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
        counts = {
            "steps": result.steps,
            "answer_tokens": result.answer_tokens,
            "best_step": result.best_step,
            "stopped_early": result.stopped_early,
            **getattr(model, "counts", {}),  # what the backbone's options changed in the data
        }
        finish(run, recipe, model, pools, stages, counts, started)
    return run


def asks_for_dev(recipe: Recipe, pools: LoadedPools) -> bool:
    """Whether the development set is answered while training.

    Raises ConfigError if that is asked for without a dev set, or early stopping without a metric to watch.
    """
    chosen, patience = recipe.train.metric_for_best_model, recipe.train.early_stopping_patience
    if patience is not None and chosen is None:
        raise ConfigError(
            "train.early_stopping_patience needs train.metric_for_best_model, the metric that it watches."
        )
    asked = chosen is not None or recipe.train.eval_steps is not None
    if asked and not pools.dev:
        key = "metric_for_best_model" if chosen else "eval_steps"
        raise ConfigError(f"train.{key} needs a development set, and the corpus has none.")
    return asked


def dev_evaluation(
    recipe: Recipe, model: Model, pools: LoadedPools, grammar: Grammar | None = None
) -> tuple[Callable[[], Mapping[str, float]] | None, bool]:
    """A function that gives the dev metrics and `loss`, or None if none is asked for; and the direction of the chosen metric.

    Raises ConfigError if one is asked for without a dev set, or early stopping without a metric to watch.
    """
    chosen = recipe.train.metric_for_best_model
    if not asks_for_dev(recipe, pools):
        return None, True
    names = tuple(dict.fromkeys([*recipe.evaluate.metrics, *([chosen] if chosen else [])]))
    dev = task_examples(recipe, pools.dev)

    def evaluate() -> dict[str, float]:
        mine = team().part(dev)
        answers = predict_rows(model, mine, recipe.evaluate, quiet=True, grammar=grammar)
        rows = team().together(with_heard(model, mine, answers))
        scores = score_rows(rows, names, num_resamples=1, seed=0)["metrics"]
        found = {name: scores[name]["value"] for name in names if scores[name]["value"] is not None}
        sums = team().gather(_summed_loss(model, mine, recipe.train.per_device_train_batch_size))
        sums = sums[:1] if len(mine) == len(dev) else sums  # all processes took all rows
        return {**found, "loss": sum(nll for nll, _ in sums) / max(1, sum(tokens for _, tokens in sums))}

    higher = plugins.load("metrics", chosen).HIGHER_IS_BETTER if chosen else True
    return evaluate, higher


def _summed_loss(model: Model, rows: Sequence[Example], num_at_once: int) -> tuple[float, int]:
    """Negative log-likelihood of the right answers to rows, summed, and the number of their tokens."""
    import torch

    nll, num_tokens = 0.0, 0
    with torch.no_grad():
        for start in range(0, len(rows), num_at_once):
            losses, tokens = model.loss(model.batch(rows[start : start + num_at_once]))
            nll, num_tokens = nll + float(losses.sum()), num_tokens + int(tokens.sum())
    return nll, num_tokens


def check_folder(run: RunDir, recipe: Recipe, resume: bool) -> None:
    """Raises UserError if the run folder is none, holds another run, or holds this one and it is not to be resumed."""
    out = run.root
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; a run needs a folder.")
    if run.recipe.is_file():
        there = run.recipe.read_text(encoding="utf-8")
        if run.labels.is_file():  # a run, not a recipe of the user's own that lies there
            there = as_written_now(there) or there
        if there != to_yaml(recipe):
            raise UserError(f"{out} already holds a run of another recipe. Choose another folder with --out.")
        if not resume:
            raise UserError(f"{out} already holds this run. Go on with --resume, or choose another folder with --out.")
    elif out.is_dir() and any(not path.name.startswith(".") for path in out.iterdir()):
        raise UserError(f"{out} is not empty and holds no run. Choose another folder with --out.")
