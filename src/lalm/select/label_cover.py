"""Every label once, in few sentences, then in proportion: as the few shots of a language are chosen.

Speech-MASSIVE's 115 training recordings of a language hold all domains, intents and slot types of MASSIVE (arXiv 2408.03900); how
they were found is not said. Here: greedy set cover (Chvatal 1979), the next row being the one with the most labels that no row
before it has, of equals the one whose rarest new label is rarest, then a seeded draw. When no row adds a label, the others follow in
the balanced order of budgets. Labels are intents and slot types; a domain is part of the intent's name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pydantic import Field

from lalm.data.budget import balanced_order
from lalm.plugins import PluginConfig
from lalm.records import NOTHING, Known, Utterance
from lalm.select._features import seeded


class Config(PluginConfig):
    """Options of the order."""

    seed: int | None = Field(None, description="seed of the draw among equals (none: that of the budget)")


def choose(candidates: Sequence[Utterance], budget: int, cfg: Config, known: Known = NOTHING) -> list[str]:
    """The covering rows, best first, then the balanced order; labels of what is recorded already are covered."""
    rows = seeded(candidates, cfg.seed)
    labels = {row.id: _labels(row) for row in rows}
    times = Counter(label for found in labels.values() for label in found)
    covered = {label for row in known.recorded for label in _labels(row)}
    chosen: list[Utterance] = []
    left = {row.id: row for row in rows}
    while left and len(chosen) < budget:
        best = max(left.values(), key=lambda row: _gain(labels[row.id] - covered, times))
        if not labels[best.id] - covered:
            break
        covered |= labels[best.id]
        chosen.append(left.pop(best.id))
    if len(chosen) < budget and left:
        chosen += balanced_order(list(left.values()), cfg.seed or 0, [*known.recorded, *chosen])
    return [row.id for row in chosen[:budget]]


def _gain(new: set[tuple[str, str]], times: Counter[tuple[str, str]]) -> tuple[int, float]:
    """How many labels are new, and how rare the rarest of them is."""
    return len(new), max((1 / times[label] for label in new), default=0.0)


def _labels(row: Utterance) -> set[tuple[str, str]]:
    return {("intent", row.frame.intent or ""), *(("slot", slot.type) for slot in row.frame.slots)}
