"""Semi-implicit compression: any scheme once for each level of `xs_cot`, with more steps of the chain cut short each time.

Source: XS-CoT (arXiv 2504.20835): the number of internalised sentences grows during training. How long each level lasts is not said;
here each goes through the stages of the base scheme, whose epochs are those of one level. The last level is the recipe's own task, which is
to be `xs_cot` with `internalised` at that level: it is what the model is asked at the end. Its other options are those of all levels.
"""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field, field_validator

from lalm import plugins
from lalm.errors import ConfigError
from lalm.plugins import PluginConfig
from lalm.records import Pools, Stage
from lalm.sections import PluginChoice


class Config(PluginConfig):
    """Options of the schedule."""

    base: PluginChoice = Field(
        PluginChoice.model_validate({"name": "direct_mixing", "num_train_epochs": 1, "speech_passes": 1.0}),
        description="the scheme of one level",
    )
    levels: tuple[int, ...] = Field((0, 1, 2), min_length=2, description="steps cut short at each level, rising")

    @field_validator("levels")
    @classmethod
    def _rising(cls, levels: tuple[int, ...]) -> tuple[int, ...]:
        if list(levels) != sorted(set(levels)) or not set(levels) <= {0, 1, 2}:
            raise ValueError(f"levels are of 0, 1 and 2, rising, not {list(levels)}")
        return levels


def tasks(cfg: Config, own: PluginChoice) -> tuple[PluginChoice, ...]:
    """The task at each level but the last. Raises ConfigError for a recipe whose task is not the last level."""
    last = cfg.levels[-1]
    if own.name != "xs_cot" or own.options.get("internalised", 0) != last:
        raise ConfigError(
            f"scheme: semi_implicit ends with {last} steps cut short, and the recipe's task is to be that level. Write "
            f"task: {{name: xs_cot, internalised: {last}}}."
        )
    return tuple(
        PluginChoice.model_validate({"name": "xs_cot", **own.options, "internalised": level, "label": _label(level)})
        for level in cfg.levels[:-1]
    )


def plan(cfg: Config, pools: Pools) -> list[Stage]:
    """The base's stages at each level. Raises ConfigError for a base that is over tasks itself."""
    base = plugins.load("schemes", cfg.base.name)
    if hasattr(base, "tasks"):
        raise ConfigError(
            f"scheme.base: {cfg.base.name} is a scheme over others itself; name the one that it shall use."
        )
    stages: list[Stage] = base.plan(plugins.configure(base, cfg.base.options, "scheme.base"), pools)
    result = []
    for level in cfg.levels[:-1]:
        for stage in stages:
            passes = {f"{pool}:{_label(level)}": number for pool, number in stage.passes.items()}
            result.append(replace(stage, name=f"{stage.name}, {level} cut short", passes=passes))
    return [*result, *(replace(stage, name=f"{stage.name}, {cfg.levels[-1]} cut short") for stage in stages)]


def _label(level: int) -> str:
    return f"xs_cot_{level}"
