"""What formats of one file a split have in common: the files of a source, and rows that are checked as a manifest's are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from lalm.data.fields import OUTSIDE
from lalm.data.intake import Intake
from lalm.data.labelled import SPLITS, Split
from lalm.data.manifest import json_lines, parse_row
from lalm.data.problems import Problems
from lalm.errors import DataError, many
from lalm.records import Utterance

_Made = TypeVar("_Made")
Paths = Literal["absolute", "relative"]


@dataclass(frozen=True)
class Line:
    """Where a row stands: the name that it gets, file and line for messages, the folder that file names start from."""

    name: str
    where: str
    folder: Path


def split_files(source: str, suffixes: tuple[str, ...]) -> list[tuple[Path, Split | None]]:
    """The file, or the files of a folder that are named after splits, each with the split that its name says.

    Raises DataError if there is none, or if a folder holds several that are named otherwise.
    """
    path = Path(source)
    if path.is_file():
        return [(path, split_of(path.stem))]
    if not path.is_dir():
        raise DataError(f"{source}: there is no such file or folder.")
    found = sorted(one for one in path.iterdir() if one.suffix.lower() in suffixes and one.is_file())
    named: list[tuple[Path, Split | None]]
    named = [(one, split) for one in found if (split := split_of(one.stem)) is not None]
    if named:
        return named
    if len(found) == 1:
        return [(found[0], None)]
    what = f"several ({', '.join(one.name for one in found[:5])})" if found else "none"
    raise DataError(f"{source}: a file is needed, or a folder with files named after splits; it holds {what}.")


def split_of(name: str) -> Split | None:
    """The split that a name means: `train`, `devel`, `test-00000-of-00001`, `train_manifest` ..."""
    words = name.lower().replace("-", "_").replace(".", "_").split("_")
    return next((SPLITS[word] for word in words if word in SPLITS), None)


def read_lines(
    source: str,
    suffixes: tuple[str, ...],
    into: Intake,
    cfg: Any,
    fields: Callable[[Any, Line], dict[str, Any]],
    names: Mapping[str, str] | None = None,
) -> Iterator[Utterance]:
    """The rows of a file of JSON lines, or of the files of a folder that are named after splits.

    `fields` makes the manifest's fields of a line (raising ValueError with what is wrong); `audio` is a name as it stands
    in the file, or the Path of a clip that was made of the line. `cfg` has `audio_folder` and `allow_outside_paths`.
    """
    for path, split in split_files(source, suffixes):
        folder = cfg.audio_folder or path.parent
        for number, value in json_lines(path, into.problems):
            line = Line(f"{path.stem}-{number}", f"{path}, line {number}", folder)
            try:
                row = {"id": line.name, "split": split, **fields(value, line)}
            except ValueError as error:
                into.problem(line.where, f"{error}.")
                continue
            ours = isinstance(row["audio"], Path)
            row["audio"] = str(row["audio"]) if ours else row["audio"]
            yield from checked(row, line.where, into, folder, cfg.allow_outside_paths or ours, names)


def checked(
    value: Mapping[str, Any],
    where: str,
    into: Intake,
    folder: Path,
    allow_outside: bool,
    names: Mapping[str, str] | None = None,
) -> Iterator[Utterance]:
    """The utterance of a row in the manifest's fields, or its problems, told with the fields' own `names`."""
    row, problems = parse_row(dict(value), folder, allow_outside)
    for problem in problems:
        for ours, theirs in (names or {}).items():
            problem = problem.replace(f"field '{ours}", f"field '{theirs}").replace(f"'{ours}'", f"'{theirs}'")
        into.problem(where, problem.replace(OUTSIDE, "allow_outside_paths=true"))
    if row is not None:
        yield row


def written(path: Path, out: Path, how: Paths) -> str:
    """A recording's path as it is written into the file `out`."""
    return str(path) if how == "absolute" else os.path.relpath(path, out.parent)


def each(rows: Iterable[Utterance], make: Callable[[Utterance], _Made], out: Path) -> Iterator[_Made]:
    """What `make` makes of every row; rows of which it raises DataError are listed in one at the end."""
    problems = Problems()
    for row in rows:
        try:
            yield make(row)
        except DataError as error:
            problems.append(f"row '{row.id}': {error}")
    refuse(out, problems)


def refuse(out: Path, problems: Problems) -> None:
    """Raises DataError if there are rows that cannot be written to `out`."""
    if problems.total:
        raise DataError(f"{out}: {many(problems.total, 'problem')}; nothing was written.", problems)
