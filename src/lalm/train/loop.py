"""The training loop, the only one. What differs between methods is the plan (stages), a module or an option."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from lalm.config import TrainSection
from lalm.contracts import Model
from lalm.errors import ConfigError, UserError
from lalm.models.half import TrainingAutocast
from lalm.records import Example, Stage
from lalm.rundir import RunDir
from lalm.train import checkpoint
from lalm.train.distributed import Alone, team
from lalm.train.engines import Engine
from lalm.train.hearing import hear_ahead
from lalm.train.interference import fixed_rows, gradient_cosines
from lalm.train.launch import engine_for
from lalm.train.log import TrainLog
from lalm.train.memory import WHOLE_IN_EACH, portions, ran_out, used_rows
from lalm.train.optim import schedule, uses_bf16
from lalm.train.steps import names_of_stage, plan_steps, stage_keys

Evaluate = Callable[[], Mapping[str, float]]


class StageStore(Protocol):
    """Where finished stages are shared by content (a study has one)."""

    def load(self, key: str) -> dict[str, torch.Tensor] | None: ...

    def save(self, key: str, state: dict[str, torch.Tensor]) -> None: ...


@dataclass(frozen=True)
class FitResult:
    """`steps` optimizer steps in all, of which `shared_steps` were taken over from a shared stage.

    `answer_tokens` counts the tokens that the loss was taken on in the other steps.
    """

    steps: int
    shared_steps: int
    answer_tokens: int
    best_step: int | None
    stopped_early: bool


def fit(
    model: Model,
    trainable: Sequence[str],
    stages: Sequence[Stage],
    pools: Mapping[str, Sequence[Example]],
    cfg: TrainSection,
    run: RunDir,
    *,
    identity: Any,
    resume: bool = False,
    store: StageStore | None = None,
    evaluate: Evaluate | None = None,
    higher_is_better: bool = True,
    quiet: bool = False,
) -> FitResult:
    """Train `trainable` parameters of `model` through `stages` and leave the model as training ended.

    The loss of an optimizer step is the mean negative log-likelihood over all answer tokens of the step, whatever the
    micro-batches and processes: gradients of sums are added up and divided once. `identity` is everything else that the
    weights depend on (model, tuner); with the rows' content it names stages that runs of a study share through `store`.

    Several processes (`distributed`) call this alike and take the same steps; the main one alone writes and speaks.

    Raises UserError for an empty plan, rows that cannot be used, a checkpoint of another plan, or divergence.
    """
    # 1. the plan, step by step
    we = team()
    hear_ahead(model, we.part(used_rows(stages, pools)), quiet or not we.is_main)
    we.wait()
    with we.main_first():
        steps = plan_steps(model, stages, pools, cfg, we.size)
    steps = we.from_main(steps)
    total = len(steps)
    if total == 0:
        raise ConfigError("The plan holds no rows: neither text nor recordings are left for any stage.")
    stage_steps = Counter(step.stage for step in steps)
    names_of = [names_of_stage(model, trainable, stage) for stage in stages]
    keys = we.from_main(stage_keys(model, stages, pools, cfg, identity, we.size))

    # 2. where to begin: a checkpoint, a shared stage, or the first step
    state, found = _beginning(model, run, keys, [step.stage for step in steps], resume, store)
    position = state["step"]

    # 3. the steps
    engine = engine_for(we, model, trainable)
    parameters = dict(model.module.named_parameters())
    trained = [parameters[name] for name in trainable]
    model.module.train()
    log = TrainLog(run, total, position, quiet, we)
    optimizer, current_stage = None, -1
    bf16 = uses_bf16(cfg, trained[0].device)
    keep = we.strategy in WHOLE_IN_EACH and not cfg.gradient_checkpointing
    autocast = TrainingAutocast(model.module, bf16, keep)
    at_once = portions(model, trainable, used_rows(stages, pools), cfg, bf16, we)
    for number in range(position, total if not state["stopped"] else position):
        step, stage = steps[number], stages[steps[number].stage]
        if step.stage != current_stage or optimizer is None:
            # 3a. every stage has its own optimizer, schedule and randomness; a checkpoint brings back those it left off in
            optimizer = engine.optimizer([parameters[name] for name in names_of[step.stage]], cfg.weight_decay)
            current_stage = step.stage
            torch.manual_seed(cfg.seed * 1000 + step.stage)
            if found is not None and number == position and step.index > 0:
                engine.load_progress(optimizer, checkpoint.load_progress(found))
        engine.seed(cfg.seed, step.stage, step.index)
        rate = cfg.learning_rate * stage.learning_rate_scale * schedule(cfg, stage, step.index, stage_steps[step.stage])
        for group in optimizer.param_groups:
            group["lr"] = rate

        # 3b. sums of gradients over the micro-batches, divided once by the answer tokens of the whole step
        told = None
        while told is None:
            try:
                told = _gradients(engine, at_once.cut(engine.share(step.micro_batches), pools), autocast)
            except (RuntimeError, MemoryError) as error:
                if not ran_out(error):
                    raise
                at_once.halve(error)  # or this ends; the step is begun anew outside, where the error holds no tensors
                for parameter in trained:
                    parameter.grad = None
        for examples, nll, tokens in told:
            log.rows(examples, nll, tokens)
        num_tokens = engine.total(sum(sum(tokens) for _, _, tokens in told))
        norm = engine.step(optimizer, num_tokens, cfg.max_grad_norm)
        if not math.isfinite(norm):
            raise UserError(
                f"Training diverged at step {number + 1} (gradient norm {norm}). "
                f"Lower train.learning_rate (now {cfg.learning_rate}) and try again."
            )
        for parameter in trained:
            parameter.grad = None

        # 3c. log, evaluate, save
        done = number + 1
        state.update(step=done, answer_tokens=state["answer_tokens"] + num_tokens)
        stage_ends = done == total or steps[done].stage != step.stage
        if done % cfg.logging_steps == 0 or stage_ends:
            cosines: Mapping[str, float] = {}
            if stage_ends and we.strategy in WHOLE_IN_EACH:
                with autocast:
                    cosines = gradient_cosines(model, trained, fixed_rows(stage, pools, cfg.seed), at_once.of)
            log.line(done, stage.name, learning_rate=rate, grad_norm=round(norm, 4), **cosines)
        if stage_ends and store is not None and done < total:
            weights = checkpoint.trained_state(model)
            if we.is_main:
                store.save(keys[step.stage], weights)
        improved = False
        if evaluate is not None and (stage_ends or (cfg.eval_steps and done % cfg.eval_steps == 0)):
            improved = _judge(model, engine, we, evaluate, cfg, state, log, stage.name, higher_is_better)
        if improved or state["stopped"] or done % cfg.save_steps == 0 or (done == total and store is None):
            checkpoint.save_checkpoint(run, done, model, engine.progress(optimizer), state, cfg.save_total_limit)
        if state["stopped"]:
            break

    # 4. the best checkpoint, if one was asked for
    if state["best_step"]:
        checkpoint.load_trained(model, run.checkpoint(state["best_step"]))
    model.module.eval()
    return FitResult(state["step"], state["shared_steps"], state["answer_tokens"], state["best_step"], state["stopped"])


def _gradients(
    engine: Engine,
    portions: Sequence[tuple[Sequence[Example], bool]],
    autocast: TrainingAutocast,
) -> list[tuple[Sequence[Example], list[float], list[int]]]:
    """Add up the gradients of a step; the rows that count, with their summed losses and numbers of answer tokens."""
    told = []
    for turn, (examples, counts) in enumerate(portions, 1):
        with autocast:
            nll, tokens = engine.loss(examples)
        engine.backward(nll.sum() if counts else 0.0 * nll.sum(), turn == len(portions))
        if counts:
            told.append((examples, nll.tolist(), tokens.tolist()))
    return told


def _beginning(
    model: Model,
    run: RunDir,
    keys: Sequence[str],
    stage_of_step: Sequence[int],
    resume: bool,
    store: StageStore | None,
) -> tuple[dict[str, Any], Path | None]:
    """Weights to begin with are loaded; the state of the run there, and the checkpoint that it is from, if any.

    Raises UserError for a checkpoint of another plan.
    """
    state: dict[str, Any] = {
        "plan": keys[-1],
        "step": 0,
        "shared_steps": 0,
        "answer_tokens": 0,
        "best": None,
        "best_step": None,
    }
    state |= {"bad_evaluations": 0, "stopped": False}
    we = team()
    if we.is_main:
        checkpoint.clear_away(run)
    found = we.from_main(run.checkpoints()[-1] if resume and run.checkpoints() else None)
    if found is not None:
        state = checkpoint.checkpoint_state(found)
        if state["plan"] != keys[-1]:
            raise UserError(
                f"{found} belongs to another recipe or other data; resume with the same, or start anew elsewhere."
            )
        checkpoint.load_trained(model, found)
    elif store is not None:
        for index in reversed(range(len(keys))):
            weights = store.load(keys[index])
            if weights is not None:
                checkpoint.load_trained_state(model, weights, f"shared stage {keys[index]}")
                state["step"] = state["shared_steps"] = sum(stage <= index for stage in stage_of_step)
                break
    return state, found


def _judge(
    model: Model,
    engine: Engine,
    we: Alone,
    evaluate: Evaluate,
    cfg: TrainSection,
    state: dict[str, Any],
    log: TrainLog,
    stage: str,
    higher_is_better: bool,
) -> bool:
    """Dev metrics into the log; whether the chosen one improved, and in `state` whether it is time to stop."""
    model.module.eval()
    with engine.answering():
        values = we.from_main(dict(evaluate()))
    model.module.train()
    log.line(state["step"], stage, **{f"dev/{name}": value for name, value in values.items()})
    if cfg.metric_for_best_model is None:
        return False
    if cfg.metric_for_best_model not in values:
        raise ConfigError(
            f"train.metric_for_best_model: {cfg.metric_for_best_model} has no value on this development set "
            f"({', '.join(sorted(values)) or 'no metric'} has)."
        )
    value = values[cfg.metric_for_best_model]
    better = state["best"] is None or (value > state["best"] if higher_is_better else value < state["best"])
    if better:
        state.update(best=value, best_step=state["step"], bad_evaluations=0)
    else:
        state["bad_evaluations"] += 1
        state["stopped"] = state["bad_evaluations"] >= (cfg.early_stopping_patience or math.inf)
    return better
