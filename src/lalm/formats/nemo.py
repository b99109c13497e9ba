"""NeMo's manifests: JSON lines of `audio_filepath`, `duration` and `text`, and the semantics of its SLU recipes.

A row with an `offset` is a piece of a longer file, which is cut out. Where `text` holds semantics (a dict with
`scenario`, `action`, `entities`, in Python's or JSON's notation, as in NeMo's SLURP recipe), they become the label and
`transcript` the sentence; `intent` and `slots` are read from columns of their own too.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import soundfile
from pydantic import Field

from lalm.data.intake import Intake
from lalm.data.labelled import SPLITS
from lalm.data.labels import read_answer
from lalm.data.manifest import ROW_FIELDS, resolve
from lalm.data.slots import parse_slots
from lalm.errors import DataError
from lalm.formats._files import Line, Paths, each, read_lines, written
from lalm.languages import Language
from lalm.plugins import PluginConfig
from lalm.records import Utterance
from lalm.rundir import write_jsonl

_NAMES = {"audio": "audio_filepath", "duration_s": "duration", "language": "lang"}
_READ = (
    "audio_filepath",
    "duration",
    "offset",
    "text",
    "transcript",
    "lang",
    "language",
    "speaker",
    "intent",
    "slots",
    "id",
)
ROUNDED_S = 0.01  # a whole file's duration may be written a little short
_LONGEST = 20_000  # characters of semantics that are parsed


class Config(PluginConfig):
    """Options of the format."""

    text: Literal["transcript", "semantics"] = Field(
        "transcript", description="what `text` is when writing: the sentence, or scenario, action and entities"
    )
    paths: Paths = Field("absolute", description="paths of recordings as written: absolute, or relative to the file")
    audio_folder: Path | None = Field(None, description="folder that file names start from (none: that of the file)")
    allow_outside_paths: bool = Field(False, description="let audio paths leave that folder when reading")
    language: Language = Field("en", description="language of rows that name none")


def read(source: str, into: Intake, cfg: Config) -> Iterator[Utterance]:
    """The rows of a file, or of the files of a folder that are named after splits."""

    def fields(value: Any, line: Line) -> dict[str, Any]:
        row = _fields(value, cfg)
        clip = _cut(value, row, line.folder, into, cfg)
        return row if clip is None else {**row, "audio": clip}

    yield from read_lines(source, (".json", ".jsonl", ".ndjson"), into, cfg, fields, _NAMES)


def _fields(value: Any, cfg: Config) -> dict[str, Any]:
    """The manifest's fields of a row. Raises ValueError."""
    if not isinstance(value, dict):
        raise ValueError("is no object")
    if not isinstance(value.get("audio_filepath"), str) or not value["audio_filepath"]:
        raise ValueError(f"field 'audio_filepath' is {value.get('audio_filepath')!r:.60}, a path is needed")
    if "shard_id" in value:
        raise ValueError("field 'shard_id': the recordings are in tar files, which are not read; unpack them first")
    text = value.get("text")
    semantics = _semantics(text) if isinstance(text, str) and text.lstrip().startswith("{") else None
    row: dict[str, Any] = {
        "audio": value["audio_filepath"],
        "text": text if semantics is None else value.get("transcript"),
        "duration_s": value.get("duration"),
        "language": value.get("lang", value.get("language", cfg.language)),
        "speaker": value.get("speaker"),
        "intent": value.get("intent"),
        **_others(value),
        **({"id": str(value["id"])} if isinstance(value.get("id"), str | int) else {}),
    }
    if value.get("slots") is not None:
        row["slots"] = [{"type": slot.type, "value": slot.value} for slot in parse_slots(value["slots"])]
    return {**row, **(semantics or {})}


def _others(value: Mapping[str, Any]) -> dict[str, Any]:
    """Fields that NeMo has no name for: as they are, but in `meta` where the manifest has another field of that name."""
    others = {name: item for name, item in value.items() if name not in _READ}
    same = {name: others.pop(name) for name in ROW_FIELDS if name in others}
    meta = same.pop("meta", {})
    known: dict[str, Any] = {}
    if isinstance(same.get("split"), str) and same["split"].lower() in SPLITS:
        known["split"] = SPLITS[same.pop("split").lower()]
    return {**others, **known, "meta": {**(meta if isinstance(meta, dict) else {"meta": meta}), **same}}


def _semantics(text: str) -> dict[str, Any] | None:
    """Intent and slots of a dict that stands in a string; None if it is none."""
    if len(text) > _LONGEST:
        return None
    frame = read_answer(text)
    if frame is None:
        try:
            frame = read_answer(json.dumps(ast.literal_eval(text.strip())))  # literals only: nothing is run
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return None
    return None if frame is None else frame.to_json()


def _cut(value: dict[str, Any], row: dict[str, Any], folder: Path, into: Intake, cfg: Config) -> Path | None:
    """The clip of a row that is a piece of a file; None for a whole file. Raises ValueError."""
    offset, duration = value.get("offset"), value.get("duration")
    if offset is None or (offset == 0 and duration is None):
        return None
    if not (
        isinstance(offset, int | float)
        and isinstance(duration, int | float)
        and 0 <= offset < 1e9
        and 0 < duration < 1e9
    ):
        raise ValueError(
            f"fields 'offset' and 'duration' are {offset!r} and {duration!r}, an offset of at least 0 s and a "
            "duration above 0 s are needed"
        )
    path, problem = resolve(folder, row["audio"], cfg.allow_outside_paths, "allow_outside_paths=true")
    if problem:
        raise ValueError(f"field 'audio_filepath': {problem.rstrip('.')}")
    try:
        with soundfile.SoundFile(str(path)) as sound:
            if offset == 0 and duration > sound.frames / sound.samplerate - ROUNDED_S:
                return None
            sound.seek(min(int(offset * sound.samplerate), sound.frames))
            samples = sound.read(int(duration * sound.samplerate), dtype="float32")
            rate = sound.samplerate
    except (soundfile.LibsndfileError, RuntimeError, TypeError, OSError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from None
    if len(samples) == 0:
        raise ValueError(f"field 'offset' is {offset!r}, which lies behind the end of {path}")
    row["duration_s"] = round(len(samples) / rate, 3)
    return into.samples(path.stem, samples, rate)


def write(rows: Iterable[Utterance], out: Path, cfg: Config) -> int:
    """A line a recording. Raises DataError if rows have no recording."""
    return write_jsonl(out, each(rows, lambda row: _line(row, out, cfg), out))


def _line(row: Utterance, out: Path, cfg: Config) -> dict[str, Any]:
    if row.audio is None:
        raise DataError("has no recording, which NeMo's manifests need.")
    line: dict[str, Any] = {"audio_filepath": written(row.audio, out, cfg.paths), "duration": row.duration_s}
    if cfg.text == "semantics":
        scenario, _, action = (row.frame.intent or "").partition("_")
        line["text"] = str(
            {
                "scenario": row.meta.get("scenario", scenario),
                "action": row.meta.get("action", action),
                "entities": [{"type": slot.type, "filler": slot.value} for slot in row.frame.slots],
            }
        )
        line["transcript"] = row.text
    else:
        line |= {"text": row.text, **row.frame.to_json()}
    return {**line, "lang": row.language, "speaker": row.speaker, "id": row.id, "split": row.split}
