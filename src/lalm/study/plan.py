"""A study as data: which runs a grid of schemes, speech shares and seeds asks for, and in which order."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from lalm import plugins
from lalm.config import PluginChoice, Recipe, override, parse_recipe, read_yaml
from lalm.errors import ConfigError, nearest
from lalm.records import Pools

Role = Literal["cell", "cascade"]


class Reference(BaseModel):
    """The cascade: the same language model on transcripts, tuned on the same rows with one of the study's schemes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scheme: str = Field("curriculum", description="scheme that the cascade is tuned with where there is speech")
    connector: PluginChoice = Field(
        default_factory=lambda: PluginChoice(name="cascade"), description="connector that hands on the transcript alone"
    )


class Study(BaseModel):
    """A study file: a recipe and a grid over it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str = Field(description="what stands over the report")
    question: str = Field("", description="what the study wants to know, in a sentence")
    recipe: dict[str, Any] | Path = Field(description="the recipe, or the path of its file")
    schemes: tuple[PluginChoice, ...] = Field(description="schemes compared")
    speech_shares: tuple[float, ...] = Field(description="shares of the pool of recordings, 0 to 1")
    only_at: dict[str, tuple[float, ...]] = Field({}, description="scheme -> the shares it runs at (text_only: 0)")
    seeds: tuple[int, ...] = Field((0, 1), description="seeds, each for draw of recordings, initialisation and order")
    primary_metric: str = Field(description="the metric of curves, comparisons and conclusions")
    cascade: Reference | None = Field(None, description="the cascade reference (none: left out)")
    oracle_text: bool = Field(True, description="also read the test transcripts, where there are any")
    workers: PositiveInt | None = Field(None, description="runs at a time (none: one a core, as memory allows)")


@dataclass(frozen=True)
class Run:
    """One run of a study. `prefix` names runs that may share their first stage: they do not start side by side."""

    name: str
    role: Role
    scheme: str
    share: float
    seed: int
    recipe: Recipe
    prefix: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def load_study(path: Path, assignments: Sequence[str] = ()) -> tuple[Study, Path]:
    """The study of a file and the folder that its relative paths start from. Raises ConfigError with every problem."""
    study = plugins.parse(Study, override(read_yaml(path), assignments), str(path))
    wrong = [share for share in study.speech_shares if not 0 <= share <= 1]
    if wrong or not study.speech_shares:
        raise ConfigError(f"{path}: speech_shares must be shares between 0 and 1, not {list(study.speech_shares)}.")
    known = {choice.name for choice in study.schemes}
    for name in study.only_at:
        if name not in known:
            raise ConfigError(f"{path}: only_at.{name}: the study has no such scheme.{nearest(name, known)}")
    return study, path.parent


def runs(study: Study, base: Path) -> list[Run]:
    """Every run of the grid, shared prefixes first. Raises ConfigError if the recipe is not right."""
    if isinstance(study.recipe, Path):
        file = base / study.recipe
        values, folder = read_yaml(file), file.parent
    else:
        values, folder = dict(study.recipe), base
    result = []
    for seed in study.seeds:
        for choice in study.schemes:
            for share in _shares(study, choice.name):
                result.append(_run(values, folder, "cell", choice, share, seed, None))
        if study.cascade is not None:
            result += _cascade_runs(study, values, folder, seed)
    names = [run.name for run in result]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise ConfigError(f"The study asks for the same run twice: {', '.join(doubled)}.")
    return sorted(result, key=lambda run: (run.prefix is None, run.role == "cascade"))


def _shares(study: Study, scheme: str) -> tuple[float, ...]:
    if scheme in study.only_at:
        return study.only_at[scheme]
    if scheme == "text_only":
        return (0.0,)
    return tuple(share for share in study.speech_shares if share > 0)


def _cascade_runs(study: Study, values: Mapping[str, Any], folder: Path, seed: int) -> list[Run]:
    assert study.cascade is not None
    chosen = [choice for choice in study.schemes if choice.name == study.cascade.scheme]
    if not chosen:
        names = [choice.name for choice in study.schemes]
        raise ConfigError(f"cascade.scheme: '{study.cascade.scheme}' is none of the study's schemes.{nearest(study.cascade.scheme, names)}")
    text = next((choice for choice in study.schemes if choice.name == "text_only"), PluginChoice(name="text_only"))
    connector = study.cascade.connector.model_dump(mode="json")
    result = []
    for share in study.speech_shares:
        result.append(_run(values, folder, "cascade", chosen[0] if share else text, share, seed, connector))
    return result


def _run(
    values: Mapping[str, Any],
    folder: Path,
    role: Role,
    scheme: PluginChoice,
    share: float,
    seed: int,
    connector: Mapping[str, Any] | None,
) -> Run:
    data = {k: v for k, v in values.get("data", {}).items() if k not in ("speech_share", "speech_items", "speech_minutes")}
    backbone = values.get("backbone", "smol")
    backbone = {"name": backbone} if isinstance(backbone, str) else dict(backbone)
    if connector is not None:
        backbone["connector"] = dict(connector)
    merged = {
        **values,
        "data": {**data, "speech_share": share, "budget_seed": seed},
        "backbone": backbone,
        "scheme": scheme.model_dump(mode="json"),
        "train": {**values.get("train", {}), "seed": seed},
    }
    recipe = parse_recipe(merged, folder, "recipe")
    name = "-".join([*(["cascade"] if role == "cascade" else []), scheme.name, f"{share * 100:g}", f"s{seed}"])
    prefix = _shared_prefix(recipe)
    return Run(name, role, scheme.name, share, seed, recipe, prefix)


def _shared_prefix(recipe: Recipe) -> str | None:
    """What names a first stage without recordings that is followed by others; None if there is none."""
    scheme = plugins.load("schemes", recipe.scheme.name)
    stages = scheme.plan(plugins.configure(scheme, recipe.scheme.options, "scheme"), Pools(1, 1, 1))
    if len(stages) < 2 or stages[0].passes.get("speech", 0) > 0:
        return None
    same = [recipe.scheme, recipe.backbone, recipe.tuner]
    return json.dumps([*(part.model_dump(mode="json") for part in same), recipe.train.seed], sort_keys=True)


def num_workers(study: Study, num_runs: int) -> int:
    """One run a core, at most four side by side, unless the study says otherwise."""
    return min(study.workers or min(4, os.cpu_count() or 1), num_runs)
