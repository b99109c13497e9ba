"""Reading corpora whose files are JSON lines or tables, all problems listed, and their rows counted against the paper's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from lalm.data.manifest import json_lines
from lalm.data.problems import Problems
from lalm.errors import DataError
from lalm.records import Utterance

CHECK_COUNTS = "check that the files hold as many rows as their makers state"  # of the option `check_counts`


def check_count(path: Path, found: int, stated: int, check_counts: bool) -> None:
    """Raises DataError if a file does not hold as many rows as its makers state."""
    if check_counts and found != stated:
        raise DataError(
            f"{path}: holds {found:,} rows, {stated:,} came with the corpus; it is not complete, or another version. "
            "Set check_counts: false to use it as it is."
        )


def lines_of(path: Path, make: Callable[[dict[str, Any]], Iterable[Utterance]]) -> Iterator[Utterance]:
    """The rows that `make` makes of each object of a file of JSON lines.

    DataError with all lines that are wrong comes after the last row; `make` says what is wrong by KeyError, TypeError,
    ValueError or DataError.
    """
    problems = Problems()
    for number, value in json_lines(path, problems):
        try:
            yield from make(value)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            what = f"field {error} is missing" if isinstance(error, KeyError) else str(error)
            problems.append(f"{path}, line {number}: {what}.")
        except DataError as error:
            problems.append(f"{path}, line {number}: {error}")
    problems.check(path)


def text_of(value: dict[str, Any], field: str) -> str:
    """A field that must be a string that is not empty. Raises KeyError, ValueError."""
    found = value[field]
    if not isinstance(found, str) or not found:
        raise ValueError(f"field '{field}' is {found!r:.60}, a string is needed")
    return found


def first_folder(root: Path, *names: str) -> Path:
    """The first of the folders below `root` that is there, else `root`: archives unpack into folders of many names."""
    return next((root / name for name in names if (root / name).is_dir()), root)
