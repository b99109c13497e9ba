"""JSON lines of `messages` and `audios` with `<audio>` in the text, as ms-swift and LLaMA-Factory read and write them.

ShareGPT's `conversations` and ms-swift's `query` and `response` are read too. For LLaMA-Factory name the file in its
`dataset_info.json` with `formatting: sharegpt` and the columns `messages` and `audios` (docs/data.md shows it).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from lalm.data.intake import Intake
from lalm.formats import _chat
from lalm.formats._files import Line, Paths, each, read_lines, written
from lalm.plugins import PluginConfig
from lalm.records import Utterance
from lalm.rundir import write_jsonl
from lalm.tasks.slu import INSTRUCTION


class Config(PluginConfig):
    """Options of the format."""

    instruction: str = Field(INSTRUCTION, description="what is asked of every row; taken off again when reading")
    paths: Paths = Field("absolute", description="paths of recordings as written: absolute, or relative to the file")
    columns: bool = Field(True, description="write id, transcript, language, speaker and split beside the messages")
    audio_folder: Path | None = Field(None, description="folder that file names start from (none: that of the file)")
    allow_outside_paths: bool = Field(False, description="let audio paths leave that folder when reading")


def read(source: str, into: Intake, cfg: Config) -> Iterator[Utterance]:
    """The rows of a file, or of the files of a folder that are named after splits."""

    def fields(value: Any, line: Line) -> dict[str, Any]:
        messages, sounds = _parts(value)
        row = _chat.fields(messages, value, cfg.instruction)
        return {**row, "audio": _audio(sounds, into, line.name, line.where)}

    yield from read_lines(source, (".jsonl", ".json", ".ndjson"), into, cfg, fields)


def _parts(value: Any) -> tuple[list[dict[str, str]], list[Any]]:
    """The messages and the recordings of a row. Raises ValueError."""
    if not isinstance(value, dict):
        raise ValueError("is no object")
    if "query" in value and "messages" not in value:
        messages = [
            {"role": "user", "content": value["query"]},
            {"role": "assistant", "content": value.get("response")},
        ]
    else:
        messages = _chat.checked_messages(value.get("messages", value.get("conversations")))
    for index, one in enumerate(messages):
        if not isinstance(one["content"], str):
            raise ValueError(f"field 'messages[{index}].content' is {one['content']!r:.60}, a string is needed")
    sounds = value.get("audios") or []
    sounds = sounds if isinstance(sounds, list) else [sounds]
    places = sum(one["content"].count(_chat.AUDIO) for one in messages)
    if len(sounds) > 1:
        raise ValueError(f"field 'audios' names {len(sounds)} recordings; a row has one")
    if places > len(sounds):
        raise ValueError(f"'{_chat.AUDIO}' stands there {places} times and 'audios' names {len(sounds)} recordings")
    return messages, sounds


def _audio(sounds: list[Any], into: Intake, name: str, where: str) -> str | Path | None:
    """The recording: a name as it stands there, or the path of the clip that was inside. Raises ValueError."""
    if not sounds:
        return None
    sound = sounds[0].get("bytes") or sounds[0].get("path") if isinstance(sounds[0], Mapping) else sounds[0]
    if not isinstance(sound, str) or not sound:
        raise ValueError(f"field 'audios[0]' is {sounds[0]!r:.60}, a path is needed")
    content = _chat.data_url(sound)
    if content is not None:
        clip = into.clip(name, content, where)
        if clip is None:
            raise ValueError("so the row has no recording")
        return clip
    _chat.no_address(sound)
    return sound.removeprefix("file://")


def write(rows: Iterable[Utterance], out: Path, cfg: Config) -> int:
    """One JSON object a row."""
    return write_jsonl(out, each(rows, lambda row: _line(row, out, cfg), out))


def _line(row: Utterance, out: Path, cfg: Config) -> dict[str, Any]:
    return {
        "messages": _chat.conversation(row, cfg.instruction),
        "audios": [] if row.audio is None else [written(row.audio, out, cfg.paths)],
        **(_chat.columns(row) if cfg.columns else {}),
    }
