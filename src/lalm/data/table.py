"""CSV and TSV files with named columns, read so that every malformed row is named by its line."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lalm.errors import DataError, many

DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_NAMES = {",": "a comma", "\t": "a tab", ";": "a semicolon", "|": "a bar"}
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


@dataclass(frozen=True)
class Table:
    """Cells by column name, without surrounding spaces; each row with the line of the file that it starts on."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, str]], ...]


def read_table(path: Path, delimiter: str | None = None, quote: str | None = '"', allow_index: bool = False) -> Table:
    """The table of a file; `delimiter` None goes by the file's extension, `quote` None takes quotes as plain characters.

    `allow_index`: the first column may be without a name, as pandas writes its index, and is passed over.

    A byte order mark and any kind of line end are fine, empty lines are passed over. Raises DataError for a file that
    cannot be read or is no text, a header with empty or doubled names, and rows that do not fit the header, all listed.
    """
    if delimiter is None:
        delimiter = delimiter_of(path)
    lines = _lines(path, delimiter, quote)
    problems: list[str] = []
    try:
        first = next(lines, None)
        if first is None:
            raise DataError(f"{path}: is empty; the first line must name the columns.")
        header = [name.strip() for name in first[1]]
        _check_delimiter(path, header, delimiter)
        rows = [(number, [cell.strip() for cell in cells]) for number, cells in _fitting(lines, path, header, problems)]
    except csv.Error as error:
        raise DataError(f"{path}: {_quote_problem(error)}") from None
    problems += _header_problems(path, header, rows, int(allow_index))
    if problems:
        raise DataError(f"{path}: {many(len(problems), 'problem')}.", problems)
    named = [(index, name) for index, name in enumerate(header) if name]
    cells_of = tuple((number, {name: cells[index] for index, name in named}) for number, cells in rows)
    return Table(path, tuple(name for _, name in named), cells_of)


def delimiter_of(path: Path) -> str:
    """The delimiter that the extension stands for. Raises DataError for another extension."""
    known = DELIMITERS.get(path.suffix.lower())
    if known is None:
        allowed = ", ".join(sorted(DELIMITERS))
        raise DataError(
            f"{path}: the extension '{path.suffix}' does not say what separates the columns. Allowed: {allowed}, or any with the option delimiter."
        )
    return known


def sniff_delimiter(path: Path) -> str:
    """What separates the names of the first line: of the usual delimiters the one that stands there most often."""
    header = decode(path).lstrip().split("\n", 1)[0]
    return max(_NAMES, key=lambda one: (header.count(one), one == DELIMITERS.get(path.suffix.lower())))


def in_words(delimiter: str) -> str:
    """`a comma`, `a tab` ..."""
    return _NAMES.get(delimiter, f"'{delimiter}'")


def decode(path: Path) -> str:
    """The text of a UTF-8 file, or one of UTF-16 with its mark. Raises DataError naming line and byte."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from None
    encoding = next((name for mark, name in _BOMS if raw.startswith(mark)), "utf-8")
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}, line {line}: is not UTF-8 text (byte 0x{raw[error.start]:02x}). Save the file as UTF-8."
        ) from None


def _lines(path: Path, delimiter: str, quote: str | None) -> Iterator[tuple[int, list[str]]]:
    """First line number and cells of each row that is not empty."""
    stream = io.StringIO(decode(path), newline="")
    if quote is None:
        reader = csv.reader(stream, delimiter=delimiter, quoting=csv.QUOTE_NONE, strict=True)
    else:
        reader = csv.reader(stream, delimiter=delimiter, quotechar=quote, strict=True)
    start = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield start, cells
            start = reader.line_num + 1
    except csv.Error as error:
        raise csv.Error(f"{start}|{error}") from None


def _check_delimiter(path: Path, header: list[str], delimiter: str) -> None:
    other = next((one for one in _NAMES if one != delimiter and one in header[0]), None)
    if len(header) == 1 and other is not None:
        raise DataError(
            f"{path}, line 1: the columns are separated by {in_words(other)}, it seems, and {in_words(delimiter)} is "
            f"expected. Set delimiter: {other!r}."
        )


def _fitting(
    lines: Iterator[tuple[int, list[str]]], path: Path, header: list[str], problems: list[str]
) -> Iterator[tuple[int, list[str]]]:
    for number, cells in lines:
        if len(cells) == len(header):
            yield number, cells
            continue
        hint = " Put a value that holds the delimiter in quotes." if len(cells) > len(header) else ""
        problems.append(
            f"{path}, line {number}: has {len(cells)} values, the header names {len(header)} columns.{hint}"
        )


def _header_problems(path: Path, header: list[str], rows: list[tuple[int, list[str]]], first: int) -> list[str]:
    problems = []
    for name in sorted({name for name in header if name and header.count(name) > 1}):
        problems.append(f"{path}, line 1: the column '{name}' is named {header.count(name)} times; names must differ.")
    for index, name in enumerate(header):
        used = next((number for number, cells in rows if cells[index]), None)
        if not name and used is not None and index >= first:
            problems.append(f"{path}, line 1: column {index + 1} has no name, and line {used} has a value in it.")
    return problems


def _quote_problem(error: csv.Error) -> str:
    line, _, reason = str(error).partition("|")
    return (
        f"the row that starts on line {line} cannot be split ({reason}). A quotation mark is not closed, or stands in a "
        "value that is not quoted; within quotes it is written twice. If quotes mean nothing in this file, set quote: null."
    )
