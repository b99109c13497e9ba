"""In proportion: every beginning has intents and slot types as the candidates have them, as budgets are drawn anyway."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from lalm.data.budget import balanced_order
from lalm.plugins import PluginConfig
from lalm.records import NOTHING, Known, Utterance


class Config(PluginConfig):
    """Options of the order."""

    seed: int | None = Field(None, description="seed of the draw among equals (none: that of the budget)")


def choose(candidates: Sequence[Utterance], budget: int, cfg: Config, known: Known = NOTHING) -> list[str]:
    """The beginning of the balanced order; what is recorded already counts as if it had come first."""
    if not candidates:
        return []
    return [row.id for row in balanced_order(candidates, cfg.seed or 0, known.recorded)[:budget]]
