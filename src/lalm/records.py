"""Frozen values that travel between the rooms. No torch here. The files they are read from are fixed in docs/formats.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Source = Literal["recorded", "synthetic", "text"]
Status = Literal["ok", "repaired", "failed"]


@dataclass(frozen=True)
class Slot:
    """One slot (entity) of a frame: its type and its value as said."""

    type: str
    value: str


@dataclass(frozen=True)
class Frame:
    """What an utterance means: an intent and a multiset of slots."""

    intent: str | None
    slots: tuple[Slot, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The frame as it stands in predictions files."""
        return {"intent": self.intent, "slots": [{"type": slot.type, "value": slot.value} for slot in self.slots]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Frame:
        """Inverse of `to_json`."""
        return cls(value.get("intent"), tuple(Slot(slot["type"], slot["value"]) for slot in value.get("slots", ())))


@dataclass(frozen=True)
class Utterance:
    """One row of a manifest: text, speech, or both, with its label. `duration_s` in seconds."""

    id: str
    text: str | None = None
    audio: Path | None = None
    frame: Frame = field(default_factory=lambda: Frame(None))
    language: str = "en"
    speaker: str | None = None
    duration_s: float | None = None
    split: Literal["train", "dev", "test"] | None = None
    source: Source = "text"
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Known:
    """What a selector may look at beside its candidates: rows that are recorded already, and the task's written rows."""

    recorded: tuple[Utterance, ...] = ()
    text: tuple[Utterance, ...] = ()


NOTHING = Known()


@dataclass(frozen=True)
class Example:
    """One thing to learn or to answer: an instruction, an input that is written or spoken, and the answer.

    `audio` wins over `text`: an example with audio is a speech row even if its transcript is known.
    """

    id: str
    instruction: str
    answer: str
    text: str | None = None
    audio: Path | None = None
    task: str = "slu"
    language: str = "en"
    frame: Frame = field(default_factory=lambda: Frame(None))

    @property
    def modality(self) -> Literal["speech", "text"]:
        """`speech` if the input is audio, else `text`."""
        return "speech" if self.audio is not None else "text"


@dataclass(frozen=True)
class Pools:
    """What a scheme may draw from: numbers of rows only, so that a plan is data and needs no rows.

    `num_synthetic` counts synthetic speech of the training text.
    """

    num_text: int
    num_speech: int
    num_synthetic: int = 0


@dataclass(frozen=True)
class Stage:
    """One stretch of training with its own optimizer and schedule.

    `passes` says how often each pool (`text`, `speech`, `synthetic`) is gone through in one epoch: 1.0 every row
    once, 3.0 every row three times, 1/3 a third of the rows, another third in the next epoch. Rows of all pools are
    mixed at random. `groups` None means the recipe's own choice of trainable groups.
    """

    name: str
    passes: Mapping[str, float]
    epochs: int
    learning_rate_scale: float = 1.0
    warmup_ratio: float = 0.04
    groups: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Prediction:
    """One answered item. `latency_s` is the item's share of its batch's seconds."""

    id: str
    gold: Frame
    frame: Frame | None
    raw: str
    status: Status
    latency_s: float


@dataclass(frozen=True)
class Reading:
    """One side of a comparison: a frame (None: the answer could not be parsed) and the words (None: not known)."""

    frame: Frame | None
    text: str | None = None


@dataclass(frozen=True)
class Score:
    """A metric's value with its 95 % interval over `n` items; None where nothing could be counted."""

    value: float | None
    low: float | None
    high: float | None
    n: int
