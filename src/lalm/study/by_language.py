"""A study's results language by language: what was trained on, values of each test language, and their paired comparisons."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lalm import plugins
from lalm.evaluate import stats
from lalm.evaluate.prediction_rows import by_language as parts_of
from lalm.evaluate.prediction_rows import has_sound
from lalm.languages import SEVERAL
from lalm.study.answers import Answers

Row = Mapping[str, Any]
_NUM_RESAMPLES = 1000


def of_cell(info: Row, rows: Sequence[Row], scores: Row) -> dict[str, Any]:
    """What a cell says of languages: that of its test set (`mul`: several), scores by language, rows trained on by language."""
    languages = list(parts_of(rows))
    several = {"by_language": scores["by_language"]} if "by_language" in scores else {}
    trained = {"trained_on": info["languages"]} if info.get("languages") else {}
    return {"language": languages[0] if len(languages) == 1 else SEVERAL, **several, **trained}


def language_points(drawn: Iterable[Row], cells: Sequence[Row], metric: str, answers: Answers) -> list[dict[str, Any]]:
    """Every measured point of the curves in every test language, seeds averaged; empty where all is one language."""
    by_run = {cell["run"]: cell for cell in cells}
    points = []
    for curve in drawn:
        name = "oracle_text" if curve["role"] == "oracle_text" else "test"
        for point in curve["points"] if curve["role"] != "cascade" else ():
            if point.get("borrowed"):
                continue
            first = by_run.get(point["runs"][0], {})
            for language, own in _by_language(answers, point["runs"], name):
                points.append(
                    {
                        "role": curve["role"],
                        "name": curve["label"],
                        "variant": curve.get("variant"),
                        "scheme": curve["scheme"],
                        "speech_share": point["speech_share"],
                        "runs": point["runs"],
                        "trained_on": first.get("trained_on", {}),
                        "language": language,
                        "modality": _modality(answers.rows(point["runs"][0], name), own, name),
                        "metric": metric,
                        **_value(answers, point["runs"], metric, name, own),
                    }
                )
    tested = {point["language"] for point in points}
    trained = {language for cell in cells for language in cell.get("trained_on", {})}
    return points if len(tested | trained) > 1 else []


def language_comparisons(comparisons: Iterable[Row], answers: Answers) -> Iterator[dict[str, Any]]:
    """The paired comparisons again, in each test language by itself; nothing where the test set has one language."""
    for found in comparisons:
        sides = (found["a_runs"], found["b_runs"])
        parts = list(_by_language(answers, sides[0], "test"))
        for language, own in parts if len(parts) > 1 else ():
            yield {**found, "language": language, **answers.compare(*sides, found["metric"], places=own)}


def _by_language(answers: Answers, runs: Sequence[str], name: str) -> Iterator[tuple[str, list[int]]]:
    """Languages of a set, each with the places of its rows [rows]."""
    rows = answers.rows(runs[0], name)
    for language, own in parts_of(rows).items():
        ids = {row["id"] for row in own}
        yield language, [place for place, row in enumerate(rows) if row["id"] in ids]


def _modality(rows: Sequence[Row], own: Sequence[int], name: str) -> str:
    heard = name != "oracle_text" and any(has_sound(rows[place]) for place in own)
    return "speech" if heard else "text"


def _value(answers: Answers, runs: Sequence[str], metric: str, name: str, own: Sequence[int]) -> dict[str, Any]:
    """Value with its 95 % interval over the rows of a language, runs (seeds) averaged and taken as they are."""
    members = [answers.counts(run, metric, name, own) for run in runs]
    value = low = high = None
    if all(counts.shape[1] for counts in members):
        found = stats.mean_interval(members, plugins.load("metrics", metric).reduce, _NUM_RESAMPLES, seed=0)
        value, low, high = map(stats.known, found)
    return {"value": value, "low": low, "high": high, "n": len(own)}
