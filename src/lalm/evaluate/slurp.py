"""The official SLURP scorer's figures, from SLURP's own gold and prediction files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from lalm.data.manifest import json_lines
from lalm.errors import DataError
from lalm.metrics._slurp import Counts, distance_counts, exact_counts, f1

_UNITS: tuple[Literal["word", "char"], ...] = ("word", "char")


def score_slurp(gold: Path, predictions: Path, gold_transcripts: bool) -> dict[str, Any]:
    """Precision, recall and F1 of scenario, action, intent and entities, keyed as the official scorer prints them.

    Predictions made from gold transcripts are matched by `slurp_id`, those made from recordings by `file`. Rows
    without a prediction count as `missing` and in no figure. Labelled words are compared in lower case, predicted ones
    as they stand; a predicted entity without type or words is a wrong one. All of it as in the official scorer.
    Raises DataError for unreadable files or rows, all of them listed.
    """
    references = _gold(gold, gold_transcripts)
    found = _predictions(predictions, gold_transcripts)
    sums: dict[str, list[float]] = {}

    def add(name: str, counts: Counts) -> None:
        total = sums.setdefault(name, [0.0, 0.0, 0.0])
        for index, value in enumerate(counts):
            total[index] += value

    missing = 0
    for key, reference in references.items():
        prediction = found.get(key)
        if prediction is None:
            missing += 1
            continue
        for name, field in (("Scenario", 0), ("Action", 1)):
            add(name, _label(reference[field] == prediction[field]))
        add("Intent (scen_act)", _label(reference[:2] == prediction[:2]))
        add("Entities", exact_counts(reference[2], prediction[2]))
        for unit in _UNITS:
            counts = distance_counts(reference[2], prediction[2], unit)
            add(f"Entities (distance {unit})", counts)
            add("Slu f1", counts)
    figures: dict[str, Any] = {
        name: dict(zip(("precision", "recall", "f1"), f1(*counts), strict=True)) for name, counts in sums.items()
    }
    order = [
        "Scenario",
        "Action",
        "Intent (scen_act)",
        "Entities",
        "Entities (distance word)",
        "Entities (distance char)",
    ]
    empty = {"precision": None, "recall": None, "f1": None}
    ordered = {name: figures.get(name, empty) for name in [*order, "Slu f1"]}
    return {**ordered, "missing": missing, "total": len(references)}


def _label(right: bool) -> Counts:
    return (1.0, 0.0, 0.0) if right else (0.0, 1.0, 1.0)


_Row = tuple[str, str, list[tuple[str, str]]]


def _gold(path: Path, by_id: bool) -> dict[str, _Row]:
    rows: dict[str, _Row] = {}
    problems: list[str] = []
    for number, value in json_lines(path, problems):
        try:
            words = [token["surface"].lower() for token in value["tokens"]]
            entities = [
                (entity["type"], " ".join(words[index] for index in entity["span"])) for entity in value["entities"]
            ]
            row = (value["scenario"], value["action"], entities)
            keys = [str(value["slurp_id"])] if by_id else [item["file"] for item in value["recordings"]]
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            problems.append(f"{path}, line {number}: not a SLURP row ({type(error).__name__}: {error}).")
            continue
        rows.update(dict.fromkeys(keys, row))
    return _checked(path, rows, problems)


def _predictions(path: Path, by_id: bool) -> dict[str, _Row]:
    field = "slurp_id" if by_id else "file"
    rows: dict[str, _Row] = {}
    problems: list[str] = []
    for number, value in json_lines(path, problems):
        try:
            entities = [(str(e.get("type", "unknown")), str(e.get("filler", ""))) for e in value["entities"]]
            rows[str(value[field])] = (value["scenario"], value["action"], entities)
        except (KeyError, TypeError, AttributeError) as error:
            problems.append(
                f"{path}, line {number}: not a prediction with '{field}' ({type(error).__name__}: {error})."
            )
    hint = "" if by_id or rows else " Predictions made from gold transcripts need --gold-transcripts."
    return _checked(path, rows, problems, hint)


def _checked(path: Path, rows: dict[str, _Row], problems: list[str], hint: str = "") -> dict[str, _Row]:
    if problems:
        raise DataError(f"{path}: {len(problems)} bad rows.{hint}", problems)
    if not rows:
        raise DataError(f"{path}: holds no rows.")
    return rows
