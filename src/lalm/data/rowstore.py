"""What is remembered of rows while they stream by: a few numbers each, so that a million of them fit.

Sentences and labels are kept as hashes of 64 bits; what a problem needs to be told is read again from the file.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from lalm.data.findings import Problem
from lalm.data.sources import SPLITS
from lalm.records import Utterance

_MASK = (1 << 64) - 1


def hash64(value: object) -> int:
    """A hash of 64 bits that is not 0, the same within a process."""
    return (hash(value) & _MASK) or 1


@dataclass(frozen=True)
class Place:
    """Where a row stands: file and line, or a corpus and its row."""

    file: str
    line: int | None
    row: str
    text: str | None


@dataclass
class _Part:
    """Rows of one file (`offsets`: where their lines begin), or of a corpus (`rows`)."""

    name: str
    path: Path | None
    offsets: array[int] = field(default_factory=lambda: array("q"))
    lines: array[int] = field(default_factory=lambda: array("q"))
    rows: Sequence[Utterance] = ()
    stream: BinaryIO | None = None

    def __len__(self) -> int:
        return len(self.rows) if self.path is None else len(self.offsets)


class RowStore:
    """Numbers of every row, by its index."""

    def __init__(self) -> None:
        self.ids, self.texts, self.labels = array("Q"), array("Q"), array("Q")
        self.sounds, self.contents, self.sound_rows = array("Q"), array("Q"), array("q")  # of recordings, not of rows
        self.splits = array("B")
        self._parts: list[_Part] = []

    def __len__(self) -> int:
        return len(self.splits)

    def open_file(self, path: Path) -> None:
        """The rows that follow are those of a file."""
        self._parts.append(_Part(str(path), path))

    def open_rows(self, name: str, rows: Sequence[Utterance]) -> None:
        """The rows that follow are these, of a corpus."""
        self._parts.append(_Part(name, None, rows=rows))

    def add(self, row: Utterance, text: str | None, line: int | None = None, offset: int = 0) -> int:
        """Remember a row whose plain words are `text`; its index."""
        self.ids.append(hash64((len(self._parts), row.id)))  # an id is one's own within a file
        self.texts.append(hash64(text) if text else 0)
        self.labels.append(hash64((row.frame.intent, tuple(sorted((s.type, s.value) for s in row.frame.slots)))))
        self.splits.append(SPLITS.index(row.split or "train"))
        if line is not None:
            self._parts[-1].lines.append(line)
            self._parts[-1].offsets.append(offset)
        return len(self.splits) - 1

    def add_sound(self, index: int, path: Path, content: int) -> None:
        """Remember a recording of a row; `content` is a hash of it, 0 where it is not known."""
        self.sounds.append(hash64(path))
        self.contents.append(content)
        self.sound_rows.append(index)

    def where(self, index: int) -> tuple[str, int | None]:
        """File and line of a row."""
        part, index = self._part(index)
        return part.name, None if part.path is None else part.lines[index]

    def place(self, index: int) -> Place:
        """Where a row stands, its id and its text, read again from its file."""
        part, index = self._part(index)
        if part.path is None:
            row = part.rows[index]
            return Place(part.name, None, row.id, row.text)
        if part.stream is None:
            part.stream = part.path.open("rb")
        part.stream.seek(part.offsets[index])
        value = json.loads(part.stream.readline())
        return Place(part.name, part.lines[index], value["id"], value.get("text"))

    def close(self) -> None:
        """Close the files that were read again."""
        for part in self._parts:
            if part.stream is not None:
                part.stream.close()
                part.stream = None

    def _part(self, index: int) -> tuple[_Part, int]:
        for part in self._parts:
            if index < len(part):
                break
            index -= len(part)
        return part, index

    def problem(
        self, check: str, index: int, message: str, name: str | None = None, value: str | None = None
    ) -> Problem:
        """A problem of a row."""
        place = self.place(index)
        return Problem(check, message, place.file, place.line, place.row, name, value)

    def columns(self) -> dict[str, np.ndarray]:
        """`ids`, `texts`, `labels` as uint64 [rows], `splits` as uint8 [rows]; no copies.

        `sounds`, `contents` as uint64 [recordings] with the rows that they are of, `sound_rows` as int64 [recordings].
        """
        names = ("ids", "texts", "labels", "splits", "sounds", "contents", "sound_rows")
        kinds = {"splits": np.uint8, "sound_rows": np.int64}
        return {name: np.frombuffer(getattr(self, name), dtype=kinds.get(name, np.uint64)) for name in names}


def repeated(values: np.ndarray) -> Iterator[np.ndarray]:
    """The indices of the rows that share a value, for each value that stands there more than once; 0 is no value."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    first = int(np.searchsorted(ordered, 1))
    starts = np.flatnonzero(np.diff(ordered[first:], prepend=0)) + first
    ends = np.append(starts[1:], len(ordered))
    for start, end in zip(starts[ends - starts > 1], ends[ends - starts > 1], strict=True):
        yield order[start:end]
