"""Words, sounds and slot values in little reading: greedy maximum coverage with diminishing returns.

The objective is that of Wei, Liu, Kirchhoff, Bartels and Bilmes (Submodular subset selection for large-scale speech
training data, ICASSP 2014, feature-based functions with a square root): F(S) = sum over units u of w(u) sqrt(n(u)), where
n(u) is the number of sentences of S, and of those recorded already, that hold the unit. The first sentence with a unit
gains w(u), the second 0.41 w(u), the tenth 0.16 w(u). Their units are n-grams of phones, weighted by tf-idf. Ours are
words, n-grams of letters (a stand-in for phones that needs no lexicon), slot values and labels; w(u) is the weight of the
kind times log2(1 + candidates that hold the unit), for what many say is worth more than what one says.

F is monotone and submodular. Greedy choice reaches at least 1 - 1/e of the best possible (Nemhauser, Wolsey and Fisher
1978; where gains are taken a second, that is a usual heuristic), is nested by construction, and may be lazy (Minoux 1978):
a gain only ever falls, so a candidate whose gain of now is not below the next one's of earlier is the best.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from pydantic import Field, PositiveInt

from lalm.data.covered import additions
from lalm.data.pace import CALM
from lalm.plugins import PluginConfig
from lalm.records import NOTHING, Known, Utterance
from lalm.select._features import ngrams, seeded, unit_matrix


class Config(PluginConfig):
    """What is to be covered, and what it weighs."""

    word: float = Field(1.0, ge=0, description="weight of a word")
    ngram: float = Field(
        0.2, ge=0, description="weight of an n-gram of letters; a sentence has about five times as many"
    )
    slot_value: float = Field(2.0, ge=0, description="weight of a slot's value")
    label: float = Field(5.0, ge=0, description="weight of an intent, and of a slot type")
    ngram_length: PositiveInt = Field(3, description="letters of an n-gram, spaces between words included")
    per_second: bool = Field(True, description="gain a second of reading, instead of a sentence: long ones win nothing")
    seed: int | None = Field(None, description="seed of the draw among equals (none: that of the budget)")


def choose(candidates: Sequence[Utterance], budget: int, cfg: Config, known: Known = NOTHING) -> list[str]:
    """The rows of the largest gains, one after the other; lazily."""
    if not candidates:
        return []
    rows = seeded(candidates, cfg.seed)
    matrix, weights = unit_matrix([*rows, *known.recorded], cfg.model_dump(), cfg.ngram_length)
    weights = weights * np.log2(1 + np.asarray(matrix[: len(rows)].sum(axis=0)).ravel())
    times = np.asarray(matrix[len(rows) :].sum(axis=0)).ravel()  # n(u)
    steps = weights * (np.sqrt(times + 1) - np.sqrt(times))  # what one more sentence with the unit gains
    units = np.split(matrix.indices, matrix.indptr[1:-1])[: len(rows)]
    costs = [CALM.seconds(replace(row, duration_s=None)) if cfg.per_second else 1.0 for row in rows]

    def gain(index: int) -> float:
        return round(float(steps[units[index]].sum()) / costs[index], 9)  # rounded, so that equals are equal

    heap = [(-gain(index), index) for index in range(len(rows))]
    heapq.heapify(heap)
    chosen: list[str] = []
    while heap and len(chosen) < budget:
        _, index = heapq.heappop(heap)
        now = (-gain(index), index)
        if heap and now > heap[0]:
            heapq.heappush(heap, now)
            continue
        chosen.append(rows[index].id)
        held = units[index]
        times[held] += 1
        steps[held] = weights[held] * (np.sqrt(times[held] + 1) - np.sqrt(times[held]))
    return chosen


def reasons(candidates: Sequence[Utterance], chosen: Sequence[str], cfg: Config, known: Known = NOTHING) -> list[str]:
    """What each row adds to those before it: intents, slots, words, and the number of letter n-grams that are new."""
    by_id = {row.id: row for row in candidates}
    rows = [by_id[name] for name in chosen]
    seen = {piece for row in known.recorded for piece in ngrams(row, cfg.ngram_length)}
    result = []
    for row, said in zip(rows, additions(rows, known.recorded), strict=True):
        new = set(ngrams(row, cfg.ngram_length)) - seen
        seen |= new
        result.append(f"{said}; new letter sequences: {len(new)}" if new else said)
    return result
