"""Written rows joined: what one sentence says directly before a slot is said there in another sentence, too.

Written examples often name few slots at a time and speech names many. If somebody wrote "a dark roast triple shot latte",
then a roast may stand directly before a number of shots, and "a triple shot espresso" becomes "a dark roast triple shot
espresso". Nothing but labelled sentences of the task is used.

Source: the idea of recombining fragments that were seen in like surroundings is that of good-enough compositional data
augmentation (Andreas, ACL 2020). Ours is narrower: a fragment is the value of a slot, and its surrounding the type of the
slot that follows it at once in a sentence of the same intent. That paper is silent on labels; here a value brings its slot.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random

from lalm.records import Frame, Slot, Utterance
from lalm.sections import JoinSection

_Followed = tuple[str | None, str]  # an intent, and the type of the slot that follows


@dataclass(frozen=True)
class _Piece:
    """Words before a slot, and the slot as it stands in the sentence."""

    before: str
    slot: Slot
    words: str


def joined(rows: Sequence[Utterance], cfg: JoinSection) -> list[Utterance]:
    """At most `copies` new sentences of a `share` of the written rows, seeded by their ids; none that is there already.

    Rows whose slots do not all stand in their words, each once and apart, are left as they are. Empty if nothing fits.
    """
    cut = {row.id: _pieces(row) for row in rows}
    before: dict[_Followed, dict[Slot, str]] = defaultdict(dict)
    for row in rows:
        pieces, _ = cut[row.id] or ([], "")
        for first, second in pairwise(pieces):
            if not second.before.strip():
                before[row.frame.intent, second.slot.type].setdefault(first.slot, first.words)
    known = {row.text for row in rows}
    made = []
    for row in rows:
        found = cut[row.id]
        rng = Random(f"{cfg.seed}/{row.id}")
        if found is None or rng.random() >= cfg.share:
            continue
        for number in range(cfg.copies):
            pieces = _with_more(found[0], row, before, rng.randint(1, cfg.max_inserted), rng)
            text = "".join(piece.before + piece.words for piece in pieces) + found[1]
            if text in known:
                continue
            known.add(text)
            frame = Frame(row.frame.intent, tuple(piece.slot for piece in pieces))
            made.append(replace(row, id=f"{row.id}/joined-{number}", text=text, frame=frame))
    return made


def _with_more(
    pieces: Sequence[_Piece], row: Utterance, before: dict[_Followed, dict[Slot, str]], number: int, rng: Random
) -> list[_Piece]:
    """`pieces` with up to `number` slots of types that are not among them, each directly before one that it may precede."""
    result = list(pieces)
    for _ in range(number):
        types = {piece.slot.type for piece in result}
        places = [
            (index, kind)
            for index, piece in enumerate(result)
            for kind in sorted({slot.type for slot in before.get((row.frame.intent, piece.slot.type), {})} - types)
        ]
        if not places:
            break
        index, kind = rng.choice(places)
        follower = result[index]
        fitting = before[row.frame.intent, follower.slot.type]
        slot = rng.choice(sorted((slot for slot in fitting if slot.type == kind), key=lambda slot: slot.value))
        lead = _article_fits(follower.before, fitting[slot]) if row.language == "en" else follower.before
        result[index : index + 1] = [_Piece(lead, slot, fitting[slot]), replace(follower, before=" ")]
    return result


def _article_fits(before: str, word: str) -> str:
    """English `a` or `an` at the end of `before`, by the first letter of the word that now follows."""
    right = "an" if word[:1].lower() in "aeiou" else "a"
    return re.sub(r"\b(a|an)(\s+)$", lambda match: right + match[2], before)


def _pieces(row: Utterance) -> tuple[list[_Piece], str] | None:
    """The sentence cut at its slots, and the words after the last; None if a slot is not there, or twice, or within another."""
    text = row.text or ""
    spans = []
    for slot in row.frame.slots:
        places = [match.span() for match in re.finditer(rf"(?<!\w){re.escape(slot.value)}(?!\w)", text, re.IGNORECASE)]
        if len(places) != 1 or not slot.value:
            return None
        spans.append((*places[0], slot))
    spans.sort(key=lambda span: span[:2])
    pieces, end = [], 0
    for start, stop, slot in spans:
        if start < end:
            return None
        pieces.append(_Piece(text[end:start], slot, text[start:stop]))
        end = stop
    return (pieces, text[end:]) if pieces else None
