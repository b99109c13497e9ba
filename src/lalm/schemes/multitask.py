"""Several tasks at once: any other scheme over a weighted set of tasks, made from the same recordings and sentences.

How weights become passes. A row of a stage belongs to task t with a probability proportional to w_t^(1/T), w_t the task's
weight and T the temperature (the mixing of T5, arXiv 1910.10683 section 3.5.2, with given weights in place of sizes): T = 1
keeps the weights, a larger T evens them out. What fixes the total is that the main task keeps the passes of the base
scheme, so that a comparison with the base differs by what is added and nothing else:

    rows of t in a pool = rows of the main task that the base sees there * (w_t / w_main)^(1/T)

and passes are these rows over the task's own rows. So a weight of 1 means as many rows as the main task has, however many
examples the task makes of an item. A task that can use few items would go over them many times; `max_passes` bounds that.
The source of the idea (arXiv 2412.15995) publishes neither weights nor schedules; these are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, field_validator

from lalm import plugins
from lalm.config import PluginChoice
from lalm.errors import ConfigError, nearest
from lalm.plugins import PluginConfig
from lalm.records import Pools, Stage

MAIN = "main"  # how the recipe's own task is called among the weights
_SIZES = {"text": "num_text", "speech": "num_speech", "synthetic": "num_synthetic"}


class TaskShare(BaseModel):
    """An auxiliary task and how much of it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(description="task plug-in")
    weight: NonNegativeFloat = Field(
        1.0, description="rows of the task for each row of the main task, at temperature 1"
    )
    options: dict[str, Any] = Field({}, description="options of the task")


class Config(PluginConfig):
    """Options of the multi-task scheme."""

    base: PluginChoice = Field(
        PluginChoice(name="curriculum"), validate_default=True, description="the scheme that says when what is seen"
    )
    tasks: tuple[TaskShare, ...] = Field(
        (TaskShare(name="transcribe"),),
        validate_default=True,
        description="auxiliary tasks: {task: weight}, or a list of names or of {name, weight, options}",
    )
    main_weight: PositiveFloat = Field(1.0, description="weight of the recipe's own task")
    temperature: PositiveFloat = Field(1.0, description="weights are raised to 1 / temperature: above 1 evens them out")
    stage_weights: dict[str, dict[str, NonNegativeFloat]] = Field(
        {}, description="stage of the base -> other weights there, by task (`main`: the recipe's own)"
    )
    max_passes: PositiveFloat = Field(
        4.0, description="most passes over a task's rows for each pass of the base over the main task's"
    )

    @field_validator("base")
    @classmethod
    def _known_scheme(cls, base: PluginChoice) -> PluginChoice:
        module = _loaded("schemes", base.name)
        if hasattr(module, "tasks"):
            raise ValueError(f"{base.name} is a scheme over others itself; name the one that it shall use")
        options = _configured(module, base.options, "options")
        return PluginChoice.model_validate({"name": base.name, **options})

    @field_validator("tasks", mode="before")
    @classmethod
    def _as_list(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            return [{"name": name, "weight": weight} for name, weight in value.items()]
        if isinstance(value, list | tuple):
            return [{"name": one} if isinstance(one, str) else one for one in value]
        return value

    @field_validator("tasks")
    @classmethod
    def _known_tasks(cls, tasks: tuple[TaskShare, ...]) -> tuple[TaskShare, ...]:
        if not tasks:
            raise ValueError("there is no auxiliary task; name one, or use the base scheme alone")
        names = [task.name for task in tasks]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"{', '.join(doubled)} stands twice")
        return tuple(
            task.model_copy(update={"options": _configured(_loaded("tasks", task.name), task.options, task.name)})
            for task in tasks
        )


def tasks(cfg: Config, own: PluginChoice) -> tuple[PluginChoice, ...]:
    """The auxiliary tasks, resolved."""
    return tuple(PluginChoice.model_validate({"name": task.name, **task.options}) for task in cfg.tasks)


def plan(cfg: Config, pools: Pools) -> list[Stage]:
    """The stages of the base, with passes over the pools of every task.

    Raises ConfigError for stages or tasks among the weights that are not there, and where nothing is left to train on.
    """
    base = plugins.load("schemes", cfg.base.name)
    stages: list[Stage] = base.plan(plugins.configure(base, cfg.base.options, "scheme.base"), pools)
    _check_weights(cfg, stages)
    return [replace(stage, passes=_passes(stage, cfg, pools)) for stage in stages]


def _passes(stage: Stage, cfg: Config, pools: Pools) -> dict[str, float]:
    """Passes over each pool; pools of auxiliary tasks without any are left out."""
    weights = {MAIN: cfg.main_weight, **{task.name: task.weight for task in cfg.tasks}}
    weights |= cfg.stage_weights.get(stage.name, {})
    share = {name: (weight / cfg.main_weight) ** (1 / cfg.temperature) for name, weight in weights.items()}
    main = share.pop(MAIN)
    passes = {pool: number * main for pool, number in stage.passes.items()}
    for pool, number in stage.passes.items():
        size = getattr(pools, _SIZES[pool])
        for name, part in share.items():
            own = pools.of_tasks.get(f"{pool}:{name}", size)
            if own and number * part > 0:
                passes[f"{pool}:{name}"] = number * min(part * size / own, cfg.max_passes)
    return passes


def _check_weights(cfg: Config, stages: list[Stage]) -> None:
    known = [stage.name for stage in stages]
    named = [MAIN, *(task.name for task in cfg.tasks)]
    for stage, weights in cfg.stage_weights.items():
        if stage not in known:
            raise ConfigError(
                f"scheme.stage_weights.{stage}: the scheme {cfg.base.name} has no such stage.{nearest(stage, known)}"
            )
        for name in weights:
            if name not in named:
                raise ConfigError(f"scheme.stage_weights.{stage}.{name}: no such task.{nearest(name, named)}")
    for stage in known:
        weights = {**{task.name: task.weight for task in cfg.tasks}, MAIN: cfg.main_weight}
        if not any((weights | cfg.stage_weights.get(stage, {})).values()):
            raise ConfigError(f"scheme.stage_weights.{stage}: all weights are 0, so nothing is trained on there.")


def _loaded(kind: str, name: str) -> Any:
    try:
        return plugins.load(kind, name)
    except ConfigError as error:
        raise ValueError(str(error).rstrip(".")) from None


def _configured(module: Any, options: Mapping[str, Any], where: str) -> dict[str, Any]:
    try:
        config: dict[str, Any] = plugins.configure(module, options, where).model_dump(mode="json")
    except ConfigError as error:
        raise ValueError(str(error).rstrip(".")) from None
    return config
