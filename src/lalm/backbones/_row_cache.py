"""Rows of examples, made once: what both makes of model keep of what they are given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from lalm.data.cache import version
from lalm.errors import DataError, many
from lalm.records import Example

R = TypeVar("R")


def too_many_vectors(num_recordings: int, num_vectors: int, allowed: int) -> str:
    """What is said of a row whose recordings take more vectors than `backbone.max_audio_vectors` allows."""
    return (
        f"its {many(num_recordings, 'recording')} take {num_vectors} vectors, and backbone.max_audio_vectors allows {allowed}. "
        "Shorten them, or allow more; nothing is cut."
    )


class RowCache(Generic[R]):
    """`make(example)` once an example, and again if a recording of it was written anew. Its DataError names the row."""

    def __init__(self, make: Callable[[Example], R]) -> None:
        self._make = make
        self._rows: dict[tuple[Example, Any], R] = {}

    def __call__(self, example: Example) -> R:
        key = (example, tuple(map(version, example.recordings)))
        if key not in self._rows:
            try:
                self._rows[key] = self._make(example)
            except DataError as error:
                raise DataError(f"Row '{example.id}': {error}") from None
        return self._rows[key]

    def clear(self) -> None:
        """Forget all rows."""
        self._rows.clear()
