"""Runs whose answers obey a grammar, beside the same runs answering freely."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import mean
from typing import Any

import numpy as np

from lalm.evaluate import stats
from lalm.rundir import RunDir, read_json
from lalm.study.answers import Answers

FREE = "test_free"


def free_scores(run: RunDir) -> dict[str, Any]:
    """`free_metrics` and `free_status` of a run that was judged both ways; nothing of another."""
    if not run.scores(FREE).is_file():
        return {}
    scores = read_json(run.scores(FREE))
    return {"free_metrics": scores["metrics"], "free_status": scores["status"]}


def with_and_without(
    drawn: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], metric: str, answers: Answers
) -> Iterator[dict[str, Any]]:
    """A row for each point of the curves that was judged both ways, seeds averaged.

    `rows` are cells and references. The difference is with the grammar - without it, paired over utterances.
    """
    judged = {row["run"]: row for row in rows if "free_metrics" in row}
    for curve in drawn:
        for point in curve["points"]:
            found = [judged[run] for run in point["runs"] if run in judged]
            if curve["role"] == "oracle_text" or point.get("borrowed") or not found or len(found) < len(point["runs"]):
                continue
            low, high = np.nanpercentile(answers.resample(point["runs"], metric, FREE), [2.5, 97.5])
            yield {
                "name": curve["label"],
                "speech_share": point["speech_share"],
                "num_speech": point["num_speech"],
                "runs": list(point["runs"]),
                "metric": metric,
                "value": _mean(row["metrics"][metric]["value"] for row in found),
                "free_value": _mean(row["free_metrics"][metric]["value"] for row in found),
                "free_low": stats.known(float(low)),
                "free_high": stats.known(float(high)),
                "status": dict(sum((Counter(row["status"]) for row in found), Counter())),
                "free_status": dict(sum((Counter(row["free_status"]) for row in found), Counter())),
                **answers.compare(point["runs"], point["runs"], metric, ("test", FREE)),
            }


def _mean(values: Iterator[float | None]) -> float | None:
    """The mean of values; None if one of them is not known."""
    known = list(values)
    return None if any(value is None for value in known) else mean(value for value in known if value is not None)
