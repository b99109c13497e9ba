"""GOT-D: what brings the candidates nearest to a target, by the gradient of an optimal transport (arXiv 2405.02774).

The paper: fine-tuning lightly on a choice D_U moves a model from the distribution it has seen towards lambda * D_U +
(1 - lambda) * it; to first order OT(that, target D_R) falls most if D_U has the largest negative gradients of
OT(D_S, D_R) in the mass of each candidate. The candidates D_S stand in for what the model has seen. Not the candidates
nearest to the target: of what is there in plenty already, a little more gains little.

Ours, where the paper leaves it open or a sentence asks for less: the paper embeds texts with a language model; we take
tf-idf of words and letter n-grams beside intent and slot types, hashed, in `dims` directions of a truncated SVD, and the
squared distance of unit vectors as cost. Rows that are recorded already are what the model has heard, so where there are
any they are D_S, and the candidates bear no mass yet. The target is the manifest `target`, else the written rows of the
task, else the candidates themselves. Where target and D_S are the same sentences nothing is to be moved: all gradients
are 0, and the seed draws. Candidates without mass in the transport (these, and those beyond `max_rows`, to which both
sides are cut by a sample) have the potential that they would have with a little mass (soft c-transform).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt

from lalm.data.manifest import read_manifest
from lalm.errors import DataError
from lalm.plugins import PluginConfig
from lalm.records import NOTHING, Known, Utterance
from lalm.select._features import hashed, seeded, vectors
from lalm.select._transport import calibrated, conjugate, potentials

_BLOCK = 2000  # candidates whose costs are held at once


class Config(PluginConfig):
    """The target, and how rows are compared."""

    target: Path | None = Field(
        None, description="manifest of what is to be understood (none: the task's written rows, else the candidates)"
    )
    dims: PositiveInt = Field(64, description="directions of the truncated SVD")
    ngram_length: PositiveInt = Field(3, description="letters of an n-gram, spaces between words included")
    label_weight: float = Field(
        1.0, ge=0, description="weight of intent and slot types beside that of the sentence (1)"
    )
    epsilon: PositiveFloat = Field(0.05, description="entropic regularisation, as a share of the mean cost")
    max_rows: PositiveInt = Field(2000, description="rows of either side that the transport is solved on")
    seed: int | None = Field(
        None, description="seed of the draw among equals and of samples (none: that of the budget)"
    )


def choose(candidates: Sequence[Utterance], budget: int, cfg: Config, known: Known = NOTHING) -> list[str]:
    """The rows of the largest negative gradients."""
    found = _gradients(candidates, cfg, known)
    ordered = sorted(seeded(candidates, cfg.seed), key=lambda row: round(found[row.id], 9))
    return [row.id for row in ordered[:budget]]


def reasons(candidates: Sequence[Utterance], chosen: Sequence[str], cfg: Config, known: Known = NOTHING) -> list[str]:
    """The gradient of each chosen row, and what it means."""
    found = _gradients(candidates, cfg, known)
    if not any(found.values()):
        return ["drawn: target and candidates are the same sentences, name another target" for _ in chosen]
    words = {True: "the target has more like it", False: "the target has no more like it"}
    return [f"{words[found[name] < 0]} (gradient {found[name]:+.3f})" for name in chosen]


def _gradients(candidates: Sequence[Utterance], cfg: Config, known: Known) -> dict[str, float]:
    """Calibrated gradient of the transport cost in the mass of each candidate."""
    if not candidates:
        return {}
    target = _target(candidates, cfg, known)
    source = known.recorded or candidates
    if {(row.text, row.frame) for row in source} == {(row.text, row.frame) for row in target}:
        return dict.fromkeys((row.id for row in candidates), 0.0)
    source = seeded(source, cfg.seed)[: cfg.max_rows]
    target = seeded(target, cfg.seed)[: cfg.max_rows]
    matrix = hashed([*source, *target, *candidates], cfg.ngram_length, cfg.label_weight)
    solved = len(source) + len(target)
    made = vectors(matrix, range(solved), cfg.dims)
    sources, targets, all_candidates = np.split(made, [len(source), solved])
    cost = _cost(sources, targets)
    epsilon = cfg.epsilon * max(float(cost.mean()), 1e-6)
    a, b = (np.full(number, 1 / number) for number in cost.shape)
    _, g = potentials(cost, a, b, epsilon)
    blocks = (all_candidates[start : start + _BLOCK] for start in range(0, len(candidates), _BLOCK))
    f = np.concatenate([conjugate(_cost(block, targets), g, b, epsilon) for block in blocks])
    return dict(zip((row.id for row in candidates), calibrated(f).tolist(), strict=True))


def _target(candidates: Sequence[Utterance], cfg: Config, known: Known) -> Sequence[Utterance]:
    if cfg.target is None:
        return known.text or candidates
    rows = [row for row in read_manifest(cfg.target, allow_outside=True) if row.text or row.frame.slots]
    if not rows:
        raise DataError(f"{cfg.target}: no row has a sentence or slots, so it is no target for the selector got_d.")
    return rows


def _cost(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Squared distances [n, m] of unit vectors [n, dims], [m, dims], 0 to 4."""
    return np.maximum(2 - 2 * first @ second.T, 0)
