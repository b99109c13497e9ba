"""The manifest: one utterance a line, text, speech or both in one schema (docs/formats.md)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lalm.data.problems import Problems
from lalm.errors import DataError
from lalm.records import Frame, Slot, Utterance
from lalm.rundir import write_jsonl

_FIELDS = ("id", "text", "audio", "intent", "slots", "language", "speaker", "duration_s", "split", "source", "meta")
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
        return None, [f"is {_kind(value)}, an object is needed."]
    problems: list[str] = []

    def text(field: str, default: str | None = None) -> str | None:
        got = value.get(field, default)
        if got is not None and not isinstance(got, str):
            problems.append(f"field '{field}' is {_shown(got)}, a string is needed.")
            return default
        if got is not None and not _whole(got):
            problems.append(f"field '{field}' is {_shown(got)}, which holds half a character (a lone surrogate).")
            return default
        return got

    def one_of(field: str, allowed: tuple[str, ...], default: str | None) -> Any:
        got = value.get(field, default)
        if got is not None and got not in allowed:
            problems.append(f"field '{field}' is {_shown(got)}; allowed: {', '.join(allowed)}.")
            return default
        return got

    identity = value.get("id")
    if not isinstance(identity, str) or not identity or not _whole(identity):
        problems.append(f"field 'id' is {_shown(identity)}, a non-empty string is needed.")
    words, audio_name = text("text"), text("audio")
    audio = None
    if audio_name is not None:
        audio, problem = resolve(folder, audio_name, allow_outside)
        problems += [f"field 'audio': {problem}"] if problem else []
    if not value.get("text") and not value.get("audio"):
        problems.append("has neither 'text' nor 'audio'; at least one is needed.")
    duration = value.get("duration_s")
    if duration is not None and (
        isinstance(duration, bool) or not isinstance(duration, int | float) or not 0 < duration < math.inf
    ):
        problems.append(f"field 'duration_s' is {_shown(duration)}, a number of seconds above 0 is needed.")
    meta = value.get("meta", {})
    if not isinstance(meta, dict):
        problems.append(f"field 'meta' is {_shown(meta)}, an object is needed.")
        meta = {}
    slots = _slots(value.get("slots", []), problems)
    source = one_of("source", _SOURCES, "recorded" if audio_name else "text")
    split = one_of("split", _SPLITS, None)
    language, speaker, intent = text("language", "en"), text("speaker"), text("intent")
    if problems:
        return None, problems
    extra = {key: item for key, item in value.items() if key not in _FIELDS}
    return (
        Utterance(
            id=str(identity),
            text=words or None,
            audio=audio,
            frame=Frame(intent, slots),
            language=language or "en",
            speaker=speaker,
            duration_s=None if duration is None else float(duration),
            split=split,
            source=source,
            meta={**meta, **({"extra": extra} if extra else {})},
        ),
        [],
    )


def resolve(
    folder: Path, name: str, allow_outside: bool, option: str = "data.allow_outside_paths: true"
) -> tuple[Path, str | None]:
    """The path of a name in a data folder, and what is wrong with it: it must stay inside the folder.

    `option` is what allows it to leave, for the message.
    """
    if "\0" in name:
        return folder, f"{_shown(name)} holds a zero byte; no file can be called that."
    path = folder / name
    inside = not Path(name).is_absolute() and ".." not in Path(name).parts
    if not inside and not allow_outside:
        return path, f"{name!r} leaves the data folder. Allowed only with {option}."
    return path, None


def write_manifest(path: Path, rows: Iterable[Utterance]) -> int:
    """Write rows, audio paths relative to the manifest where they are below it; the number of rows."""
    return write_jsonl(path, (row_to_json(row, path.parent) for row in rows))


def row_to_json(row: Utterance, folder: Path) -> dict[str, Any]:
    """The line of one utterance; unknown fields that were read come back in their place."""
    meta = dict(row.meta)
    extra: Mapping[str, Any] = meta.pop("extra", {})
    audio = None
    if row.audio is not None:
        audio = str(row.audio.relative_to(folder)) if row.audio.is_relative_to(folder) else str(row.audio)
    return {
        "id": row.id,
        "text": row.text,
        "audio": audio,
        **row.frame.to_json(),
        "language": row.language,
        "speaker": row.speaker,
        "duration_s": row.duration_s,
        "split": row.split,
        "source": row.source,
        "meta": meta,
        **extra,
    }


def _slots(value: Any, problems: list[str]) -> tuple[Slot, ...]:
    if not isinstance(value, list):
        problems.append(f"field 'slots' is {_shown(value)}, a list of {{'type', 'value'}} is needed.")
        return ()
    slots = []
    for index, item in enumerate(value):
        pair = [item.get("type"), item.get("value")] if isinstance(item, dict) else [None]
        if not all(isinstance(part, str) and _whole(part) for part in pair):
            problems.append(
                f"field 'slots[{index}]' is {_shown(item)}, an object with strings 'type' and 'value' is needed."
            )
            continue
        slots.append(Slot(item["type"], item["value"]))
    return tuple(slots)


def _whole(text: str) -> bool:
    """Whether no half of a character (a lone surrogate) is in it, which no file can hold."""
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def _kind(value: Any) -> str:
    return {list: "a list", str: "a string", bool: "true or false", type(None): "null"}.get(type(value), "a number")


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= 60 else text[:57] + "..."
