"""The training loop, the only one. What differs between methods is the plan (stages), a module or an option."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from lalm.config import TrainSection, config_hash
from lalm.contracts import Model
from lalm.errors import ConfigError, DataError, UserError, nearest
from lalm.records import Example, Stage
from lalm.rundir import RunDir
from lalm.train import checkpoint
from lalm.train.log import TrainLog
from lalm.train.order import Row, batches, epoch_rows

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


@dataclass(frozen=True)
class _Step:
    stage: int
    index: int  # within the stage
    micro_batches: tuple[tuple[Row, ...], ...]


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
    micro-batches: gradients of sums are added up and divided once. `identity` is everything else that the weights depend
    on (model, tuner); with the rows' content it names stages that runs of a study share through `store`.

    Raises UserError for an empty plan, rows that cannot be used, a checkpoint of another plan, or divergence.
    """
    # 1. the plan, step by step
    steps = _plan_steps(model, stages, pools, cfg)
    total = len(steps)
    if total == 0:
        raise ConfigError("The plan holds no rows: neither text nor recordings are left for any stage.")
    stage_steps = Counter(step.stage for step in steps)
    parameters = dict(model.module.named_parameters())
    trained = [parameters[name] for name in trainable]
    of_stage = [[parameters[name] for name in _names_of_stage(model, trainable, stage)] for stage in stages]
    keys = _stage_keys(model, stages, pools, cfg, identity)

    # 2. where to begin: a checkpoint, a shared stage, or the first step
    state: dict[str, Any] = {
        "plan": keys[-1],
        "step": 0,
        "shared_steps": 0,
        "answer_tokens": 0,
        "best": None,
        "best_step": None,
    }
    state |= {"bad_evaluations": 0, "stopped": False}
    checkpoint.clear_away(run)
    found = run.checkpoints()[-1] if resume and run.checkpoints() else None
    if found is not None:
        state = checkpoint.checkpoint_state(found)
        if state["plan"] != keys[-1]:
            raise UserError(
                f"{found} belongs to another recipe or other data; resume with the same, or start anew elsewhere."
            )
        checkpoint.load_trained(model, found)
    elif store is not None:
        for index in reversed(range(len(stages))):
            weights = store.load(keys[index])
            if weights is not None:
                checkpoint.load_trained_state(model, weights, f"shared stage {keys[index]}")
                state["step"] = state["shared_steps"] = sum(step.stage <= index for step in steps)
                break
    position = state["step"]

    # 3. the steps
    model.module.train()
    log = TrainLog(run, total, position, quiet)
    optimizer, current_stage = None, -1
    autocast = torch.autocast(trained[0].device.type, torch.bfloat16, enabled=uses_bf16(cfg, trained[0].device))
    for number in range(position, total if not state["stopped"] else position):
        step, stage = steps[number], stages[steps[number].stage]
        if step.stage != current_stage or optimizer is None:
            # 3a. every stage has its own optimizer, schedule and randomness; a checkpoint brings back those it left off in
            optimizer = torch.optim.AdamW(of_stage[step.stage], lr=0.0, weight_decay=cfg.weight_decay)
            current_stage = step.stage
            torch.manual_seed(cfg.seed * 1000 + step.stage)
            if found is not None and number == position and step.index > 0:
                checkpoint.load_progress(found, optimizer)
        rate = (
            cfg.learning_rate * stage.learning_rate_scale * _schedule(cfg, stage, step.index, stage_steps[step.stage])
        )
        for group in optimizer.param_groups:
            group["lr"] = rate

        # 3b. sums of gradients over the micro-batches, divided once by the answer tokens of the whole step
        num_tokens = 0
        for rows in step.micro_batches:
            examples = [pools[pool][index] for pool, index in rows]
            with autocast:
                nll, tokens = model.loss(model.batch(examples))
            nll.sum().backward()
            num_tokens += int(tokens.sum())
            log.rows(examples, nll.tolist(), tokens.tolist())
        for parameter in of_stage[step.stage]:
            if parameter.grad is not None:
                parameter.grad.div_(num_tokens)
        norm = float(torch.nn.utils.clip_grad_norm_(of_stage[step.stage], cfg.max_grad_norm))
        if not math.isfinite(norm):
            raise UserError(
                f"Training diverged at step {number + 1} (gradient norm {norm}). "
                f"Lower train.learning_rate (now {cfg.learning_rate}) and try again."
            )
        optimizer.step()
        for parameter in trained:
            parameter.grad = None

        # 3c. log, evaluate, save
        done = number + 1
        state.update(step=done, answer_tokens=state["answer_tokens"] + num_tokens)
        stage_ends = done == total or steps[done].stage != step.stage
        if done % cfg.logging_steps == 0 or stage_ends:
            log.line(done, stage.name, learning_rate=rate, grad_norm=round(norm, 4))
        if stage_ends and store is not None and done < total:
            store.save(keys[step.stage], checkpoint.trained_state(model))
        improved = False
        if evaluate is not None and (stage_ends or (cfg.eval_steps and done % cfg.eval_steps == 0)):
            improved = _judge(model, evaluate, cfg, state, log, stage.name, higher_is_better)
        if improved or state["stopped"] or done % cfg.save_steps == 0 or (done == total and store is None):
            checkpoint.save_checkpoint(run, done, model, optimizer, state, cfg.save_total_limit)
        if state["stopped"]:
            break

    # 4. the best checkpoint, if one was asked for
    if state["best_step"]:
        checkpoint.load_trained(model, run.checkpoint(state["best_step"]))
    model.module.eval()
    return FitResult(state["step"], state["shared_steps"], state["answer_tokens"], state["best_step"], state["stopped"])


def _plan_steps(
    model: Model, stages: Sequence[Stage], pools: Mapping[str, Sequence[Example]], cfg: TrainSection
) -> list[_Step]:
    sizes = {pool: len(rows) for pool, rows in pools.items()}
    lengths = _lengths(model, stages, pools)
    step_size = cfg.per_device_train_batch_size * cfg.gradient_accumulation_steps
    steps = []
    for number, stage in enumerate(stages):
        index = 0
        for epoch in range(stage.epochs):
            rows = epoch_rows(stage, sizes, epoch, cfg.seed)
            for chunk in batches(rows, lengths, step_size, f"{cfg.seed}/{stage.name}/{epoch}"):
                starts = range(0, len(chunk), cfg.per_device_train_batch_size)
                micro = tuple(tuple(chunk[start : start + cfg.per_device_train_batch_size]) for start in starts)
                steps.append(_Step(number, index, micro))
                index += 1
    return steps


def _lengths(model: Model, stages: Sequence[Stage], pools: Mapping[str, Sequence[Example]]) -> dict[Row, int]:
    """Length of every row that some stage uses. Raises DataError that lists all rows that the model cannot take."""
    lengths: dict[Row, int] = {}
    problems = []
    for pool in sorted({pool for stage in stages for pool, passes in stage.passes.items() if passes > 0}):
        for index, row in enumerate(pools.get(pool, ())):
            try:
                lengths[pool, index] = model.num_tokens(row)
            except DataError as error:
                problems.append(str(error))
    if problems:
        raise DataError(f"{len(problems)} training rows cannot be used.", problems)
    return lengths


def _names_of_stage(model: Model, trainable: Sequence[str], stage: Stage) -> list[str]:
    """The trainable parameters that a stage trains: those of its groups, or all of them.

    Raises ConfigError for a group that the model does not have, or that `train.groups` leaves out.
    """
    if stage.groups is None:
        return list(trainable)
    known = model.groups()
    names: set[str] = set()
    for group in stage.groups:
        if group not in known:
            raise ConfigError(f"Stage '{stage.name}': unknown group '{group}'.{nearest(group, known)}")
        within = {name for name in trainable if any(f"{name}.".startswith(f"{part}.") for part in known[group])}
        if not within:
            raise ConfigError(f"Stage '{stage.name}' trains the group '{group}', which train.groups leaves out.")
        names |= within
    return [name for name in trainable if name in names]


def _stage_keys(
    model: Model,
    stages: Sequence[Stage],
    pools: Mapping[str, Sequence[Example]],
    cfg: TrainSection,
    identity: Any,
) -> list[str]:
    """One key a stage: everything that its resulting weights depend on, the stages before included."""
    settings = cfg.model_dump(mode="json", exclude={"save_steps", "save_total_limit", "logging_steps", "eval_steps"})
    contents: dict[str, str] = {}
    keys, previous = [], config_hash([identity, settings])
    for stage in stages:
        parts: list[Any] = [
            previous,
            stage.epochs,
            stage.learning_rate_scale,
            stage.warmup_ratio,
            stage.groups,
            stage.name,
        ]
        for pool, passes in sorted(stage.passes.items()):
            if passes > 0 and pools.get(pool):
                if pool not in contents:
                    rows = "".join(model.content(row) for row in pools[pool])
                    contents[pool] = hashlib.sha256(rows.encode()).hexdigest()
                parts.append([pool, passes, contents[pool]])
        previous = config_hash(parts)
        keys.append(previous)
    return keys


def _schedule(cfg: TrainSection, stage: Stage, step: int, total: int) -> float:
    """Linear warm-up over `warmup_ratio` of the stage's steps, then cosine or linear decay to zero, or constant."""
    warmup = math.ceil(stage.warmup_ratio * total)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, total - warmup)
    if cfg.lr_scheduler_type == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    return 1 - progress if cfg.lr_scheduler_type == "linear" else 1.0


def uses_bf16(cfg: TrainSection, device: torch.device) -> bool:
    """Whether training computes in bfloat16 here. Raises ConfigError if it is asked for and the machine cannot."""
    native = (
        torch.cuda.is_bf16_supported(including_emulation=False)
        if device.type == "cuda"
        else device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())
    )
    if cfg.bf16 and not native:
        raise ConfigError(
            f"train.bf16: this machine's {device.type} does not compute in bfloat16 natively. Leave it out, or set it to false."
        )
    return native if cfg.bf16 is None else cfg.bf16


def _judge(
    model: Model,
    evaluate: Evaluate,
    cfg: TrainSection,
    state: dict[str, Any],
    log: TrainLog,
    stage: str,
    higher_is_better: bool,
) -> bool:
    """Dev metrics into the log; whether the chosen one improved, and in `state` whether it is time to stop."""
    model.module.eval()
    values = dict(evaluate())
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
