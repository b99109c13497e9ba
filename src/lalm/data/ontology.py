"""What rows may mean: intents, slot types and, where a list is closed, the only values that a type can have.

`ontology.json`: `{"intents": ["heat"], "slots": {"room": {"values": ["bath", "hall"], "closed": true, "synonyms":
{"bathroom": "bath"}}}}`. A slot type may also be a plain list of values seen, as in a run's `labels.json`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lalm.errors import DataError, many
from lalm.records import Frame
from lalm.rundir import read_json, write_json


@dataclass
class SlotType:
    """Values of a slot type in the order in which they came; `synonyms` maps other words for a value to it."""

    values: dict[str, None] = field(default_factory=dict)
    synonyms: dict[str, str] = field(default_factory=dict)
    closed: bool = False
    _plain: tuple[int, frozenset[str]] = field(default=(0, frozenset()), repr=False, compare=False)

    def allows(self, value: str) -> bool:
        """Whether a value may stand: always, unless the list is closed. Case does not matter."""
        if not self.closed:
            return True
        size = len(self.values) + len(self.synonyms)
        if self._plain[0] != size:  # values are only ever added
            self._plain = size, frozenset(known.casefold() for known in (*self.values, *self.synonyms))
        return value.casefold() in self._plain[1]


@dataclass
class Ontology:
    """Intents and slot types."""

    intents: dict[str, None] = field(default_factory=dict)
    slots: dict[str, SlotType] = field(default_factory=dict)

    def add(self, frame: Frame) -> None:
        """Take over the labels of a row."""
        if frame.intent is not None:
            self.intents.setdefault(frame.intent)
        for slot in frame.slots:
            self.slots.setdefault(slot.type, SlotType()).values.setdefault(slot.value)

    def add_values(self, kind: str, values: Iterable[str], closed: bool = False) -> None:
        """Take over a list of values of a slot type."""
        known = self.slots.setdefault(kind, SlotType())
        known.values.update(dict.fromkeys(values))
        known.closed = known.closed or closed

    def to_json(self) -> dict[str, Any]:
        """As it stands in `ontology.json`."""
        return {
            "intents": list(self.intents),
            "slots": {
                kind: {
                    "values": list(one.values),
                    "closed": one.closed,
                    **({"synonyms": one.synonyms} if one.synonyms else {}),
                }
                for kind, one in self.slots.items()
            },
        }


def of_frames(frames: Iterable[Frame]) -> Ontology:
    """The labels that rows have; every list of values is open."""
    found = Ontology()
    for frame in frames:
        found.add(frame)
    return found


def write_ontology(path: Path, ontology: Ontology) -> None:
    """Write `ontology.json`, whole or not at all."""
    write_json(path, ontology.to_json())


def read_ontology(path: Path) -> Ontology:
    """The ontology of a file. Raises DataError with everything that is wrong with it."""
    value = read_json(path)
    problems: list[str] = []
    found = Ontology()
    if not isinstance(value, dict) or not isinstance(value.get("slots", {}), dict):
        raise DataError(f"{path}: an object with 'intents' (a list) and 'slots' (an object) is needed.")
    found.intents = dict.fromkeys(_strings(value.get("intents", []), "intents", problems))
    for kind, given in value.get("slots", {}).items():
        found.slots[kind] = _slot_type(given, f"slots.{kind}", problems)
    if problems:
        raise DataError(f"{path}: {many(len(problems), 'problem')}.", problems)
    return found


def _slot_type(given: Any, where: str, problems: list[str]) -> SlotType:
    if isinstance(given, list):
        given = {"values": given}
    if not isinstance(given, Mapping):
        problems.append(f"field '{where}' is {given!r}, an object with 'values' is needed.")
        return SlotType()
    closed, synonyms = given.get("closed", False), given.get("synonyms", {})
    if not isinstance(closed, bool):
        problems.append(f"field '{where}.closed' is {closed!r}, true or false is needed.")
    if not isinstance(synonyms, dict) or not all(isinstance(one, str) for one in synonyms.values()):
        problems.append(f"field '{where}.synonyms' is {synonyms!r}, an object of strings is needed.")
        synonyms = {}
    values = _strings(given.get("values", []), f"{where}.values", problems)
    return SlotType(dict.fromkeys(values), dict(synonyms), bool(closed))


def _strings(value: Any, where: str, problems: list[str]) -> list[str]:
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return value
    problems.append(f"field '{where}' is {value!r}, a list of strings is needed.")
    return []
