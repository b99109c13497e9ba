"""The manifest: one utterance a line, text, speech or both in one schema (docs/formats.md)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lalm.data.dialogue import FIELDS, dialogue_to_json, parse_dialogue
from lalm.data.fields import kind, relative, seconds, shown, sound, whole, words
from lalm.data.fields import resolve as resolve  # readers of corpora take it from here
from lalm.data.problems import Problems
from lalm.errors import DataError
from lalm.languages import DEFAULT, base
from lalm.records import UNKNOWN_FIELDS, Frame, Slot, Utterance
from lalm.rundir import write_jsonl

_OF_ALL = ("id", "text", "audio", "intent", "slots", "language", "speaker", "duration_s", "split", "source", "meta")
ROW_FIELDS = (*_OF_ALL, *FIELDS)
_SPLITS = ("train", "dev", "test")
_SOURCES = ("recorded", "synthetic", "text")


def read_manifest(path: Path, allow_outside: bool = False) -> list[Utterance]:
    """All rows. Raises DataError that lists every bad row with file, line, field, value and what would be right."""
    return list(stream_manifest(path, allow_outside))


def stream_manifest(path: Path, allow_outside: bool = False) -> Iterator[Utterance]:
    """The good rows, one by one; DataError as `read_manifest` raises it comes after the last of them."""
    problems = Problems()
    first_line: dict[str, int] = {}
    for number, value in json_lines(path, problems):
        where = f"{path}, line {number}"
        row, found = parse_row(value, path.parent, allow_outside)
        for problem in found:
            problems.append(f"{where}: {problem}")
        if row is None:
            continue
        if row.id in first_line:
            problems.append(f"{where}: id {row.id!r} stands on line {first_line[row.id]} already; ids must differ.")
        first_line.setdefault(row.id, number)
        yield row
    problems.check(path)


def json_lines(path: Path, problems: list[str]) -> Iterator[tuple[int, Any]]:
    """Line number and value of each line that is JSON; the others go to `problems`. Raises DataError if unreadable."""
    try:
        with path.open("rb") as stream:
            for number, raw in enumerate(stream, 1):
                if not raw.strip():
                    continue
                try:
                    value = json.loads(raw)
                except (ValueError, RecursionError) as error:
                    problems.append(f"{path}, line {number}: is not one JSON object ({error}).")
                else:
                    yield number, value
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from None


def parse_row(value: Any, folder: Path, allow_outside: bool) -> tuple[Utterance | None, list[str]]:
    """The utterance of one parsed line (None if it cannot be made), and everything that is wrong with it."""
    if not isinstance(value, dict):
        return None, [f"is {kind(value)}, an object is needed."]
    problems: list[str] = []

    def one_of(field: str, allowed: tuple[str, ...], default: str | None) -> Any:
        got = value.get(field, default)
        if got is not None and got not in allowed:
            problems.append(f"field '{field}' is {shown(got)}; allowed: {', '.join(allowed)}.")
            return default
        return got

    identity = value.get("id")
    if not isinstance(identity, str) or not identity or not whole(identity):
        problems.append(f"field 'id' is {shown(identity)}, a non-empty string is needed.")
    text, audio_name = words(value.get("text"), "text", problems), words(value.get("audio"), "audio", problems)
    audio = sound(audio_name, "audio", folder, allow_outside, problems)
    if not value.get("text") and not value.get("audio") and value.get("turns") is None:
        problems.append("has neither 'text' nor 'audio'; at least one is needed.")
    dialogue = parse_dialogue(value, folder, allow_outside, problems)
    duration_s = seconds(value.get("duration_s"), "duration_s", problems)
    meta = value.get("meta", {})
    if not isinstance(meta, dict):
        problems.append(f"field 'meta' is {shown(meta)}, an object is needed.")
        meta = {}
    if UNKNOWN_FIELDS in meta:
        problems.append(f"field 'meta' holds the key '{UNKNOWN_FIELDS}', which is where unknown fields are kept.")
    slots = _slots(value.get("slots", []), problems)
    heard = bool(audio_name) or any(turn.audio is not None for turn in dialogue["turns"])
    source = one_of("source", _SOURCES, "recorded" if heard else "text")
    split = one_of("split", _SPLITS, None)
    language, speaker, intent = (words(value.get(name), name, problems) for name in ("language", "speaker", "intent"))
    try:
        language = base(language or DEFAULT)
    except ValueError as error:
        problems.append(f"field 'language': {error}.")
    if problems:
        return None, problems
    extra = {key: item for key, item in value.items() if key not in ROW_FIELDS}
    return (
        Utterance(
            id=str(identity),
            text=text or None,
            audio=audio,
            frame=Frame(intent, slots),
            language=language or DEFAULT,
            speaker=speaker,
            duration_s=duration_s,
            split=split,
            source=source,
            meta={**meta, **({UNKNOWN_FIELDS: extra} if extra else {})},
            **dialogue,
        ),
        [],
    )


def write_manifest(path: Path, rows: Iterable[Utterance]) -> int:
    """Write rows, audio paths relative to the manifest where they are below it; the number of rows."""
    return write_jsonl(path, (row_to_json(row, path.parent) for row in rows))


def row_to_json(row: Utterance, folder: Path) -> dict[str, Any]:
    """The line of one utterance; unknown fields that were read come back in their place."""
    meta = dict(row.meta)
    extra: Mapping[str, Any] = meta.pop(UNKNOWN_FIELDS, {})
    return {
        "id": row.id,
        "text": row.text,
        "audio": relative(row.audio, folder),
        **row.frame.to_json(),
        "language": row.language,
        "speaker": row.speaker,
        "duration_s": row.duration_s,
        "split": row.split,
        "source": row.source,
        "meta": meta,
        **dialogue_to_json(row, folder),
        **extra,
    }


def _slots(value: Any, problems: list[str]) -> tuple[Slot, ...]:
    if not isinstance(value, list):
        problems.append(f"field 'slots' is {shown(value)}, a list of {{'type', 'value'}} is needed.")
        return ()
    slots = []
    for index, item in enumerate(value):
        pair = [item.get("type"), item.get("value")] if isinstance(item, dict) else [None]
        if not all(isinstance(part, str) and whole(part) for part in pair):
            problems.append(
                f"field 'slots[{index}]' is {shown(item)}, an object with strings 'type' and 'value' is needed."
            )
            continue
        slots.append(Slot(item["type"], item["value"]))
    return tuple(slots)
