"""Hugging Face data sets with an Audio column: a Hub id, a `save_to_disk` folder, Parquet files, an AudioFolder.

Sound is decoded by lalm with soundfile, never by `datasets`, so torchcodec is not needed. Columns are found by their usual
names, or are named by options. All but AudioFolder needs `pip install 'lalm[hf]'`. Written: Parquet with the sound inside, or
an AudioFolder.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from lalm.data.annotated import parse_annotated
from lalm.data.columns import by_name
from lalm.data.intake import Intake
from lalm.data.slots import parse_slots, slots_from_text
from lalm.errors import ConfigError, DataError, UserError, nearest
from lalm.formats._files import checked, each
from lalm.formats._hf_sources import Part, datasets, parts
from lalm.languages import Language
from lalm.plugins import PluginConfig
from lalm.records import Slot, Utterance

_SPLIT_NAMES = {"train": "train", "dev": "validation", "test": "test"}
_USES = ("audio", "text", "intent", "slots", "id", "speaker", "language")
_BATCH_ROWS = 64


class Config(PluginConfig):
    """Options of the format."""

    config: str | None = Field(None, description="configuration (subset) of a data set on the Hub")
    revision: str | None = Field(None, description="revision of a data set on the Hub (none: the newest)")
    only: str | None = Field(None, description="name of the only split to be read (none: all)")
    text_column: str | None = Field(None, description="column of the sentence (none: by its usual names)")
    audio_column: str | None = Field(None, description="column of the sound (none: the one of the type Audio)")
    intent_column: str | None = Field(None, description="column of the intent (none: by its usual names)")
    slots_column: str | None = Field(
        None, description="column of the slots, as structs or JSON (none: by its usual names)"
    )
    annotated_column: str | None = Field(None, description="column of the sentence with [type : value] in it")
    id_column: str | None = Field(None, description="column of the row's name (none: by its usual names)")
    speaker_column: str | None = Field(None, description="column of the speaker (none: by its usual names)")
    language_column: str | None = Field(None, description="column of the language (none: by its usual names)")
    language: Language = Field("en", description="language of rows that name none")
    allow_outside_paths: bool = Field(False, description="let paths of sound leave the data set's own folder")
    layout: Literal["parquet", "audiofolder"] = Field("parquet", description="what is written")


def read(source: str, into: Intake, cfg: Config) -> Iterator[Utterance]:
    """The rows of all splits. Raises DataError for a source that cannot be read, ConfigError for columns that are not there."""
    for part in parts(source, cfg.config, cfg.revision, cfg.only, into):
        uses = _uses(part, cfg)
        for number, (where, row) in enumerate(part.rows):
            name = f"{part.name}-{number}"
            try:
                fields = {"id": name, "split": part.split, **_fields(row, uses, part, cfg)}
                clip = _sound(row.get(uses["audio"]), fields, into, where) if "audio" in uses else None
            except ValueError as error:
                into.problem(where, f"{error}.")
                continue
            folder = part.folder
            if clip is None and fields.get("audio"):
                fields["audio"] = _inside(fields["audio"], folder)
            allowed = cfg.allow_outside_paths or clip is not None
            made = checked(fields, where, into, folder, allowed, {"audio": uses.get("audio", "audio")})
            yield from (_kept(one, into, where) if part.fetched else one for one in made)


def _uses(part: Part, cfg: Config) -> dict[str, str]:
    """What a column is for -> its name."""
    found = by_name([name for name in part.columns if name not in part.audio])
    if part.audio:
        found["audio"] = part.audio[0]
    asked = {use: name for use in (*_USES, "annotated") if (name := getattr(cfg, f"{use}_column")) is not None}
    problems = [
        f"hf.{use}_column: {part.name} has no column '{name}'.{nearest(name, part.columns)}"
        for use, name in asked.items()
        if name not in part.columns
    ]
    if problems:
        raise ConfigError("\n".join(problems))
    return {**{use: name for use, name in found.items() if name not in asked.values()}, **asked}


def _fields(row: Mapping[str, Any], uses: Mapping[str, str], part: Part, cfg: Config) -> dict[str, Any]:
    """The manifest's fields of a row, all but the sound. Raises ValueError."""

    def value(use: str) -> Any:
        name = uses.get(use)
        given = row.get(name) if name is not None else None
        if name in part.labels and isinstance(given, int):
            known = part.labels[name]
            return known[given] if 0 <= given < len(known) else None  # -1: a test set whose labels are held back
        return given

    slots = _slots(value("slots"), uses.get("slots"))
    annotated = value("annotated")
    if isinstance(annotated, str):
        slots += parse_annotated(annotated)[1]
    language = value("language")
    meta = {
        name: item
        for name, item in row.items()
        if name not in uses.values() and isinstance(item, str | int | float) and item != "" and name not in part.labels
    }
    identity, speaker = value("id"), value("speaker")
    return {
        **({"id": str(identity)} if identity not in (None, "") else {}),
        "text": value("text"),
        "intent": value("intent"),
        "slots": [{"type": slot.type, "value": slot.value} for slot in slots],
        "language": language if isinstance(language, str) and language else cfg.language,
        "speaker": str(speaker) if isinstance(speaker, int) else speaker,
        "meta": meta,
    }


def _slots(value: Any, column: str | None) -> tuple[Slot, ...]:
    try:
        return slots_from_text(value) if isinstance(value, str) else parse_slots(value)
    except ValueError as error:
        raise ValueError(f"column '{column}' {error}") from None


def _sound(value: Any, fields: dict[str, Any], into: Intake, where: str) -> Path | None:
    """Keeps sound that stands inside; a path goes to `fields`. Raises ValueError."""
    if value is None:
        return None
    if isinstance(value, str):
        fields["audio"] = value
        return None
    if not isinstance(value, Mapping) or not (value.get("bytes") or value.get("path")):
        raise ValueError(f"the sound is {value!r:.60}, bytes or a path are needed")
    if not value.get("bytes"):
        fields["audio"] = value["path"]
        return None
    clip = into.clip(Path(value.get("path") or fields["id"]).stem, value["bytes"], where)
    if clip is None:
        raise ValueError("so the row has no recording")
    fields["audio"] = str(clip)
    return clip


def _kept(row: Utterance, into: Intake, where: str) -> Utterance:
    """The row with a copy of its recording; the recording itself, to be refused later, if there is none to copy."""
    if row.audio is None or not row.audio.is_file():
        return row
    return replace(row, audio=into.clip(row.audio.stem, row.audio.read_bytes(), where) or row.audio)


def _inside(name: str, folder: Path) -> str:
    """A path below the data set's folder, relative to it, so that it is not taken for one that leaves it."""
    path = Path(name)
    return str(path.relative_to(folder.absolute())) if path.is_relative_to(folder.absolute()) else name


def write(rows: Iterable[Utterance], out: Path, cfg: Config) -> int:
    """A folder that `datasets.load_dataset` reads. Raises DataError for recordings that cannot be read."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
        try:
            made = each(rows, _with_sound if cfg.layout == "parquet" else _with_path, out)
            number = _write_parquet(made, part) if cfg.layout == "parquet" else _write_folder(made, part)
            part.chmod(0o755)
            part.replace(out)
            return number
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise UserError(f"{error.filename or out}: {error.strerror or error}. Nothing was written.") from error


def _plain(row: Utterance) -> dict[str, Any]:
    return {
        "id": row.id,
        "text": row.text,
        **row.frame.to_json(),
        "language": row.language,
        "speaker": row.speaker,
        "source": row.source,
    }


def _with_sound(row: Utterance) -> tuple[str, dict[str, Any]]:
    """The split of a row and the row with its recording's bytes."""
    sound = None
    if row.audio is not None:
        try:
            sound = {"bytes": row.audio.read_bytes(), "path": row.audio.name}
        except OSError as error:
            raise DataError(f"{row.audio}: cannot be read ({error.strerror}).") from None
    return _SPLIT_NAMES[row.split or "train"], {"audio": sound, **_plain(row)}


def _with_path(row: Utterance) -> tuple[str, dict[str, Any]]:
    if row.audio is None:
        raise DataError("has no recording, which an AudioFolder needs; use layout=parquet.")
    if not row.audio.is_file():
        raise DataError(f"{row.audio}: there is no such file.")
    return _SPLIT_NAMES[row.split or "train"], {"file_name": row.audio, **_plain(row)}


def _write_parquet(rows: Iterable[tuple[str, dict[str, Any]]], part: Path) -> int:
    """`data/SPLIT-00000-of-00001.parquet`, with the types that `datasets` reads."""
    package = datasets()
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = package.Value("string")
    names = ("id", "text", "intent", "language", "speaker", "source")
    slots = package.List({"type": text, "value": text}) if hasattr(package, "List") else [{"type": text, "value": text}]
    schema = package.Features({"audio": package.Audio(), **dict.fromkeys(names, text), "slots": slots}).arrow_schema
    (part / "data").mkdir()
    writers: dict[str, Any] = {}
    waiting: dict[str, list[dict[str, Any]]] = {}
    count = 0

    def flush(split: str) -> None:
        writers[split].write_table(pa.Table.from_pylist(waiting.pop(split, []), schema=schema))

    try:
        for split, row in rows:
            if split not in writers:
                writers[split] = pq.ParquetWriter(part / "data" / f"{split}-00000-of-00001.parquet", schema)
            waiting.setdefault(split, []).append(row)
            count += 1
            if len(waiting[split]) == _BATCH_ROWS:
                flush(split)
        for split in list(waiting):
            flush(split)
    finally:
        for writer in writers.values():
            writer.close()
    return count


def _write_folder(rows: Iterable[tuple[str, dict[str, Any]]], part: Path) -> int:
    """A folder a split with `metadata.jsonl` and copies of the recordings."""
    count = 0
    streams: dict[str, Any] = {}
    try:
        for split, row in rows:
            folder = part / split
            if split not in streams:
                folder.mkdir()
                streams[split] = (folder / "metadata.jsonl").open("w", encoding="utf-8")
            count += 1
            name = f"{count:06d}{row['file_name'].suffix.lower()}"
            shutil.copyfile(row["file_name"], folder / name)
            streams[split].write(json.dumps({**row, "file_name": name}, ensure_ascii=False) + "\n")
    finally:
        for stream in streams.values():
            stream.close()
    return count
