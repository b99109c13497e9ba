"""Rows of a predictions file: read and checked, and what a metric and a bootstrap see of them. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, get_args

from lalm import languages
from lalm.data.manifest import json_lines
from lalm.errors import DataError, nearest
from lalm.evaluate.parse import asks_back
from lalm.records import Frame, Reading, Status

STATUSES: tuple[Status, ...] = get_args(Status)


def readings(row: Mapping[str, Any]) -> tuple[Reading, Reading]:
    """Reference and hypothesis of a predictions row; a row with `answers` was a question, and its raw answer is one."""
    answer, language = row["prediction"], languages.base(row.get("language", languages.DEFAULT))
    right = Reading(Frame.from_json(row["gold"]), row.get("text"), language=language)
    given = Reading(Frame.from_json(answer) if answer is not None else None, row.get("heard"), language=language)
    if "answers" not in row:
        return right, given
    labelled = right.frame if right.frame != Frame(None) else None  # a question has no label that could be right
    return (
        replace(right, frame=labelled, answers=tuple(row["answers"]), asks=row.get("ambiguous")),
        replace(given, answers=(row["raw"],), asks=asks_back(row["raw"])),
    )


def read_predictions(path: Path) -> list[dict[str, Any]]:
    """Rows of a predictions file. Raises DataError that lists every bad line."""
    rows: list[dict[str, Any]] = []
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
        rows.append(row)
    if problems:
        raise DataError(f"{path}: {len(problems)} bad rows.", problems)
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
    for field in ("text", "heard"):
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


def by_language(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Predictions rows by their language, languages in alphabetical order."""
    parts: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        parts.setdefault(languages.base(row.get("language", languages.DEFAULT)), []).append(row)
    return dict(sorted(parts.items()))


def has_sound(row: Mapping[str, Any]) -> bool:
    """Whether a recording was heard for a predictions row: its own, or that of a turn."""
    return "audio" in row or any(turn.get("audio") is not None for turn in row.get("turns", ()))


def item(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a predictions row was judged on: its id, and what would have been right. Rows of two runs are paired where it is one."""
    frame = Frame.from_json(row["gold"])
    return row["id"], frame, tuple(row["answers"]) if "answers" in row else None, row.get("ambiguous")


def check_same_items(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Raises DataError if rows, ordered by id, are not over the same items as those of `path`, with the first that differs."""
    for one, other in zip_longest(map(item, first), map(item, second)):
        if one == other:
            continue
        same_id = one is not None and other is not None and one[0] == other[0]
        name = min(each[0] for each in (one, other) if each is not None)
        raise DataError(
            f"{path}: holds other items than the other runs ('{name}' {'has another right answer' if same_id else 'is not in both'}); "
            "only runs over the same items can be compared."
        )


def group(row: Mapping[str, Any]) -> str:
    """What a predictions row is drawn together with in resampling: the passage that is narrated, or else the row alone.

    A passage that is misheard is misheard for all questions about it, so that they are not so many independent rows.
    """
    narrated = [
        turn.get("text") or turn.get("audio") or "" for turn in row.get("turns", ()) if turn["role"] == "narrator"
    ]
    return " ".join(narrated) or str(row["id"])
