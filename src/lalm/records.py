"""Frozen values that travel between the rooms. No torch here. The files they are read from are fixed in docs/formats.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Source = Literal["recorded", "synthetic", "text"]
Status = Literal["ok", "repaired", "failed"]
Role = Literal["narrator", "user", "assistant"]


UNKNOWN_FIELDS = "(unknown fields)"  # in `meta`: what a manifest's row holds beside the fields that are known


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
class Turn:
    """One piece of a passage or a dialogue: who speaks, and what is said, in writing, as a recording, or both.

    `narrator` reads what is known, `user` asks, `assistant` replies. `duration_s` in seconds.
    """

    role: Role
    text: str | None = None
    audio: Path | None = None
    duration_s: float | None = None


@dataclass(frozen=True)
class Clarification:
    """What there is to ask back about an ambiguous request, and what the user may reply.

    `replies` holds the user's words, perhaps with a recording, each with the answers that are right then.
    """

    question: str
    replies: tuple[tuple[Turn, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Utterance:
    """One row of a manifest: text, speech, or both, with its label. `duration_s` in seconds.

    Rows of spoken questions and dialogues have `turns` (a passage, a conversation so far, the last request) in place of
    `text` and `audio`; `context` is what stands written beside them and `question` a written question about them.
    `answers` are all right. `clarification` is None where the request is not ambiguous.
    """

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
    context: str | None = None
    question: str | None = None
    turns: tuple[Turn, ...] = ()
    answers: tuple[str, ...] = ()
    clarification: Clarification | None = None

    @property
    def recordings(self) -> tuple[Path, ...]:
        """The recordings of the row, in the order in which they are heard."""
        return _recordings(self.audio, self.turns)


@dataclass(frozen=True)
class Known:
    """What a selector may look at beside its candidates: rows that are recorded already, and the task's written rows."""

    recorded: tuple[Utterance, ...] = ()
    text: tuple[Utterance, ...] = ()


NOTHING = Known()


@dataclass(frozen=True)
class Example:
    """One thing to learn or to answer: an instruction, an input that is written or spoken, and the answer.

    `audio` wins over `text`: an example with audio is a speech row even if its transcript is known. Where there are
    `turns`, they are the input, piece by piece, and the same holds for each of them; `text` and `audio` are None then.
    `answers` are all the answers that are right (none: `frame` is what counts) and `ambiguous` says whether asking back
    is right (None: the question does not arise).
    """

    id: str
    instruction: str
    answer: str
    text: str | None = None
    audio: Path | None = None
    task: str = "slu"
    language: str = "en"
    frame: Frame = field(default_factory=lambda: Frame(None))
    turns: tuple[Turn, ...] = ()
    answers: tuple[str, ...] = ()
    ambiguous: bool | None = None

    @property
    def recordings(self) -> tuple[Path, ...]:
        """The recordings of the input, in the order in which they are heard."""
        return _recordings(self.audio, self.turns)

    @property
    def modality(self) -> Literal["speech", "text"]:
        """`speech` if anything of the input is audio, else `text`."""
        return "speech" if self.recordings else "text"


@dataclass(frozen=True)
class Pools:
    """What a scheme may draw from: numbers of rows only, so that a plan is data and needs no rows.

    `num_synthetic` counts synthetic speech of the training text. `of_tasks` holds the pools of auxiliary tasks by name,
    `speech:transcribe` say; one that is not there counts as large as the pool before the colon.
    """

    num_text: int
    num_speech: int
    num_synthetic: int = 0
    of_tasks: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """One stretch of training with its own optimizer and schedule.

    `passes` says how often each pool (`text`, `speech`, `synthetic`) is gone through in one epoch: 1.0 every row
    once, 3.0 every row three times, 1/3 a third of the rows, another third in the next epoch. Rows of all pools are
    mixed at random. The pools of an auxiliary task bear its name behind a colon: `text:transcribe`, `speech:transcribe`.
    `groups` None means the recipe's own choice of trainable groups.
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
    """One side of a comparison: a frame (None: the answer could not be parsed) and the words (None: not known).

    `answers` are on the side of the reference all right answers of a question, on the other the one that was given;
    `asks` says whether the request is to be, or was, answered by asking back (None: the question does not arise).
    `language` is that of the row, for metrics whose units depend on it.
    """

    frame: Frame | None
    text: str | None = None
    answers: tuple[str, ...] = ()
    asks: bool | None = None
    language: str = "en"


@dataclass(frozen=True)
class Score:
    """A metric's value with its 95 % interval over `n` items; None where nothing could be counted."""

    value: float | None
    low: float | None
    high: float | None
    n: int


def _recordings(audio: Path | None, turns: tuple[Turn, ...]) -> tuple[Path, ...]:
    heard = (audio, *(turn.audio for turn in turns))
    return tuple(path for path in heard if path is not None)
