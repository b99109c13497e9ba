"""Barista: real recordings of coffee orders by more than fifty speakers, and 432 labelled sentences.

From Picovoice's speech-to-intent benchmark, Apache-2.0. Layout: `text.jsonl` (text, intent, slots as an object),
`recordings.jsonl` (audio, intent, slots, duration_s), `audio/*.flac`. The recordings carry no transcripts and no
speaker names; they are split into a pool for training and a test set by a seeded draw.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import soundfile
from pydantic import Field, PositiveInt

from lalm.data.manifest import json_lines, resolve
from lalm.errors import DataError
from lalm.plugins import PluginConfig
from lalm.records import Frame, Slot, Utterance
from lalm.rundir import write_jsonl

LICENCE = "Apache-2.0"


class Config(PluginConfig):
    """Options of the corpus."""

    test_size: PositiveInt = Field(200, description="recordings of the test set; the others are the pool")
    split_seed: int = Field(0, description="seed of the split of the recordings")


def read(root: Path, split: str, cfg: Config) -> Iterator[Utterance]:
    """Sentences and pool recordings (`train`), nothing (`dev`), test recordings (`test`).

    Raises DataError for missing files, bad lines, or fewer recordings than the test set needs.
    """
    if split == "dev":
        return
    if split == "train":
        yield from _rows(root / "text.jsonl", "text")
    recordings = list(_rows(root / "recordings.jsonl", "audio"))
    if len(recordings) <= cfg.test_size:
        raise DataError(
            f"data.corpus.test_size: {cfg.test_size} of {len(recordings)} recordings leave no pool to train on."
        )
    order = sorted(range(len(recordings)), key=lambda index: recordings[index].id)
    Random(cfg.split_seed).shuffle(order)
    test = set(order[: cfg.test_size])
    yield from (row for index, row in enumerate(recordings) if (index in test) == (split == "test"))


def _rows(path: Path, kind: str) -> Iterator[Utterance]:
    problems: list[str] = []
    rows = []
    for number, value in json_lines(path, problems):
        where = f"{path}, line {number}"
        given = value.get(kind) if isinstance(value, dict) else None
        slots = value.get("slots") if isinstance(value, dict) else None
        if not isinstance(given, str) or not given:
            problems.append(f"{where}: field '{kind}' is missing or not a string.")
            continue
        if not isinstance(slots, dict) or not all(isinstance(item, str) for item in slots.values()):
            problems.append(f"{where}: field 'slots' is not an object of strings.")
            continue
        frame = Frame(value.get("intent"), tuple(Slot(name, item) for name, item in slots.items()))
        if kind == "text":
            rows.append(Utterance(f"text-{number}", text=given, frame=frame, split="train"))
            continue
        audio, problem = resolve(path.parent, given, allow_outside=False)
        if problem or not audio.is_file():
            problems.append(f"{where}: field 'audio': {problem or f'{audio} does not exist.'}")
            continue
        rows.append(_recording(audio, frame, value))
    if problems:
        raise DataError(f"{path}: {len(problems)} problems.", problems)
    yield from rows


def _recording(audio: Path, frame: Frame, value: dict[str, Any]) -> Utterance:
    return Utterance(audio.stem, audio=audio, frame=frame, duration_s=value.get("duration_s"), source="recorded")


def make_tiny(root: Path, seed: int) -> None:
    """Eight sentences and six recordings of noise in the true layout."""
    rng = np.random.default_rng(seed)
    drinks, sizes = ("latte", "mocha"), ("small", "large")
    orders = [{"coffeeDrink": drink, "size": size} for drink in drinks for size in sizes]
    (root / "audio").mkdir(parents=True, exist_ok=True)
    texts = [
        {"text": f"{start} a {slots['size']} {slots['coffeeDrink']}", "intent": "orderDrink", "slots": slots}
        for start in ("make me", "can I have")
        for slots in orders
    ]
    recordings = []
    for index in range(6):
        name = f"audio/{index:04d}.flac"
        soundfile.write(root / name, 0.1 * rng.standard_normal(8000 + 800 * index), 16_000)
        slots = orders[index % len(orders)]
        recordings.append(
            {"audio": name, "intent": "orderDrink", "slots": slots, "duration_s": 0.5 + 0.05 * index}
        )
    write_jsonl(root / "text.jsonl", texts)
    write_jsonl(root / "recordings.jsonl", recordings)
