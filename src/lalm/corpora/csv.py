"""CSV or TSV with named columns: one file with a `split` column, or a folder with train, dev and test files.

Each option that ends in `_column` names a column; one that has its usual name is used if it is there. Slots stand as JSON
in one column, or in one column a type (`slot:room`, or the columns of `slot_columns`). The licence is yours to state.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import soundfile
from pydantic import Field

from lalm.data.labelled import SPLITS, Split
from lalm.data.manifest import resolve
from lalm.data.recordings import with_durations
from lalm.data.slots import slots_from_text
from lalm.data.table import Table, read_table
from lalm.errors import ConfigError, DataError, many, nearest
from lalm.languages import Language, base
from lalm.plugins import PluginConfig
from lalm.records import Frame, Slot, Utterance
from lalm.rundir import write_text

LICENCE = "as stated by the owner of the table"
_COLUMNS = ("id", "text", "audio", "intent", "slots", "language", "speaker", "duration_s", "split")
_EXTENSIONS = (".csv", ".tsv")


class Config(PluginConfig):
    """Options of the corpus."""

    delimiter: str | None = Field(
        None, min_length=1, max_length=1, description="between columns (none: by the extension)"
    )
    quote: str | None = Field(
        '"', min_length=1, max_length=1, description="around values (none: quotes are plain characters)"
    )
    id_column: str | None = Field("id", description="column of the row's name (none: file and line)")
    text_column: str | None = Field("text", description="column of the sentence (none: rows have no text)")
    audio_column: str | None = Field("audio", description="column of the recording's file (none: rows have no audio)")
    intent_column: str | None = Field(
        "intent", description="column of the intent; must be there (none: rows have no intent)"
    )
    slots_column: str | None = Field("slots", description="column of all slots as JSON (none: do not look for it)")
    language_column: str | None = Field(
        "language", description="column of the language code (none: `language` for all)"
    )
    speaker_column: str | None = Field("speaker", description="column of the speaker (none: speakers are not known)")
    duration_s_column: str | None = Field(
        "duration_s", description="column of the length in seconds (none: from the file)"
    )
    split_column: str | None = Field("split", description="column that says train, dev or test (none: all is train)")
    slot_columns: tuple[str, ...] = Field(
        (), description="columns of one slot type each; the column's name is the type"
    )
    slot_prefix: str = Field(
        "slot:", min_length=1, description="a column named so, with a type behind it, is a slot's too"
    )
    slot_separator: str | None = Field(
        None, min_length=1, description="between several values in a slot type's column (none: one value a cell)"
    )
    language: Language = Field("en", description="language code of rows that name none")
    audio_folder: str = Field(".", description="folder that file names start from, relative to the table")
    allow_outside_paths: bool = Field(False, description="let audio paths leave the table's folder")


def read(root: Path, split: str, cfg: Config) -> Iterator[Utterance]:
    """The rows of a split; rows that name none are training rows.

    Raises DataError for missing files, malformed or wrong rows and recordings that cannot be used, all listed, and
    ConfigError for a column that is named and not there.
    """
    path, forced = _file(root, split)
    if path is None:
        return
    table = read_table(path, cfg.delimiter, cfg.quote)
    columns = _check_columns(table, cfg)
    rows: list[Utterance] = []
    problems: list[str] = []
    first_line: dict[str, int] = {}
    for line, cells in table.rows:
        row, found = _row(table, line, cells, columns, cfg, forced)
        if row.id in first_line:
            found.append(
                f"column '{columns['id']}': {row.id!r} stands on line {first_line[row.id]} already; ids must differ."
            )
        first_line.setdefault(row.id, line)
        problems += [f"{path}, line {line}: {problem}" for problem in found]
        rows.append(row)
    if problems:
        raise DataError(f"{path}: {many(len(problems), 'problem')}.", problems)
    yield from with_durations((row for row in rows if row.split == split), path)


def _file(root: Path, split: str) -> tuple[Path | None, Split | None]:
    """The file that holds a split, and the split of all its rows if the file's name says it."""
    if not root.is_dir():
        return root, None
    tables = sorted(path for path in root.iterdir() if path.suffix.lower() in _EXTENSIONS and path.is_file())
    named = [path for path in tables if path.stem in get_args(Split)]
    found = [path for path in named if path.stem == split] if named else tables
    if len(found) == 1:
        return found[0], split if named else None  # type: ignore[return-value]
    if found:
        names = ", ".join(path.name for path in found)
        raise DataError(
            f"{root}: holds several tables ({names}). Name the file in data.root, or call them train, dev and test."
        )
    if named and split != "train":
        return None, None
    raise DataError(f"{root}: holds neither a train.csv or train.tsv, nor a single table.")


def _check_columns(table: Table, cfg: Config) -> dict[str, str]:
    """What a column is for -> its name, of those that are there. Raises ConfigError for what must be there and is not."""
    asked = {use: getattr(cfg, f"{use}_column") for use in _COLUMNS}
    found = {use: name for use, name in asked.items() if name in table.columns}
    free = [name for name in table.columns if name not in found.values()]
    missing = {
        f"{use}_column": name
        for use, name in asked.items()
        if name is not None and use not in found and (name != use or use == "intent")
    }
    problems = [
        f"data.corpus.{key}: {table.path} has no column '{name}'.{nearest(name, free)}" for key, name in missing.items()
    ]
    problems += [
        f"data.corpus.slot_columns: {table.path} has no column '{name}'.{nearest(name, free)}"
        for name in cfg.slot_columns
        if name not in table.columns
    ]
    if not {"text", "audio"} & set(found):
        problems.append(
            f"{table.path} has neither a column of sentences nor one of recordings. Set data.corpus.text_column or "
            f"audio_column to one of: {', '.join(table.columns)}."
        )
    if problems:
        raise ConfigError("\n".join(problems))
    return found


def _row(
    table: Table, line: int, cells: dict[str, str], columns: dict[str, str], cfg: Config, forced: Split | None
) -> tuple[Utterance, list[str]]:
    """The utterance of a row, and everything that is wrong with it, named by column."""
    problems: list[str] = []

    def cell(use: str) -> str | None:
        return cells[columns[use]] or None if use in columns else None

    words, name = cell("text"), cell("audio")
    if words is None and name is None:
        problems.append("has neither a sentence nor a recording; at least one is needed.")
    audio = None
    if name is not None:
        path, allowed = str(Path(cfg.audio_folder) / name), cfg.allow_outside_paths
        audio, problem = resolve(table.path.parent, path, allowed, "data.allow_outside_paths: true")
        problems += [f"column '{columns['audio']}': {problem}"] if problem else []
    language = cfg.language
    try:
        language = base(cell("language") or language)
    except ValueError as error:
        problems.append(f"column '{columns['language']}': {error}.")
    row = Utterance(
        id=cell("id") or f"{table.path.stem}-{line}",
        text=words,
        audio=audio,
        frame=Frame(cell("intent"), _slots(cells, columns, cfg, problems)),
        language=language,
        speaker=cell("speaker"),
        duration_s=_duration(cell("duration_s"), columns, problems),
        split=forced or _split(cell("split"), columns, problems),
        source="recorded" if audio is not None else "text",
        meta=_left_over(cells, columns, cfg),
    )
    return row, problems


def _slots(cells: dict[str, str], columns: dict[str, str], cfg: Config, problems: list[str]) -> tuple[Slot, ...]:
    slots: list[Slot] = []
    if "slots" in columns:
        try:
            slots += slots_from_text(cells[columns["slots"]])
        except ValueError as error:
            problems.append(f"column '{columns['slots']}': {error}.")
    for name, value in cells.items():
        kind = _slot_type(name, cfg)
        if kind is not None and value:
            values = value.split(cfg.slot_separator) if cfg.slot_separator else [value]
            slots += [Slot(kind, one.strip()) for one in values if one.strip()]
    return tuple(slots)


def _slot_type(column: str, cfg: Config) -> str | None:
    if column in cfg.slot_columns:
        return column
    return column.removeprefix(cfg.slot_prefix).strip() or None if column.startswith(cfg.slot_prefix) else None


def _duration(value: str | None, columns: dict[str, str], problems: list[str]) -> float | None:
    if value is None:
        return None
    try:
        duration_s = float(value)
    except ValueError:
        duration_s = 0.0
    if not 0 < duration_s < float("inf"):
        problems.append(f"column '{columns['duration_s']}': is {value!r}, a number of seconds above 0 is needed.")
        return None
    return duration_s


def _split(value: str | None, columns: dict[str, str], problems: list[str]) -> Split:
    split = SPLITS.get((value or "train").lower())
    if split is None:
        problems.append(f"column '{columns['split']}': is {value!r}; allowed: {', '.join(sorted(SPLITS))}.")
    return split or "train"


def _left_over(cells: dict[str, str], columns: dict[str, str], cfg: Config) -> dict[str, Any]:
    used = set(columns.values())
    return {
        name: value for name, value in cells.items() if value and name not in used and _slot_type(name, cfg) is None
    }


def make_tiny(root: Path, seed: int) -> None:
    """One table with six sentences and four recordings of noise, slots both as JSON and in a column of their type."""
    rng = np.random.default_rng(seed)
    (root / "audio").mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "text", "audio", "intent", "slots", "slot:room", "speaker", "split"])
    for index, (intent, room) in enumerate(
        (i, r) for i in ("heating_up", "heating_down") for r in ("bath", "hall", "study")
    ):
        words = f"turn the heating {intent[8:]} in the {room}, please"
        slots = f'{{"direction": "{intent[8:]}"}}'
        writer.writerow([f"t{index}", words, "", intent, slots, room, "", ""])
        if index < 4:
            name = f"audio/{index}.wav"
            soundfile.write(root / name, 0.1 * rng.standard_normal(6400 + 800 * index), 16_000)
            split = "train" if index < 2 else "test"
            writer.writerow([f"s{index}", words, name, intent, slots, room, f"speaker-{index}", split])
    write_text(root / "labels.csv", text.getvalue())
