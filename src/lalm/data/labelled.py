"""Labelled rows of a user's own file, whatever its columns are called: CSV, TSV or JSON lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lalm.data.columns import Columns, Rows, guess_columns
from lalm.data.manifest import json_lines
from lalm.data.slots import parse_slots, slots_from_text
from lalm.data.table import DELIMITERS, in_words, read_table, sniff_delimiter
from lalm.errors import DataError, many
from lalm.languages import base
from lalm.records import Frame, Slot

JSON_EXTENSIONS = (".jsonl", ".ndjson", ".json")
EXTENSIONS = (*DELIMITERS, *JSON_EXTENSIONS)
Split = Literal["train", "dev", "test"]
SPLITS: dict[str, Split] = {
    **dict.fromkeys(("train", "training", "pool"), "train"),
    **dict.fromkeys(("dev", "devel", "development", "valid", "val", "validation"), "dev"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}  # what files call the splits


@dataclass(frozen=True)
class LabelledRow:
    """One row: what is said, its label, the name of its recording as it stands in the file."""

    line: int
    id: str | None
    text: str | None
    audio_name: str | None
    frame: Frame
    language: str | None
    speaker: str | None
    split: Split | None
    meta: Mapping[str, Any]


@dataclass(frozen=True)
class LabelledFile:
    """The rows of a file, its columns, and how it was read, in words."""

    path: Path
    columns: Columns
    rows: tuple[LabelledRow, ...]
    how: str


def read_labelled(path: Path, guess_intent: bool = True) -> LabelledFile:
    """Read a file and guess its columns.

    Raises DataError for a file that cannot be read, and for rows that cannot be right (malformed, slots that are none,
    an unknown split, doubled ids), all of them listed.
    """
    names, raw, how = _raw_rows(path)
    columns = guess_columns(names, raw, guess_intent)
    problems: list[str] = []
    rows = []
    first_line: dict[str, int] = {}
    for line, values in raw:
        found: list[str] = []
        row = _row(line, values, columns, found)
        if row.id is not None and row.id in first_line:
            found.append(
                f"column '{columns.of['id']}': {row.id!r} stands on line {first_line[row.id]} already; ids must differ."
            )
        if row.id is not None:
            first_line.setdefault(row.id, line)
        problems += [f"{path}, line {line}: {problem}" for problem in found]
        rows.append(row)
    if problems:
        raise DataError(f"{path}: {many(len(problems), 'problem')}.", problems)
    return LabelledFile(path, columns, tuple(rows), how)


def _raw_rows(path: Path) -> tuple[list[str], Rows, str]:
    if path.suffix.lower() not in EXTENSIONS:
        raise DataError(f"{path}: '{path.suffix}' files are not read. Allowed: {', '.join(EXTENSIONS)}.")
    if path.suffix.lower() not in JSON_EXTENSIONS:
        delimiter = sniff_delimiter(path)
        table = read_table(path, delimiter)
        return list(table.columns), table.rows, f"columns separated by {in_words(delimiter)}"
    problems: list[str] = []
    rows = []
    for line, value in json_lines(path, problems):
        if isinstance(value, dict):
            rows.append((line, value))
        else:
            problems.append(f"{path}, line {line}: is not an object; one JSON object a line is needed.")
    if problems:
        raise DataError(f"{path}: {many(len(problems), 'problem')}.", problems)
    return list(dict.fromkeys(name for _, row in rows for name in row)), rows, "JSON lines"


def _row(line: int, values: Mapping[str, Any], columns: Columns, problems: list[str]) -> LabelledRow:
    def text(use: str) -> str | None:
        name = columns.of.get(use)
        value = values.get(name) if name is not None else None
        if isinstance(value, int | float) and not isinstance(value, bool) and use in ("id", "speaker"):
            return str(value)  # JSON files often number their rows and speakers
        if value is not None and not isinstance(value, str):
            problems.append(f"column '{name}': is {value!r}, a string is needed.")
            return None
        return value.strip() or None if value is not None else None

    given = text("split")
    split = SPLITS.get(given.lower()) if given else None
    if given and split is None:
        problems.append(f"column '{columns.of['split']}': is {given!r}; allowed: {', '.join(sorted(SPLITS))}.")
    language = text("language")
    try:
        language = base(language) if language else None
    except ValueError as error:
        problems.append(f"column '{columns.of['language']}': {error}.")
    words, audio_name = text("text"), text("audio")
    if words is None and audio_name is None and {"text", "audio"} & set(columns.of) and "id" not in columns.of:
        problems.append("has neither a sentence nor a recording; at least one is needed.")
    return LabelledRow(
        line=line,
        id=text("id"),
        text=words,
        audio_name=audio_name,
        frame=Frame(text("intent"), _slots(values, columns, problems)),
        language=language,
        speaker=text("speaker"),
        split=split,
        meta={name: values[name] for name in columns.left_over if values.get(name) not in (None, "")},
    )


def _slots(values: Mapping[str, Any], columns: Columns, problems: list[str]) -> tuple[Slot, ...]:
    slots: list[Slot] = []
    name = columns.of.get("slots")
    if name is not None:
        given = values.get(name)
        try:
            slots += slots_from_text(given.strip()) if isinstance(given, str) else parse_slots(given)
        except ValueError as error:
            problems.append(f"column '{name}': {error}.")
    for column, kind in columns.slot_types.items():
        value = values.get(column)
        if isinstance(value, str) and value.strip():
            slots.append(Slot(kind, value.strip()))
        elif value is not None and not isinstance(value, str):
            problems.append(f"column '{column}': is {value!r}, a string is needed.")
    return tuple(slots)
