"""Recordings that rows name: are they there, and how long are they."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

from lalm.data import audio
from lalm.data.dialogue import with_turns
from lalm.errors import DataError, many
from lalm.records import Turn, Utterance


def with_durations(rows: Iterable[Utterance], where: Path) -> list[Utterance]:
    """The rows with `duration_s`, of turns too, from the recording's header where it is not given.

    Raises DataError that lists every recording which is not there or whose header cannot be read.
    """
    result, problems = [], []
    for row in rows:
        found: list[str] = []
        if row.audio is not None:
            row = replace(row, duration_s=_seconds(row.audio, row.duration_s, found))
        if row.turns:
            row = with_turns(row, partial(_timed, problems=found))
        problems += [f"row '{row.id}': {problem}" for problem in found]
        result.append(row)
    if problems:
        raise DataError(f"{where}: {many(len(problems), 'recording')} cannot be used.", problems)
    return result


def _timed(turn: Turn, problems: list[str]) -> Turn:
    if turn.audio is None:
        return turn
    return replace(turn, duration_s=_seconds(turn.audio, turn.duration_s, problems))


def _seconds(path: Path, stated_s: float | None, problems: list[str]) -> float | None:
    """The length of a recording, from its header where it is not stated; what is wrong goes to `problems`."""
    if stated_s is not None and audio.is_file(path):
        return stated_s
    try:
        return round(audio.info(path).duration_s, 3)
    except DataError as error:
        problems.append(str(error))
        return stated_s
