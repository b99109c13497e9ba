"""A study as data: which runs a grid of schemes, selectors, speech shares and seeds asks for, and in which order."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from lalm import plugins
from lalm.config import PluginChoice, Recipe, override, parse_recipe, read_recipe, read_study
from lalm.cores import gpus
from lalm.errors import ConfigError, nearest
from lalm.records import Pools
from lalm.study.of_tasks import flat, telling

Role = Literal["cell", "cascade"]


class Reference(BaseModel):
    """The cascade: the same language model on transcripts, tuned on the same rows with one of the study's schemes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scheme: str = Field("curriculum", description="scheme that the cascade is tuned with where there is speech")
    connector: PluginChoice = Field(
        default_factory=lambda: PluginChoice(name="cascade"), description="connector that hands on the transcript alone"
    )


class Variant(BaseModel):
    """Other rows to train on, or tagged instructions: what is different in the recipe, and where in the grid it is run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: dict[str, Any] = Field({}, description="keys of the recipe's data section that take the place of its own")
    task_tags: bool | None = Field(None, description="whether instructions are tagged (none: as the recipe says)")
    schemes: tuple[str, ...] | None = Field(
        None, description="schemes that it is run with, at just the shares below (none: as the study's grid says)"
    )
    speech_shares: tuple[float, ...] | None = Field(None, description="shares that it is run at (none: the study's)")


class Study(BaseModel):
    """A study file: a recipe and a grid over it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str = Field(description="what stands over the report")
    question: str = Field("", description="what the study wants to know, in a sentence")
    recipe: dict[str, Any] | Path = Field(description="the recipe, or the path of its file")
    schemes: tuple[PluginChoice, ...] = Field(description="schemes compared")
    speech_shares: tuple[float, ...] = Field(description="shares of the pool of recordings, 0 to 1")
    selectors: tuple[PluginChoice, ...] = Field(
        (), description="selectors compared, at shares between 0 and 1 (none: recordings are drawn as the recipe says)"
    )
    variants: dict[str, Variant] = Field(
        {}, description="name -> other data to train on, compared beside schemes and shares (none: the recipe's alone)"
    )
    only_at: dict[str, tuple[float, ...]] = Field({}, description="scheme -> the shares it runs at (text_only: 0)")
    seeds: tuple[int, ...] = Field((0, 1), description="seeds, each for draw of recordings, initialisation and order")
    primary_metric: str = Field(description="the metric of curves, comparisons and conclusions")
    cascade: Reference | None = Field(None, description="the cascade reference (none: left out)")
    oracle_text: bool = Field(True, description="also read the test transcripts, where there are any")
    workers: PositiveInt | None = Field(None, description="runs at a time (none: one a core, at most four)")


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
    selector: str | None = None
    variant: str | None = None


def load_study(path: Path, assignments: Sequence[str] = ()) -> tuple[Study, Path]:
    """The study of a file and the folder that its relative paths start from. Raises ConfigError with every problem."""
    study = plugins.parse(Study, override(read_study(path), assignments), str(path))
    for key, shares in [
        ("speech_shares", study.speech_shares),
        *((f"only_at.{k}", v) for k, v in study.only_at.items()),
        *(
            (f"variants.{k}.speech_shares", v.speech_shares)
            for k, v in study.variants.items()
            if v.speech_shares is not None
        ),
    ]:
        if not shares or not all(0 <= share <= 1 for share in shares):
            raise ConfigError(f"{path}: {key} must be shares between 0 and 1, not {list(shares)}.")
    if not study.seeds or not study.schemes:
        raise ConfigError(f"{path}: {'schemes' if study.seeds else 'seeds'} is empty; a study needs at least one.")
    if study.selectors and not any(0 < share < 1 for share in study.speech_shares):
        raise ConfigError(
            f"{path}: selectors choose among recordings at shares between 0 and 1, and speech_shares is {list(study.speech_shares)}."
        )
    known = {choice.name for choice in study.schemes}
    for name in study.only_at:
        if name not in known:
            raise ConfigError(f"{path}: only_at.{name}: the study has no such scheme.{nearest(name, known)}")
    for name, variant in study.variants.items():
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9+_.]*", name):
            raise ConfigError(f"{path}: variants.{name}: a variant is named with letters, digits, '+', '_' and '.'.")
        for scheme in variant.schemes or ():
            if scheme not in known:
                raise ConfigError(f"{path}: variants.{name}.schemes: no scheme '{scheme}'.{nearest(scheme, known)}")
    return study, path.parent


def runs(study: Study, base: Path) -> list[Run]:
    """Every run of the grid, shared prefixes first. Raises ConfigError if the recipe is not right."""
    if isinstance(study.recipe, Path):
        file = base / study.recipe
        values, folder = read_recipe(file), file.parent
    else:
        values, folder = dict(study.recipe), base
    result = []
    plugins.add_roots([folder / path for path in values.get("plugins", ())])
    values = _without_selector(study, values)
    schemes = list(zip(study.schemes, _labels("schemes", study.schemes), strict=True))
    selectors = list(zip(study.selectors, _labels("select", study.selectors), strict=True))
    for seed, (variant, changed) in itertools.product(study.seeds, _variants(study, values).items()):
        for choice, label in schemes:
            for share in _shares(study, choice, variant):
                for selector, name in selectors if 0 < share < 1 and selectors else [(None, None)]:
                    asked = _Asked("cell", choice, label, share, seed, variant, selector=selector, selector_label=name)
                    result.append(_run(changed, folder, asked))
        if study.cascade is not None:
            result += _cascade_runs(study, changed, folder, seed, variant)
    if not result:
        raise ConfigError("The study asks for no run: its schemes need recordings and speech_shares holds 0 alone.")
    metrics = result[0].recipe.evaluate.metrics
    if study.primary_metric not in metrics:
        raise ConfigError(
            f"primary_metric: '{study.primary_metric}' is none of the recipe's evaluate.metrics."
            f"{nearest(study.primary_metric, metrics)}"
        )
    names = [run.name for run in result]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise ConfigError(f"The study asks for the same run twice: {', '.join(doubled)}.")
    return sorted(result, key=lambda run: (run.prefix is None, run.role == "cascade"))


def _variants(study: Study, values: dict[str, Any]) -> dict[str | None, dict[str, Any]]:
    """The recipe's values of each variant; one without a name where the study has none."""
    if not study.variants:
        return {None: values}
    tags = {name: {} if one.task_tags is None else {"task_tags": one.task_tags} for name, one in study.variants.items()}
    return {
        name: {**values, **tags[name], "data": {**values.get("data", {}), **one.data}}
        for name, one in study.variants.items()
    }


def _without_selector(study: Study, values: dict[str, Any]) -> dict[str, Any]:
    """The recipe's values, in which the study's selectors take the place of a selector. Raises ConfigError if there are both."""
    data = values.get("data")
    if not study.selectors or not isinstance(data, dict):
        return values
    if data.get("selector") is not None:
        raise ConfigError("selectors: the recipe has a data.selector, too; leave one of them out.")
    return {**values, "data": {**data, "selector": None}}


def _labels(kind: str, choices: Sequence[PluginChoice]) -> list[str]:
    """A name for each choice: the plug-in's, and the options that set it apart from others of the same plug-in."""
    where = {"select": "selectors"}.get(kind, kind)
    options = []
    for choice in choices:
        module = plugins.load(kind, choice.name)
        made = plugins.configure(module, choice.options, f"{where}.{choice.name}")
        options.append(flat(made.model_dump(mode="json")))
    result = []
    for choice, own in zip(choices, options, strict=True):
        others = [other for one, other in zip(choices, options, strict=True) if one.name == choice.name]
        apart = [f"{key}_{own[key]}" for key in telling(own, others)]
        result.append("-".join([choice.name, *apart]))
    return result


def _shares(study: Study, scheme: PluginChoice, name: str | None = None) -> tuple[float, ...]:
    """The shares that a scheme (or the one that it is over) has a run at, in the variant `name`."""
    variant = study.variants[name] if name is not None else Variant()
    shares = study.speech_shares if variant.speech_shares is None else variant.speech_shares
    if variant.schemes is not None:
        return shares if scheme.name in variant.schemes else ()
    if scheme.name in study.only_at:
        only = study.only_at[scheme.name]
        return only if variant.speech_shares is None else tuple(share for share in shares if share in only)
    if "text_only" in (scheme.name, flat(scheme.options).get("base")):
        return (0.0,) if variant.speech_shares is None or 0 in shares else ()
    return tuple(share for share in shares if share > 0)


def _cascade_runs(
    study: Study, values: Mapping[str, Any], folder: Path, seed: int, variant: str | None = None
) -> list[Run]:
    assert study.cascade is not None
    chosen = [choice for choice in study.schemes if choice.name == study.cascade.scheme]
    if not chosen:
        names = [choice.name for choice in study.schemes]
        raise ConfigError(
            f"cascade.scheme: '{study.cascade.scheme}' is none of the study's schemes.{nearest(study.cascade.scheme, names)}"
        )
    text = next((choice for choice in study.schemes if choice.name == "text_only"), PluginChoice(name="text_only"))
    connector = study.cascade.connector.model_dump(mode="json")
    result = []
    own = study.variants[variant].speech_shares if variant is not None else None
    for share in study.speech_shares if own is None else own:
        choice = chosen[0] if share else text
        result.append(_run(values, folder, _Asked("cascade", choice, choice.name, share, seed, variant, connector)))
    return result


@dataclass(frozen=True)
class _Asked:
    """A place in the grid."""

    role: Role
    scheme: PluginChoice
    label: str
    share: float
    seed: int
    variant: str | None = None
    connector: Mapping[str, Any] | None = None
    selector: PluginChoice | None = None
    selector_label: str | None = None


def _run(values: Mapping[str, Any], folder: Path, asked: _Asked) -> Run:
    data = {
        k: v for k, v in values.get("data", {}).items() if k not in ("speech_share", "speech_items", "speech_minutes")
    }
    backbone = values.get("backbone", "smol")
    backbone = {"name": backbone} if isinstance(backbone, str) else dict(backbone)
    if asked.connector is not None:
        backbone["connector"] = dict(asked.connector)
    chosen = {"selector": asked.selector.model_dump(mode="json")} if asked.selector is not None else {}
    merged = {
        **values,
        "data": {**data, "speech_share": asked.share, "budget_seed": asked.seed, **chosen},
        "backbone": backbone,
        "scheme": asked.scheme.model_dump(mode="json"),
        "train": {**values.get("train", {}), "seed": asked.seed},
    }
    recipe = parse_recipe(merged, folder, "recipe")
    _refuse_leaks(recipe)
    start = ["cascade"] if asked.role == "cascade" else []
    by = [asked.selector_label] if asked.selector_label is not None else []
    start += [asked.variant] if asked.variant is not None else []
    name = "-".join([*start, asked.label, *by, f"{asked.share * 100:g}", f"s{asked.seed}"])
    own = recipe.data.selector.name if recipe.data.selector is not None else None
    selector = asked.selector_label or own
    prefix = _shared_prefix(recipe)
    return Run(name, asked.role, asked.scheme.name, asked.share, asked.seed, recipe, prefix, selector, asked.variant)


def _refuse_leaks(recipe: Recipe) -> None:
    """Raises ConfigError for settings that choose by a development set: its recordings would come on top of the budget."""
    chosen = [
        f"train.{name}"
        for name in ("metric_for_best_model", "early_stopping_patience", "eval_steps")
        if getattr(recipe.train, name) is not None
    ]
    if chosen:
        raise ConfigError(
            f"recipe: a study trains for fixed epochs and judges the last weights, so that no recording is used beyond "
            f"the budget. Take out {' and '.join(chosen)}."
        )


def _shared_prefix(recipe: Recipe) -> str | None:
    """What names a first stage without recordings that is followed by others; None if there is none."""
    scheme = plugins.load("schemes", recipe.scheme.name)
    stages = scheme.plan(plugins.configure(scheme, recipe.scheme.options, "scheme"), Pools(1, 1, 1))
    heard = [number for pool, number in stages[0].passes.items() if pool.partition(":")[0] == "speech"]
    if len(stages) < 2 or any(heard):
        return None
    same = [recipe.scheme, recipe.backbone, recipe.tuner]
    return json.dumps([*(part.model_dump(mode="json") for part in same), recipe.train.seed], sort_keys=True)


def num_workers(study: Study, num_runs: int) -> int:
    """One run a GPU, without one a run a core, at most four side by side, unless the study says otherwise."""
    return min(study.workers or len(gpus()) or min(4, os.cpu_count() or 1), num_runs)
