"""How long a sentence takes to be read aloud, before anybody has read it."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from lalm.records import Utterance

MEASURED_FROM = 20  # recordings with their words from which a pace is measured


@dataclass(frozen=True)
class Pace:
    """Letters a second, and the silence around a sentence."""

    letters_per_s: float = 15.0  # about 150 English words a minute
    silence_s: float = 1.0
    num_measured: int = 0

    def seconds(self, row: Utterance) -> float:
        """The length of the recording if there is one, else the estimate."""
        return row.duration_s or self.silence_s + _letters(row.text or "") / self.letters_per_s

    def __str__(self) -> str:
        rule = f"{self.letters_per_s:.3g} letters a second, spaces included"
        if self.num_measured:
            return f"at {rule}, as in {self.num_measured} recordings"
        return f"at {rule}, and {self.silence_s:g} s of silence"


CALM = Pace()


def pace_of(rows: Iterable[Utterance]) -> Pace:
    """The pace of recordings with their words, silence included, if there are enough of them; else one of calm reading."""
    spoken = [(row.text, row.duration_s) for row in rows if row.audio is not None and row.text and row.duration_s]
    if len(spoken) < MEASURED_FROM:
        return CALM
    return Pace(sum(_letters(text) for text, _ in spoken) / sum(seconds for _, seconds in spoken), 0.0, len(spoken))


def _letters(text: str) -> int:
    """Letters and spaces; a wide one (Chinese, Japanese, Korean), which is a syllable or more, counts as three."""
    return sum(3 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)
