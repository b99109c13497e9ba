"""Rows of a predictions file, read and checked: what `lalm predict` and runs write, and what people edit. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from lalm import languages
from lalm.data.manifest import json_lines
from lalm.errors import DataError, many, nearest
from lalm.records import Status

STATUSES: tuple[Status, ...] = get_args(Status)


def stream_predictions(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a predictions file, one by one. DataError that lists every bad line comes after the last good one."""
    problems: list[str] = []
    seen: dict[str, int] = {}
    for number, row in json_lines(path, problems):
        wrong = _problem(row)
        if wrong is None and row["id"] in seen:
            wrong = f"id {row['id']!r} stands on line {seen[row['id']]} already; ids must differ"
        if wrong is not None:
            problems.append(f"{path}, line {number}: {wrong}.")
            continue
        seen[row["id"]] = number
        yield row
    if problems:
        raise DataError(f"{path}: {many(len(problems), 'bad row')}.", problems)


def read_predictions(path: Path) -> list[dict[str, Any]]:
    """Rows of a predictions file. Raises DataError that lists every bad line, or for a file that holds none."""
    rows = list(stream_predictions(path))
    if not rows:
        raise DataError(f"{path}: holds no predictions.")
    return rows


def _problem(row: Any) -> str | None:
    """What is wrong with a predictions row, None if nothing is."""
    if not isinstance(row, dict):
        return "is no JSON object"
    for field in ("id", "gold", "prediction", "status"):
        if field not in row:
            return f"field '{field}' is missing.{nearest(field, row)}" if row else f"field '{field}' is missing"
    if not isinstance(row["id"], str):
        return f"field 'id' is {row['id']!r}, a string is needed"
    if row["status"] not in STATUSES:
        return f"field 'status' is {row['status']!r}; allowed: {', '.join(STATUSES)}"
    if (row["prediction"] is None) != (row["status"] == "failed"):
        return f"field 'prediction' is {'null' if row['prediction'] is None else 'a frame'} and 'status' is {row['status']!r}"
    for field in ("gold", "prediction"):
        frame = row[field]
        if not (frame is None and field == "prediction") and not _is_frame(frame):
            return f"field '{field}' is no object with an intent (string or null) and slots ({{'type', 'value'}} of strings)"
    for field in ("text", "heard", "audio"):
        if not isinstance(row.get(field), str | None):
            return f"field '{field}' is {row[field]!r}, a string or null is needed"
    if not isinstance(row.get("language", "en"), str):
        return f"field 'language' is {row['language']!r}, a string is needed"
    try:
        languages.base(row.get("language", languages.DEFAULT))
    except ValueError as error:
        return f"field 'language': {error}"
    turns = row.get("turns", [])
    if not isinstance(turns, list) or not all(map(_is_turn, turns)):
        return f"field 'turns' is {turns!r:.60}, a list of {{'role', 'text', 'audio'}} is needed (strings, or null for the last two)"
    return _question_problem(row)


def _question_problem(row: Mapping[str, Any]) -> str | None:
    """What is wrong with a row as an answered question; nothing if it is none."""
    if "answers" not in row:
        return "field 'ambiguous' stands there without 'answers'" if "ambiguous" in row else None
    answers = row["answers"]
    if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
        return f"field 'answers' is {answers!r:.60}, a list of strings is needed"
    if not isinstance(row.get("raw"), str):
        return f"field 'raw' is {row.get('raw')!r:.60}, a string is needed where there are 'answers'"
    if not isinstance(row.get("ambiguous"), bool | None):
        return f"field 'ambiguous' is {row['ambiguous']!r:.60}, true, false or null is needed"
    return None


def _is_turn(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("role"), str):
        return False
    return all(isinstance(value.get(name), str | None) for name in ("text", "audio"))


def _is_frame(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("intent"), str | None):
        return False
    slots = value.get("slots", [])
    return isinstance(slots, list) and all(
        isinstance(slot, dict) and isinstance(slot.get("type"), str) and isinstance(slot.get("value"), str)
        for slot in slots
    )
