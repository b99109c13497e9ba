"""The training loop, the only one. What differs between methods is the plan (stages), a module or an option."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from lalm.config import TrainSection, config_hash
from lalm.contracts import Model
from lalm.errors import ConfigError, UserError
from lalm.records import Example, Stage
from lalm.rundir import RunDir
from lalm.train import checkpoint
from lalm.train.log import TrainLog
from lalm.train.order import batches, epoch_rows

Evaluate = Callable[[], Mapping[str, float]]


class StageStore(Protocol):
    """Where finished stages are shared by content (a study has one)."""

    def load(self, key: str) -> dict[str, torch.Tensor] | None: ...

    def save(self, key: str, state: dict[str, torch.Tensor]) -> None: ...


@dataclass(frozen=True)
class FitResult:
    """`steps` optimizer steps in all, of which `shared_steps` were taken over from a shared stage."""

    steps: int
    shared_steps: int
    answer_tokens: int
    best_step: int | None
    stopped_early: bool


@dataclass(frozen=True)
class _Step:
    stage: int
    index: int  # within the stage
    micro_batches: tuple[tuple[tuple[str, int], ...], ...]


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
    """
    # 1. the plan, step by step
    steps = _plan_steps(model, stages, pools, cfg)
    total = len(steps)
    if total == 0:
        raise ConfigError("The plan holds no rows: neither text nor recordings are left for any stage.")
    parameters = dict(model.module.named_parameters())
    trained = [parameters[name] for name in trainable]
    keys = _stage_keys(model, stages, pools, cfg, identity)

    # 2. where to begin: a checkpoint, a shared stage, or the first step
    position, state = 0, {"step": 0, "answer_tokens": 0, "best": None, "best_step": None, "bad_evaluations": 0}
    shared_steps = 0
    found = run.checkpoints()[-1:] if resume else []
    if found:
        state = checkpoint.checkpoint_state(found[0])
        if state["plan"] != keys[-1]:
            raise UserError(f"{found[0]} belongs to another recipe or other data; resume with the same, or start anew elsewhere.")
        position = state["step"]
    elif store is not None:
        for index in reversed(range(len(stages))):
            weights = store.load(keys[index])
            if weights is not None:
                checkpoint.load_trained_state(model, weights, f"shared stage {keys[index]}")
                position = shared_steps = sum(step.stage <= index for step in steps)
                break
    state["plan"] = keys[-1]

    # 3. the steps
    model.module.train()
    log = TrainLog(run, total, position, quiet)
    optimizer, current_stage, stopped = None, -1, False
    autocast = torch.autocast(trained[0].device.type, torch.bfloat16, enabled=_use_bf16(cfg, trained[0].device))
    for number in range(position, total):
        step = steps[number]
        stage = stages[step.stage]
        stage_steps = sum(other.stage == step.stage for other in steps)
        if step.stage != current_stage or optimizer is None:
            # 3a. every stage has its own optimizer and schedule
            optimizer = torch.optim.AdamW(trained, lr=0.0, weight_decay=cfg.weight_decay)
            current_stage = step.stage
            torch.manual_seed(cfg.seed * 1000 + step.stage)
            if found:
                checkpoint.load_checkpoint(found.pop(), model, optimizer)
        rate = cfg.learning_rate * stage.learning_rate_scale * _schedule(cfg, stage, step.index, stage_steps)
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
        for parameter in trained:
            if parameter.grad is not None:
                parameter.grad.div_(num_tokens)
        norm = torch.nn.utils.clip_grad_norm_(trained, cfg.max_grad_norm)
        if not math.isfinite(float(norm)):
            raise UserError(
                f"Training diverged at step {number + 1} (gradient norm {float(norm)}). "
                f"Lower train.learning_rate (now {cfg.learning_rate}) and try again."
            )
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

        # 3c. log, evaluate, save
        done = number + 1
        state.update(step=done, answer_tokens=state["answer_tokens"] + num_tokens)
        stage_ends = done == total or steps[done].stage != step.stage
        if done % cfg.logging_steps == 0 or stage_ends:
            log.line(done, stage.name, learning_rate=rate, grad_norm=round(float(norm), 4))
        if stage_ends and store is not None and (step.stage < len(stages) - 1):
            store.save(keys[step.stage], checkpoint.trained_state(model))
        improved = False
        if evaluate is not None and (stage_ends or (cfg.eval_steps and done % cfg.eval_steps == 0)):
            improved = _judge(model, evaluate, cfg, state, log, done, stage.name, higher_is_better)
            stopped = cfg.early_stopping_patience is not None and state["bad_evaluations"] >= cfg.early_stopping_patience
        if improved or stopped or done % cfg.save_steps == 0 or (done == total and store is None):
            checkpoint.save_checkpoint(run, done, model, optimizer, state, cfg.save_total_limit)
        if stopped:
            break

    # 4. the best checkpoint, if one was asked for
    if cfg.metric_for_best_model and state["best_step"]:
        checkpoint.load_trained(model, run.checkpoint(state["best_step"]))
    model.module.eval()
    return FitResult(state["step"], shared_steps, state["answer_tokens"], state["best_step"], stopped)


def _plan_steps(
    model: Model, stages: Sequence[Stage], pools: Mapping[str, Sequence[Example]], cfg: TrainSection
) -> list[_Step]:
    sizes = {pool: len(rows) for pool, rows in pools.items()}
    used = {pool for stage in stages for pool, passes in stage.passes.items() if passes > 0}
    lengths = {(pool, i): model.num_tokens(row) for pool in used for i, row in enumerate(pools.get(pool, ()))}
    steps = []
    for number, stage in enumerate(stages):
        index = 0
        for epoch in range(stage.epochs):
            rows = epoch_rows(stage, sizes, epoch, cfg.seed)
            micro = batches(rows, lengths, cfg.per_device_train_batch_size, f"{cfg.seed}/{stage.name}/{epoch}")
            for start in range(0, len(micro), cfg.gradient_accumulation_steps):
                chunk = micro[start : start + cfg.gradient_accumulation_steps]
                steps.append(_Step(number, index, tuple(tuple(rows) for rows in chunk)))
                index += 1
    return steps


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
        parts: list[Any] = [previous, stage.epochs, stage.learning_rate_scale, stage.warmup_ratio, stage.groups, stage.name]
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


def _use_bf16(cfg: TrainSection, device: torch.device) -> bool:
    native = (
        torch.cuda.is_bf16_supported(including_emulation=False)
        if device.type == "cuda"
        else device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())
    )
    if cfg.bf16 and not native:
        raise ConfigError(f"train.bf16: this machine's {device.type} does not compute in bfloat16 natively. Leave it out, or set it to false.")
    return native if cfg.bf16 is None else cfg.bf16


def _judge(
    model: Model,
    evaluate: Evaluate,
    cfg: TrainSection,
    state: dict[str, Any],
    log: TrainLog,
    done: int,
    stage: str,
    higher_is_better: bool,
) -> bool:
    """Dev metrics into the log; whether the chosen one improved."""
    model.module.eval()
    values = dict(evaluate())
    model.module.train()
    log.line(done, stage, **{f"dev/{name}": value for name, value in values.items()})
    if cfg.metric_for_best_model is None:
        return False
    value = values[cfg.metric_for_best_model]
    better = state["best"] is None or (value > state["best"] if higher_is_better else value < state["best"])
    if better:
        state.update(best=value, best_step=done, bad_evaluations=0)
    else:
        state["bad_evaluations"] += 1
    return better


