"""Recordings that nobody wrote down, put into words: a sentence that could have been said, made from the label.

Selectors read sentences, and a recording may come with a label alone. A written row of the same intent and the same
slot types gives the template: its values are replaced by those of the recording. Of several templates the one that
most rows follow is taken for all (of equals the first in the alphabet), so that recordings differ by what is known of
them, their values, and not by chance in the words around these. Where no row fits, the sentence is the name of the
intent in words and the values in the order of the label. The words serve the choice alone; nothing is trained on them.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

from lalm.records import Frame, Utterance

Kind = tuple[str | None, tuple[str, ...]]  # intent, sorted slot types
Template = tuple[str, ...]  # pieces of text and, at odd places, slot types between them


def put_into_words(rows: Sequence[Utterance], text: Sequence[Utterance]) -> list[Utterance]:
    """The rows, each with a sentence: its own where it has one, else one made from its label and the written rows."""
    if all(row.text for row in rows):
        return list(rows)
    templates = _templates(text)
    return [row if row.text else replace(row, text=_sentence(row.frame, templates)) for row in rows]


def _templates(text: Sequence[Utterance]) -> dict[Kind, Template]:
    """The commonest template of each kind of label."""
    found: dict[Kind, Counter[Template]] = defaultdict(Counter)
    for row in text:
        template = _template(row)
        if template is not None:
            found[_kind(row.frame)][template] += 1
    return {kind: min(times, key=lambda one: (-times[one], one)) for kind, times in found.items()}


def _template(row: Utterance) -> Template | None:
    """The sentence with its values taken out, None if one of them does not stand in it as whole words."""
    spans: list[tuple[int, int, str]] = []
    for slot in sorted(row.frame.slots, key=lambda slot: -len(slot.value)):
        pattern = rf"(?<!\w){re.escape(slot.value)}(?!\w)"
        matches = (match.span() for match in re.finditer(pattern, row.text or "", re.IGNORECASE))
        place = next((one for one in matches if all(one[1] <= s or one[0] >= e for s, e, _ in spans)), None)
        if not slot.value or place is None:
            return None
        spans.append((*place, slot.type))
    pieces, end = [], 0
    for start, stop, kind in sorted(spans):
        pieces += [(row.text or "")[end:start], kind]
        end = stop
    return (*pieces, (row.text or "")[end:])


def _kind(frame: Frame) -> Kind:
    return frame.intent, tuple(sorted(slot.type for slot in frame.slots))


def _sentence(frame: Frame, templates: dict[Kind, Template]) -> str:
    template = templates.get(_kind(frame))
    if template is None:
        return " ".join([_as_words(frame.intent or ""), *(slot.value for slot in frame.slots)]).strip()
    values: dict[str, list[str]] = defaultdict(list)
    for slot in frame.slots:
        values[slot.type].append(slot.value)
    return "".join(piece if place % 2 == 0 else values[piece].pop(0) for place, piece in enumerate(template))


def _as_words(name: str) -> str:
    """`orderDrink`, `order_drink` -> `order drink`."""
    return re.sub(r"[\W_]+|(?<=[a-z])(?=[A-Z])", " ", name).strip().lower()
