"""What is wrong with rows, listed without end and yet bounded: a million bad rows must not fill the memory."""

from __future__ import annotations

from pathlib import Path

from lalm.errors import DataError, many

KEPT = 10_000


class Problems(list[str]):
    """The first `KEPT` problems in words, and in `total` how many there are."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def append(self, problem: str) -> None:
        """Count a problem, and keep it while there is room."""
        self.total += 1
        if len(self) < KEPT:
            super().append(problem)

    def check(self, where: Path | str) -> None:
        """Raises DataError that lists the problems, if there are any."""
        if self.total:
            raise DataError(f"{where}: {many(self.total, 'problem')}.", self)
