"""Any of them: a seeded draw, the yardstick of all others."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from lalm.plugins import PluginConfig
from lalm.records import Utterance
from lalm.select._features import seeded


class Config(PluginConfig):
    """Options of the draw."""

    seed: int | None = Field(None, description="seed of the draw (none: that of the budget)")


def choose(candidates: Sequence[Utterance], budget: int, cfg: Config) -> list[str]:
    """The beginning of one seeded order."""
    return [row.id for row in seeded(candidates, cfg.seed)[:budget]]
