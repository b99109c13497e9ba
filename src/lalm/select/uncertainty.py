"""Least certain first: by a number that a model gave each row, read from a file of JSON lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from lalm.data.manifest import json_lines
from lalm.data.problems import Problems
from lalm.errors import ConfigError, DataError, many, nearest
from lalm.plugins import PluginConfig
from lalm.records import NOTHING, Known, Utterance
from lalm.select._features import seeded


class Config(PluginConfig):
    """Where the numbers stand."""

    scores: Path | None = Field(
        None, description="JSON lines with an id and a number each, such as a run's predictions"
    )
    column: str = Field("confidence", description="key of the number")
    certain: Literal["high", "low"] = Field(
        "high", description="numbers of certain rows: high (probability), low (loss)"
    )
    seed: int | None = Field(None, description="seed of the draw among equals (none: that of the budget)")


def choose(candidates: Sequence[Utterance], budget: int, cfg: Config) -> list[str]:
    """The least certain rows. Raises DataError that lists the candidates without a number."""
    found = _numbers(candidates, cfg)
    sign = 1 if cfg.certain == "high" else -1
    return [row.id for row in sorted(seeded(candidates, cfg.seed), key=lambda row: sign * found[row.id])[:budget]]


def reasons(candidates: Sequence[Utterance], chosen: Sequence[str], cfg: Config, known: Known = NOTHING) -> list[str]:
    """The number of each chosen row, and its place among all."""
    found = _numbers(candidates, cfg)
    return [f"{cfg.column} {found[name]:.3g}, place {i} of {len(found)}" for i, name in enumerate(chosen, 1)]


def _numbers(candidates: Sequence[Utterance], cfg: Config) -> dict[str, float]:
    """The number of each candidate."""
    if cfg.scores is None:
        raise ConfigError(
            "The selector uncertainty reads its numbers from a file: scores=PREDICTIONS.jsonl column=NAME."
        )
    problems = Problems()
    wanted = {row.id for row in candidates}
    found: dict[str, float] = {}
    keys: set[str] = set()
    for line, value in json_lines(cfg.scores, problems):
        where = f"{cfg.scores}, line {line}"
        if not isinstance(value, dict) or not isinstance(value.get("id"), str):
            problems.append(f"{where}: an object with a string 'id' is needed.")
            continue
        keys |= value.keys()
        number = value.get(cfg.column)
        if value["id"] not in wanted or cfg.column not in value:
            continue
        if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
            problems.append(f"{where}: '{cfg.column}' is {number!r}, a number is needed.")
            continue
        found[value["id"]] = float(number)
    if cfg.column not in keys and not problems:
        raise DataError(f"{cfg.scores}: no row has '{cfg.column}'.{nearest(cfg.column, keys)}")
    problems.check(cfg.scores)
    missing = sorted(wanted - found.keys())
    if missing:
        raise DataError(
            f"{cfg.scores}: {many(len(missing), 'candidate')} of {len(wanted)} without '{cfg.column}'.", missing
        )
    return found
