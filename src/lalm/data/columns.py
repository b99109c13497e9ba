"""Which column is what: guessed from names first, then from what stands in them, and said in words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

AUDIO_EXTENSIONS = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3")
SLOT_PREFIXES = ("slot:", "slot_", "slot.", "slots.", "slots:", "entity:", "entity_", "entity.")
_NAMES: dict[str, tuple[str, ...]] = {
    "text": ("text", "sentence", "utterance", "transcript", "transcription", "utt", "query", "phrase", "command", "words"),
    "audio": ("audio", "audio_file", "audio_path", "audio_filepath", "file", "filename", "file_name", "path", "wav", "recording", "clip"),
    "intent": ("intent", "label", "intent_label", "intent_name", "class", "category", "action", "target"),
    "slots": ("slots", "entities", "slot_values"),
    "id": ("id", "uid", "utt_id", "utterance_id", "sentence_id", "text_id", "key"),
    "speaker": ("speaker", "speaker_id", "spk", "spk_id", "client_id", "user", "user_id", "voice"),
    "language": ("language", "lang", "locale"),
    "split": ("split", "set", "subset", "partition"),
    "duration_s": ("duration_s", "duration", "seconds", "length_s"),
}  # fmt: skip
_SHARE_SAID = 0.8  # a column is taken for a slot if so many of its values are said in their sentences
Rows = Sequence[tuple[int, Mapping[str, Any]]]


@dataclass(frozen=True)
class Columns:
    """What a column is for -> its name; columns of one slot type each; why, where the name alone did not say it."""

    of: Mapping[str, str]
    slot_types: Mapping[str, str]  # column -> type
    why: Mapping[str, str] = field(default_factory=dict)  # column -> reason
    left_over: tuple[str, ...] = ()

    @property
    def labelled(self) -> bool:
        """Whether rows say what they mean."""
        return "intent" in self.of or "slots" in self.of or bool(self.slot_types)


def guess_columns(names: Sequence[str], rows: Rows, guess_intent: bool = True) -> Columns:
    """The columns of a table. `guess_intent` False: an intent is taken by its column's name alone."""
    found = by_name(names)
    why: dict[str, str] = {}
    slot_types = {name: kind for name in names if name not in found.values() and (kind := _prefixed(name))}

    def free() -> list[str]:
        return [name for name in names if name not in found.values() and name not in slot_types]

    def take(use: str, name: str | None, reason: str) -> None:
        if use not in found and name is not None:
            found[use], why[name] = name, reason

    take("audio", _first(free(), rows, _is_file_name), "its values are names of audio files")
    take("text", _wordiest(free(), rows), "its values have the most words")
    for name in free():
        if "text" in found and _is_said(name, found["text"], rows):
            slot_types[name], why[name] = name, "its values are said in the sentences"
    if guess_intent and "slots" not in found:
        take("intent", _most_repeated(free(), rows), "few values that come back in many rows")
    return Columns(found, slot_types, why, tuple(free()))


def by_name(names: Sequence[str]) -> dict[str, str]:
    """What a column is for -> its name, of columns that are called as is usual."""
    plain = {re.sub(r"[\W_]+", "", name).lower(): name for name in reversed(names)}
    found: dict[str, str] = {}
    for use, synonyms in _NAMES.items():
        name = next((plain[one] for one in (s.replace("_", "") for s in synonyms) if one in plain), None)
        if name is not None and name not in found.values():
            found[use] = name
    return found


def _prefixed(name: str) -> str | None:
    return next(
        (name[len(p) :].strip() for p in SLOT_PREFIXES if name.lower().startswith(p) and name[len(p) :].strip()), None
    )


def _filled(name: str, rows: Rows) -> list[str]:
    """The values of a column that are there; none if one of them is no string."""
    values = [row.get(name) for _, row in rows]
    given = [value for value in values if value not in (None, "")]
    return [str(value) for value in given] if all(isinstance(value, str) for value in given) else []


def _is_file_name(values: Sequence[str]) -> bool:
    return bool(values) and sum(value.lower().endswith(AUDIO_EXTENSIONS) for value in values) > len(values) / 2


def _first(names: Sequence[str], rows: Rows, test: Any) -> str | None:
    return next((name for name in names if test(_filled(name, rows))), None)


def _wordiest(names: Sequence[str], rows: Rows) -> str | None:
    words = {name: _mean_words(_filled(name, rows)) for name in names}
    best = max(words, key=lambda name: words[name], default=None)
    return best if best is not None and words[best] >= 2 else None


def _mean_words(values: Sequence[str]) -> float:
    return sum(len(value.split()) for value in values) / len(values) if values else 0.0


def _is_said(name: str, text: str, rows: Rows) -> bool:
    pairs = [
        (str(row[name]).lower(), str(row.get(text) or "").lower())
        for _, row in rows
        if isinstance(row.get(name), str) and row[name]
    ]
    said = sum(value in sentence for value, sentence in pairs)
    return bool(pairs) and said >= _SHARE_SAID * len(pairs)


def _most_repeated(names: Sequence[str], rows: Rows) -> str | None:
    fitting = {}
    for name in names:
        values = _filled(name, rows)
        if len(values) >= 0.9 * len(rows) and 0 < len(set(values)) <= len(values) / 2 and _mean_words(values) <= 3:
            fitting[name] = len(set(values))
    return min(fitting, key=lambda name: fitting[name], default=None)
