"""Figures of dialogues that went on as the model led them (`evaluate.dialogue`), from their trajectories alone. No torch.

A row of a set is one dialogue up to its last request. An ambiguous row has a trajectory for each of its replies, and counts
once: its figures are the mean over them. Rows about one passage (`meta.passage`) are drawn together in the bootstrap, since
what errs in one of them errs in the others.

- `turn_em`, `turn_f1`: SQuAD's EM and F1 over all turns of the model that an answer is due in: of a clear request the first
  turn, of an ambiguous one those after the user's reply. Asking there counts 0.
- `trajectory_em`, `trajectory_f1`: over dialogues, of the last thing that the model says; a dialogue that ends with a question
  counts 0. An ambiguous request that was answered at once is held against what is right after each of the replies.
- `clarification_recall`, `asks_when_clear`, `clarification_precision`: of the first turns, as the metrics of these names.
- `question_overlap`: SQuAD's F1 of a question asked rightly and the one of the annotation: how much of its words they share.
  Nothing asks for the same words, and the reply is given in any case.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lalm import plugins
from lalm.evaluate import stats
from lalm.records import Reading

Trajectory = Mapping[str, Any]
LOWER_IS_BETTER = ("asks_when_clear",)
_ASKING = ("clarification_recall", "asks_when_clear", "clarification_precision")
NAMES = ("turn_em", "turn_f1", "trajectory_em", "trajectory_f1", *_ASKING, "question_overlap")


def score(trajectories: Sequence[Trajectory], num_resamples: int, seed: int = 0) -> dict[str, Any]:
    """Each figure with its 95 % interval and the number of rows that it is over, and the counts that it is a ratio of."""
    rows = by_row(trajectories)
    metrics, totals = {}, {}
    for name, counts in count(trajectories).items():
        n = sum(_of_row(row)[name][1] > 0 for row in rows.values())
        value = low = high = None
        if n:
            value, low, high = map(stats.known, stats.interval(counts, _ratio, num_resamples, seed))
            totals[name] = counts.sum(axis=0).tolist()
        metrics[name] = {"value": value, "low": low, "high": high, "n": n}
    return {"metrics": metrics, "counts": totals}


def differences(noisy: Sequence[Trajectory], clean: Sequence[Trajectory]) -> dict[str, dict[str, Any]]:
    """Paired differences noisy - clean of each figure, over the same rows."""
    before, after = count(clean), count(noisy)
    found = {}
    for name in NAMES:
        result = stats.paired_difference([after[name]], [before[name]], _ratio)
        verdict = stats.verdict(result, name not in LOWER_IS_BETTER)
        found[name] = {**result, "verdict": verdict}
    return found


def count(trajectories: Sequence[Trajectory]) -> dict[str, np.ndarray]:
    """For each figure its counts (sum, number) by passage [passages, 2], in the order of the first rows."""
    by_passage: dict[str, dict[str, np.ndarray]] = {}
    for members in by_row(trajectories).values():
        sums = by_passage.setdefault(members[0]["passage"], {name: np.zeros(2) for name in NAMES})
        for name, pair in _of_row(members).items():
            sums[name] += pair
    return {name: np.array([sums[name] for sums in by_passage.values()]).reshape(-1, 2) for name in NAMES}


def by_row(trajectories: Iterable[Trajectory]) -> dict[str, list[Trajectory]]:
    """The trajectories of each row, by its id."""
    rows: dict[str, list[Trajectory]] = {}
    for one in trajectories:
        rows.setdefault(one["id"], []).append(one)
    return rows


def _of_row(members: Sequence[Trajectory]) -> dict[str, tuple[float, float]]:
    """(sum, number) of each figure for one row; trajectories of several replies share its weight."""
    found = dict.fromkeys(NAMES, (0.0, 0.0))
    each = [_of_trajectory(one) for one in members]
    for name in ("turn_em", "turn_f1", "trajectory_em", "trajectory_f1"):
        found[name] = (sum(one[name][0] for one in each) / len(each), sum(one[name][1] for one in each) / len(each))
    first = members[0]
    asked, ambiguous = first["turns"][0]["asks"], first["ambiguous"]
    for name in _ASKING:
        counts = plugins.load("metrics", name).count(Reading(None, asks=ambiguous), Reading(None, asks=asked))
        found[name] = (counts[0], sum(counts))
    if asked and ambiguous:
        found["question_overlap"] = (_squad("f1", [first["clarification"]], first["turns"][0]["text"]), 1.0)
    return found


def _of_trajectory(one: Trajectory) -> dict[str, tuple[float, float]]:
    said = [turn for turn in one["turns"] if turn["role"] == "assistant"]
    due = said[1:] if one["ambiguous"] else said
    return {
        f"{over}_{kind}": (sum(_right(kind, one["answers"], turn) for turn in turns), float(len(turns)))
        for over, turns in (("turn", due), ("trajectory", said[-1:]))
        for kind in ("em", "f1")
    }


def _right(kind: str, answers: Sequence[str], turn: Mapping[str, Any]) -> float:
    return 0.0 if turn["asks"] else _squad(kind, answers, turn["text"])


def _squad(kind: str, answers: Sequence[str], given: str) -> float:
    right, said = Reading(None, answers=tuple(answers)), Reading(None, answers=(given,))
    return float(plugins.load("metrics", f"squad_{kind}").count(right, said)[0])


def _ratio(counts: np.ndarray) -> np.ndarray:
    return counts[..., 0] / counts[..., 1]
