"""Dialogues spoken: narrator, user and assistant by voices of their own, the same ones in all dialogues about a passage.

Source: ASK-QA (arXiv 2412.15995, section 3.1) speaks knowledge, history and clarifying turns with voices for narrator, user and
assistant. It does not say how voices are chosen; here every passage has a cast, which is dealt out as sentences are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from lalm.data.dialogue_checks import dialogue_problems
from lalm.errors import DataError, many, nearest
from lalm.records import Role, Turn, Utterance
from lalm.speak.clips import Clip
from lalm.speak.deal import Dealer, Voice
from lalm.speak.manner import Manner, drawn

ROLES: tuple[Role, ...] = ("narrator", "user", "assistant")
Cast = Mapping[Role, Voice]


def roles_of(row: Utterance) -> list[Role]:
    """Who speaks in a row; nobody in a row that is a sentence. What the user may reply is said by the user."""
    spoken = {turn.role for turn in row.turns} | ({"user"} if row.turns and row.clarification is not None else set())
    return [role for role in ROLES if role in spoken]


def named_voices(
    rows: Sequence[Utterance],
    known: Mapping[str, Mapping[str, Sequence[str]]],
    bound: Mapping[Voice, str],
    problems: list[str],
) -> dict[Voice, str]:
    """The voices that are `bound` to a split and those that rows name in `meta.voices`, each with the split it speaks for.

    `known` are the voices of the command by language and engine. What is wrong goes to `problems`.
    """
    given = dict(bound)
    names = {
        language: [f"{engine}/{voice}" for engine, voices in engines.items() for voice in voices]
        for language, engines in known.items()
    }
    for row in rows:
        voices = names.get(row.language, [])
        for role, name in _named(row).items():
            voice = _voice(name)
            if name not in voices:
                problems.append(f"row '{row.id}' has '{name}' as voice of the {role}.{nearest(name, voices)}")
            elif given.setdefault(voice, str(row.split)) != row.split:
                problems.append(
                    f"row '{row.id}' has '{name}' as voice of the {role} in {row.split}; it speaks for {given[voice]} already."
                )
    return given


def check_dialogues(rows: Sequence[Utterance], problems: Sequence[str] = ()) -> None:
    """Raises DataError that lists every dialogue which cannot be spoken, with `problems` after that."""
    found = [f"row '{row.id}' {problem}" for row in rows if row.turns for problem in dialogue_problems(row)]
    if found or problems:
        everything = [*found, *problems]
        raise DataError(f"{many(len(everything), 'problem')} in dialogues; nothing was spoken.", everything)


class Casts:
    """Who speaks in the dialogues about a passage, one cast a copy."""

    def __init__(self, dealers: Mapping[tuple[str, str], Dealer], num_roles: int, copies: int) -> None:
        self._dealers, self._num_roles, self._copies = dealers, num_roles, copies
        self._known: dict[tuple[str, str, str], list[list[Voice]]] = {}

    def of(self, row: Utterance, copy: int) -> Cast:
        """A voice for each role of the row: those it names, and others that are dealt out."""
        language, split = row.language, str(row.split)
        key = (language, split, passage_of(row))
        if key not in self._known:
            self._known[key] = self._dealers[language, split].orders(self._num_roles, self._copies)
        named = {role: _voice(name) for role, name in _named(row).items()}
        left = [voice for voice in self._known[key][copy] if voice not in named.values()]
        roles = [role for role in ROLES if role not in named]
        return {**dict(zip(roles, left, strict=False)), **named}


def dialogue_clips(row: Utterance, cast: Cast, copy: int, manner: Manner) -> tuple[Clip, ...]:
    """The clips of a dialogue in the order of its turns, then those of the replies.

    Speed and pitch are drawn for each speaker of a passage, the room for all of them together.
    """
    replies = row.clarification.replies if row.clarification is not None else ()
    turns = [*row.turns, *(turn for turn, _ in replies)]
    passage = f"{manner.seed}/{passage_of(row)}/{copy}"
    return tuple(
        drawn(
            " ".join(str(turn.text).split()),
            cast[turn.role],
            row.language,
            manner,
            Random(f"{passage}/{turn.role}"),
            Random(f"{passage}/room"),
        )
        for turn in turns
    )


def how_spoken(clips: Sequence[Clip], row: Utterance) -> dict[str, Any]:
    """What `meta` says of a spoken dialogue: voice, speed and pitch of each role, and the room."""
    first = {turn.role: clip for turn, clip in reversed(list(zip(row.turns, clips, strict=False)))}
    roles = [role for role in ROLES if role in first]
    made: dict[str, Any] = {
        "voices": {role: f"{first[role].engine}/{first[role].voice}" for role in roles},
        "speed": {role: first[role].speed for role in roles},
        "pitch": {role: first[role].pitch for role in roles},
    }
    return made | ({"room_s": clips[0].reverb_s} if clips[0].reverb_s is not None else {})


def with_recordings(row: Utterance, clips: Sequence[Clip], lengths_s: Mapping[str, float], folder: Path) -> Utterance:
    """The row with the recordings of its turns and replies, which lie in `folder`."""
    heard = iter(clips)

    def spoken(turn: Turn) -> Turn:
        clip = next(heard)
        return replace(turn, audio=clip.path(folder), duration_s=round(lengths_s[clip.name], 3))

    turns = tuple(map(spoken, row.turns))
    clarification = row.clarification
    if clarification is not None:
        replies = tuple((spoken(turn), answers) for turn, answers in clarification.replies)
        clarification = replace(clarification, replies=replies)
    return replace(row, turns=turns, clarification=clarification)


def passage_of(row: Utterance) -> str:
    """A name that dialogues about one passage share: `meta.passage`, else of what is narrated, else the row's own."""
    if row.meta.get("passage"):
        return str(row.meta["passage"])
    told = "\n".join(str(turn.text) for turn in row.turns if turn.role == "narrator")
    return hashlib.sha256(told.encode()).hexdigest()[:16] if told else row.id


def roles_together(rows: Iterable[Utterance]) -> list[Role]:
    """All roles that rows have."""
    found = {role for row in rows for role in roles_of(row)}
    return [role for role in ROLES if role in found]


def _named(row: Utterance) -> dict[Role, str]:
    voices = row.meta.get("voices")
    if not isinstance(voices, Mapping):
        return {}
    roles = roles_of(row)
    return {role: str(voices[role]) for role in roles if role in voices}


def _voice(name: str) -> Voice:
    engine, _, voice = name.partition("/")
    return engine, voice
