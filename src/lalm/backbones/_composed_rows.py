"""Rows and batches of composed models: an example as tokens and recordings, one after the other."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lalm.backbones._prompt import tag_of
from lalm.errors import DataError
from lalm.records import Example


@dataclass(frozen=True)
class Recording:
    """A recording within a row: its file, and what was prepared of each chunk that is heard at once.

    Where it is heard anew at every step, chunks have shapes alone, and `content` is the file's hash.
    """

    path: Path
    chunks: tuple[Mapping[str, Any], ...]
    content: str | None = None


@dataclass(frozen=True)
class Row:
    """One example as pieces: tokens before the input, the input (tokens and recordings in turn), tokens after, answer."""

    before: list[int]
    given: tuple[list[int] | Recording, ...]
    after: list[int]
    answer: list[int]
    key: str  # hash of all of these but the recordings' paths

    @property
    def recordings(self) -> list[Recording]:
        """The recordings, in the order in which they are heard."""
        return [piece for piece in self.given if isinstance(piece, Recording)]


@dataclass(frozen=True)
class Batch:
    """`prefix` token ids [P]; `rows` one per example; `labels` are made from `answer` alone."""

    prefix: list[int]
    rows: tuple[Row, ...]

    def decoded_prompts(self, tokenizer: Any) -> list[str]:
        """What stands before the answers, in words; a recording stands as `[audio]`."""
        return [self._prompt(tokenizer, row) for row in self.rows]

    def _prompt(self, tokenizer: Any, row: Row) -> str:
        words, tokens = "", self.prefix + row.before
        for piece in row.given:
            if isinstance(piece, Recording):
                words, tokens = words + tokenizer.decode(tokens) + "[audio]", []
            else:
                tokens = tokens + piece
        return words + tokenizer.decode(tokens) + str(tokenizer.decode(row.after))

    def decoded_labels(self, tokenizer: Any) -> list[str]:
        """What the loss is taken on, in words."""
        return [tokenizer.decode(row.answer) for row in self.rows]


GAIN = 0.1  # of all positions, before rows go through the layers in more than one piece


def by_beginning(batch: Batch, num_vectors: Callable[[Recording], int]) -> list[tuple[list[int], Batch]]:
    """The batch in pieces of rows that begin alike, as places [rows] and a batch each, where that saves positions.

    The rows of a step that mixes tasks have little in common but the start of the chat template; those of a task have all of
    its instruction. A piece computes the common prefix for itself, and what its own rows have in common once.
    """
    places: dict[tuple[int, ...], list[int]] = {}
    for place, row in enumerate(batch.rows):
        places.setdefault(tuple(row.before), []).append(place)
    whole = len(batch.prefix) + sum(_positions(row, num_vectors) for row in batch.rows)
    saved = sum((len(own) - 1) * len(before) for before, own in places.items()) - (len(places) - 1) * len(batch.prefix)
    if len(places) == 1 or saved < GAIN * whole:
        return [(list(range(len(batch.rows))), batch)]
    return [
        (own, Batch([*batch.prefix, *before], tuple(replace(batch.rows[place], before=[]) for place in own)))
        for before, own in places.items()
    ]


def _positions(row: Row, num_vectors: Callable[[Recording], int]) -> int:
    given = sum(num_vectors(piece) if isinstance(piece, Recording) else len(piece) for piece in row.given)
    return len(row.before) + given + len(row.after) + len(row.answer)


def given(
    example: Example,
    ids: Callable[[str], list[int]],
    said: Callable[[str | None, Path | None, str], list[int] | Recording],
) -> tuple[list[int] | Recording, ...]:
    """The input of an example: its words or its recording; of turns a line each, which begins with who speaks.

    `ids` are the tokens of words as they stand, `said` is what the model is given for words or a recording; its third
    argument seeds what is drawn. Raises DataError for an input, or a turn, without words and recording.
    """
    if not example.turns:
        if example.audio is None and example.text is None:
            raise DataError("it has neither text nor audio.")
        return (said(example.text, example.audio, example.id),)
    pieces: list[list[int] | Recording] = []
    for index, turn in enumerate(example.turns):
        if turn.audio is None and turn.text is None:
            raise DataError(f"turn {index + 1} has neither text nor audio.")
        tag = ids(("\n" if index else "") + tag_of(turn))
        for piece in (tag, said(turn.text, turn.audio, f"{example.id}/{index}")):
            if pieces and isinstance(piece, list) and isinstance(pieces[-1], list):
                pieces[-1] = pieces[-1] + piece
            else:
                pieces.append(piece)
    return tuple(pieces)


def content_key(pieces: Sequence[list[int] | Recording], connector: Any) -> str:
    """Hash of pieces, of a recording what was prepared of it and what else decides what is made of that (`connector`)."""
    digest = hashlib.sha256()
    for piece in pieces:
        if not isinstance(piece, Recording):
            digest.update(repr(piece).encode())
            continue
        digest.update(repr(connector).encode())
        if piece.content is not None:
            digest.update(piece.content.encode())
            continue
        for chunk in piece.chunks:
            for name, array in sorted(chunk.items()):
                digest.update(name.encode())
                digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
