"""Recordings that rows name: are they there, and how long are they."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from lalm.data import audio
from lalm.errors import DataError, many
from lalm.records import Utterance


def with_durations(rows: Iterable[Utterance], where: Path) -> list[Utterance]:
    """The rows with `duration_s` from the recording's header where it is not given.

    Raises DataError that lists every recording which is not there or whose header cannot be read.
    """
    result, problems = [], []
    for row in rows:
        try:
            if row.audio is not None and row.duration_s is None:
                row = replace(row, duration_s=round(audio.info(row.audio).duration_s, 3))
            elif row.audio is not None and not row.audio.is_file():
                raise DataError(f"{row.audio}: there is no such file.")
        except DataError as error:
            problems.append(f"row '{row.id}': {error}")
        result.append(row)
    if problems:
        raise DataError(f"{where}: {many(len(problems), 'recording')} cannot be used.", problems)
    return result
