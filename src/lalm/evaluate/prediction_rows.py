"""Rows of a predictions file: what a metric and a bootstrap see of them. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from lalm import languages
from lalm.errors import DataError
from lalm.evaluate.parse import asks_back
from lalm.records import Frame, Reading


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
