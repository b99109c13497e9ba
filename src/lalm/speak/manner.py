"""How sentences and dialogues are to be spoken: what a person asks for on the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

from lalm.errors import ConfigError
from lalm.speak.clips import Clip

Range = tuple[float, float]
ALLOWED = {"speed": (0.5, 2.0), "pitch": (0.5, 2.0), "room": (0.02, 3.0)}


@dataclass(frozen=True)
class Manner:
    """How rows are spoken. `speed` and `pitch` are factors, `room_s` reverberation times; all are drawn evenly a clip.

    In a dialogue they are drawn for each speaker once, and the room once for all.
    """

    engines: tuple[str, ...]
    voices: tuple[str, ...] = ()  # `a,b` or `engine=a,b`
    language: str | None = None  # of all rows (None: their own)
    speed: Range = (1.0, 1.0)
    pitch: Range = (1.0, 1.0)
    room_s: Range | None = None
    copies: int = 1
    seed: int = 0
    recorded: bool = False  # also what is said in recordings, where that is written
    only: Mapping[str, str] = field(default_factory=dict)  # engine -> the one split that it speaks for


def check_manner(manner: Manner) -> None:
    """Raises ConfigError for numbers out of range."""
    for name, value in (("speed", manner.speed), ("pitch", manner.pitch), ("room", manner.room_s)):
        low, high = ALLOWED[name]
        if value is not None and not low <= value[0] <= value[1] <= high:
            raise ConfigError(f"--{name} {value[0]:g},{value[1]:g}: allowed is LOW,HIGH between {low:g} and {high:g}.")
    if manner.copies < 1:
        raise ConfigError(f"--copies {manner.copies}: at least 1.")


def drawn(
    text: str, voice: tuple[str, str], language: str, manner: Manner, rng: Random, room_rng: Random | None = None
) -> Clip:
    """A clip of a text by an engine's voice, with speed and pitch from `rng` and the room from `room_rng` (None: `rng`)."""
    speed, pitch = (round(rng.uniform(*limits), 3) for limits in (manner.speed, manner.pitch))
    room = rng if room_rng is None else room_rng
    room_s, room_seed = (
        (None, 0) if manner.room_s is None else (round(room.uniform(*manner.room_s), 3), room.getrandbits(32))
    )
    return Clip(text, *voice, language, speed, pitch, room_s, room_seed)
