"""OpenAI's chat messages as JSON lines, with content lists and the sound inside (`input_audio`, `audio_url`, paths).

Read: `input_audio` (base64), `audio_url` (`data:` and `file:`, as vLLM takes it), `audio` with a path (transformers,
Qwen), and lines of the batch API (`body`). Written: `input_audio` with a WAV or MP3 file inside, or one of the others.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import soundfile
from pydantic import Field

from lalm.data import audio
from lalm.data.intake import Intake
from lalm.errors import DataError
from lalm.formats import _chat
from lalm.formats._files import Line, Paths, each, read_lines, written
from lalm.plugins import PluginConfig
from lalm.records import Utterance
from lalm.rundir import write_jsonl
from lalm.tasks.slu import INSTRUCTION

_SAMPLE_RATE_HZ = 16_000


class Config(PluginConfig):
    """Options of the format."""

    instruction: str = Field(INSTRUCTION, description="what is asked of every row; taken off again when reading")
    audio: Literal["input_audio", "audio_url", "path"] = Field(
        "input_audio", description="how sound is written: inside (input_audio, audio_url) or as a path"
    )
    paths: Paths = Field("absolute", description="paths of recordings as written: absolute, or relative to the file")
    columns: bool = Field(False, description="write id, transcript, language, speaker and split beside the messages")
    audio_folder: Path | None = Field(None, description="folder that file names start from (none: that of the file)")
    allow_outside_paths: bool = Field(False, description="let audio paths leave that folder when reading")


def read(source: str, into: Intake, cfg: Config) -> Iterator[Utterance]:
    """The rows of a file, or of the files of a folder that are named after splits."""

    def fields(value: Any, line: Line) -> dict[str, Any]:
        outer = value if isinstance(value, dict) else {}
        body = outer.get("body", outer)
        messages, sounds = _plain(_chat.checked_messages(body.get("messages") if isinstance(body, dict) else None))
        row = {"id": outer.get("custom_id", line.name), **_chat.fields(messages, outer, cfg.instruction)}
        if len(sounds) > 1:
            raise ValueError(f"holds {len(sounds)} recordings; a row has one")
        return {**row, "audio": _audio(sounds[0], into, line.name, line.where) if sounds else None}

    yield from read_lines(source, (".jsonl", ".json", ".ndjson"), into, cfg, fields)


def _plain(messages: list[dict[str, Any]]) -> tuple[list[dict[str, str]], list[dict[str, Any]]]:
    """Messages with plain text in which `<audio>` stands for sound, and the parts that are sound. Raises ValueError."""
    found, sounds = [], []
    for index, one in enumerate(messages):
        content = one["content"]
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        if not isinstance(content, list):
            raise ValueError(f"field 'messages[{index}].content' is {content!r:.60}, a string or a list is needed")
        texts = []
        for part in content:
            if not isinstance(part, dict) or not isinstance(part.get("type"), str):
                raise ValueError(f"field 'messages[{index}].content' has {part!r:.60}, an object with 'type' is needed")
            if part["type"] in ("text", "input_text", "output_text") and isinstance(part.get("text"), str):
                texts.append(part["text"])
            elif "audio" in part["type"]:
                texts.append(_chat.AUDIO)
                sounds.append(part)
            else:
                raise ValueError(
                    f"field 'messages[{index}].content' has a part of the type {part['type']!r}; allowed: text, audio"
                )
        found.append({"role": one["role"], "content": "".join(texts)})
    return found, sounds


def _audio(part: dict[str, Any], into: Intake, name: str, where: str) -> str | Path:
    """The sound: a name as it stands there, or the path of the clip that was inside. Raises ValueError."""
    inner = part.get("input_audio") or part.get("audio_url") or part.get("audio") or part.get("path") or part.get("url")
    content = None
    if isinstance(inner, dict) and "data" in inner:
        content = _chat.from_base64(inner["data"])
    elif isinstance(inner, dict):
        inner = inner.get("url") or inner.get("path")
    if content is None:
        if not isinstance(inner, str) or not inner:
            raise ValueError(f"a part of the type {part['type']!r} holds no sound that is known")
        content = _chat.data_url(inner)
        if content is None:
            _chat.no_address(inner)
            return inner.removeprefix("file://")
    clip = into.clip(name, content, where)
    if clip is None:
        raise ValueError("so the row has no recording")
    return clip


def write(rows: Iterable[Utterance], out: Path, cfg: Config) -> int:
    """One JSON object a row. Raises DataError for a recording that cannot be read."""
    return write_jsonl(out, each(rows, lambda row: _line(row, out, cfg), out))


def _line(row: Utterance, out: Path, cfg: Config) -> dict[str, Any]:
    messages: list[dict[str, Any]] = []
    for one in _chat.conversation(row, cfg.instruction):
        before, sound, after = one["content"].partition(_chat.AUDIO)
        if sound and row.audio is not None:
            parts: list[dict[str, Any]] = [{"type": "text", "text": before}] if before else []
            parts.append(_sound(row.audio, out, cfg))
            messages.append(
                {"role": one["role"], "content": [*parts, *([{"type": "text", "text": after}] if after else [])]}
            )
        else:
            messages.append(one)
    return {"messages": messages, **(_chat.columns(row) if cfg.columns else {})}


def _sound(path: Path, out: Path, cfg: Config) -> dict[str, Any]:
    if cfg.audio == "path":
        return {"type": "audio", "audio": written(path, out, cfg.paths)}
    kind, content = _wav_or_mp3(path)
    text = base64.b64encode(content).decode("ascii")
    if cfg.audio == "input_audio":
        return {"type": "input_audio", "input_audio": {"data": text, "format": kind}}
    return {"type": "audio_url", "audio_url": {"url": f"data:audio/{'mpeg' if kind == 'mp3' else 'wav'};base64,{text}"}}


def _wav_or_mp3(path: Path) -> tuple[str, bytes]:
    """The bytes of a WAV or MP3 file as they are; another kind is decoded to 16-bit WAV at 16 kHz."""
    audio.info(path)
    if path.suffix.lower() in (".wav", ".mp3"):
        try:
            return path.suffix.lower()[1:], path.read_bytes()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}).") from None
    encoded = io.BytesIO()
    soundfile.write(encoded, audio.load(path, _SAMPLE_RATE_HZ), _SAMPLE_RATE_HZ, format="WAV", subtype="PCM_16")
    return "wav", encoded.getvalue()
