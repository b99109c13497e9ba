"""Misheard words for text rows: what a written sentence might look like after a character recogniser."""

from __future__ import annotations

from collections.abc import Container
from random import Random

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_TRIES = 24


def misheard(text: str, share: float, known: Container[str], rng: Random) -> str:
    """`text` with about `share` of its words replaced by a known word one or two letter edits away, or dropped.

    A word without such a neighbour stays as it is: the search behind the recogniser writes known words too.
    """
    words = []
    for word in text.split():
        if rng.random() >= share:
            words.append(word)
        elif rng.random() > 0.15:
            words.append(_neighbour(word, known, rng))
    return " ".join(words)


def _neighbour(word: str, known: Container[str], rng: Random) -> str:
    for _ in range(_TRIES):
        candidate = _edit(word, rng)
        if rng.random() < 0.4:
            candidate = _edit(candidate, rng)
        if candidate != word and candidate in known:
            return candidate
    return word


def _edit(word: str, rng: Random) -> str:
    place = rng.randrange(len(word)) if word else 0
    kind = rng.random()
    if kind < 0.45:
        return word[:place] + rng.choice(_LETTERS) + word[place + 1 :]
    if kind < 0.75:
        return word[:place] + word[place + 1 :]
    return word[:place] + rng.choice(_LETTERS) + word[place:]
