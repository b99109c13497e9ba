"""Warnings of languages that a model cannot hear: said once each, and what it means."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from lalm import plugins
from lalm.config import Recipe
from lalm.data.pools import LoadedPools
from lalm.languages import name
from lalm.records import Utterance

_said: set[str] = set()


def warn_of_unheard(recipe: Recipe, rows: Iterable[Utterance]) -> None:
    """Says on standard error, once a process, which languages of the rows' recordings the backbone does not know."""
    backbone = plugins.load("backbones", recipe.backbone.name)
    if not hasattr(backbone, "unheard"):
        return
    cfg = plugins.configure(backbone, recipe.backbone.options, "backbone")
    for language in sorted({row.language for row in rows if row.recordings}):
        for reason in backbone.unheard(language, cfg):
            text = f"recordings in {name(language)} ({language}): {reason}."
            if text not in _said:
                _said.add(text)
                print(f"lalm: {text}", file=sys.stderr, flush=True)


def used_rows(pools: LoadedPools) -> list[Utterance]:
    """The rows that a run hears: in training, development and test."""
    return [*pools.speech, *pools.synthetic, *pools.dev, *pools.test]
