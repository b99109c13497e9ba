"""The grammar of answers: an ontology, and facts of the training rows, as what a model may say. No torch.

The text is in llguidance's dialect of Lark and describes what `labels.answer_text` writes, byte by byte. What a list
does not close is bounded, so that an answer always ends: a value of an open type by the longest one seen of it
(`TIMES_LONGEST` times as many characters, and no fewer than `LEAST_CHARACTERS`), the slots of a row by the most seen in
one (`MORE_SLOTS` more).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from lalm.data.ontology import Ontology, SlotType, of_frames, read_ontology
from lalm.errors import DataError, many, nearest
from lalm.records import Frame
from lalm.rundir import read_json
from lalm.sections import EvaluateSection

TIMES_LONGEST = 2
LEAST_CHARACTERS = 32
MORE_SLOTS = 2

# one character of a string as json.dumps writes it with ensure_ascii=False, and the bytes of the longest (\u001f)
_CHARACTER = r'([^"\\\x00-\x1f]|\\["\\bfnrt]|\\u00(0[0-7bef]|1[0-9a-f]))'
_CHARACTER_BYTES = 6


@dataclass(frozen=True)
class Seen:
    """What training rows hold: their labels, the slots of the row that has most, whether a row has no intent."""

    labels: Ontology
    most_slots: int
    null_intent: bool

    def to_json(self) -> dict[str, Any]:
        """As it stands in a run's `labels.json`."""
        return {
            "intents": sorted(self.labels.intents),
            "slots": {kind: sorted(one.values) for kind, one in sorted(self.labels.slots.items())},
            "most_slots": self.most_slots,
            "null_intent": self.null_intent,
        }


def seen_in(frames: Iterable[Frame]) -> Seen:
    """What training rows with these frames hold."""
    rows = list(frames)
    return Seen(
        of_frames(rows),
        max((len(frame.slots) for frame in rows), default=0),
        any(frame.intent is None for frame in rows),
    )


def read_seen(path: Path) -> Seen:
    """What `labels.json` says. Raises DataError for one of a release that did not write what bounds an answer."""
    value = read_json(path)
    labels = read_ontology(path)
    most, null = value.get("most_slots"), value.get("null_intent")
    if not isinstance(most, int) or isinstance(most, bool) or most < 0 or not isinstance(null, bool):
        raise DataError(
            f"{path}: fields 'most_slots' (a number) and 'null_intent' (true or false) are needed to bound answers, and "
            "runs of earlier releases lack them. Train the run anew, or leave evaluate.constrained out."
        )
    return Seen(labels, most, null)


@dataclass(frozen=True)
class Grammar:
    """What an answer must obey, in llguidance's dialect of Lark; `max_bytes` of UTF-8 are the longest answer.

    A token is at least one byte, so an answer is never longer in tokens. `words` are the pieces that it holds word by word.
    """

    lark: str
    max_bytes: int
    words: tuple[str, ...]


def asked_grammar(cfg: EvaluateSection, seen: Seen, kept: Path | None = None) -> Grammar | None:
    """What the recipe wants answers to obey; None if they are free.

    `kept` is the ontology as the run folder keeps it, which counts before the recipe's file. Raises UserError for an
    ontology that is missing or wrong, and for closed slot types that no training row has.
    """
    if not cfg.constrained:
        return None
    file = kept if kept is not None and kept.is_file() else cfg.ontology
    return answer_grammar(_with_closed(seen.labels, cfg.closed_slots) if file is None else read_ontology(file), seen)


def _with_closed(labels: Ontology, closed: Sequence[str] | Literal["all"]) -> Ontology:
    """The labels of the training rows with these slot types closed. Raises DataError for types that no row has."""
    names = tuple(labels.slots) if closed == "all" else tuple(closed)
    unknown = [
        f"{name}: no training row has it.{nearest(name, labels.slots)}" for name in names if name not in labels.slots
    ]
    if unknown:
        raise DataError(f"evaluate.closed_slots: {many(len(unknown), 'slot type')} not known.", unknown)
    slots = {kind: replace(one, closed=one.closed or kind in names) for kind, one in labels.slots.items()}
    return replace(labels, slots=slots)


def answer_grammar(ontology: Ontology, seen: Seen) -> Grammar:
    """The grammar of the answers that `ontology` allows, bounded by what was seen.

    An intent may be null where a training row had none. A closed type has its values and synonyms, and, since its list
    does not mind the case of letters, those of training rows that differ in nothing else. Raises DataError for an
    ontology without an intent, and for words that no UTF-8 text can hold.
    """
    _check(ontology)
    intents = [_quoted(intent) for intent in ontology.intents] + ["null"] * seen.null_intent
    if not intents:
        raise DataError("The ontology names no intent, and every training row has one.")
    rules = ["INTENT: " + _one_of(intents)]
    words, slots, longest = list(intents), [], 0
    for number, (kind, one) in enumerate(ontology.slots.items()):
        allowed = _closed(one, seen.labels.slots.get(kind)) if one.closed else None
        if allowed is None:
            characters = max_characters(one, seen.labels.slots.get(kind))
            name, num_bytes = f"OPEN_{characters}", 2 + characters * _CHARACTER_BYTES
            rule = f'{name}: /"{_CHARACTER}{{0,{characters}}}"/'
        elif allowed:
            name, num_bytes = f"CLOSED_{number}", max(_num_bytes(value) for value in allowed)
            rule = f"{name}: {_one_of(allowed)}"
        else:  # a closed list without values: the type cannot stand
            continue
        if rule not in rules:
            rules.append(rule)
        key = "{" + _quoted(kind) + ": "
        words += [key, *(allowed or ())]
        slots.append(f'{_literal(key)} {name} "}}"')
        longest = max(longest, _num_bytes(key) + num_bytes + 1)
    most = seen.most_slots + MORE_SLOTS if slots else 0
    if slots:
        rules.insert(0, "slot: " + " | ".join(slots))
    start, middle, comma, end = '{"intent": ', ', "slots": [', ", ", "]}"
    several = f"(slot ({_literal(comma)} slot){{0,{most - 1}}})? " if slots else ""
    rules.insert(0, f"start: {_literal(start)} INTENT {_literal(middle)} {several}{_literal(end)}")
    max_bytes = sum(map(len, (start, middle, end))) + max(map(_num_bytes, intents))
    max_bytes += most * longest + max(0, most - 1) * len(comma)
    return Grammar("\n".join(rules) + "\n", max_bytes, (start, *words, middle, comma, end))


def max_characters(one: SlotType, known: SlotType | None) -> int:
    """The most characters that a value of an open type can have."""
    values = [*one.values, *one.synonyms, *(known.values if known is not None else ())]
    return max(LEAST_CHARACTERS, TIMES_LONGEST * max(map(len, values), default=0))


def _closed(one: SlotType, known: SlotType | None) -> list[str]:
    """The values that a closed type can have, as JSON."""
    written = [value for value in (known.values if known is not None else ()) if one.allows(value)]
    return [_quoted(value) for value in dict.fromkeys([*one.values, *one.synonyms, *written])]


def _check(ontology: Ontology) -> None:
    words = [*ontology.intents, *ontology.slots]
    words += [word for one in ontology.slots.values() for word in (*one.values, *one.synonyms)]
    broken = [word for word in words if any("\ud800" <= letter <= "\udfff" for letter in word)]
    if broken:
        raise DataError(
            f"The ontology holds {many(len(broken), 'word')} with half a character (a lone surrogate).",
            [ascii(word) for word in broken],
        )


def _one_of(texts: Iterable[str]) -> str:
    return " | ".join(_literal(text) for text in texts)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _literal(text: str) -> str:
    """Text as Lark writes it: escaped as in JSON, control characters that JSON leaves alone too."""
    return re.sub("[\x7f-\x9f]", lambda found: f"\\u{ord(found[0]):04x}", json.dumps(text, ensure_ascii=False))


def _num_bytes(text: str) -> int:
    return len(text.encode())
