"""Barista: real recordings of coffee orders by more than fifty speakers, and 432 labelled sentences.

From Picovoice's speech-to-intent benchmark, Apache-2.0. Layout: `text.jsonl` (text, intent, slots as an object),
`recordings.jsonl` (audio, intent, slots, duration_s), `audio/*.flac`. The recordings carry no transcripts and no
speaker names; they are split into a pool for training and a test set by a seeded draw.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import soundfile
from pydantic import Field, PositiveInt

from lalm.data.manifest import json_lines, resolve
from lalm.data.recordings import with_durations
from lalm.data.slots import parse_slots
from lalm.errors import DataError, many
from lalm.plugins import PluginConfig
from lalm.records import Frame, Utterance
from lalm.rundir import write_jsonl

LICENCE = "Apache-2.0"
PUBLISHED = {
    "metric": "command_acceptance",
    "values": {
        "Picovoice Rhino": 0.976,
        "Microsoft LUIS": 0.899,
        "IBM Watson": 0.868,
        "Amazon Lex": 0.845,
        "Google Dialogflow": 0.776,
    },
    "snr_db": [6, 24],
    "source": "Picovoice's speech-to-intent benchmark: command acceptance of each engine, averaged over recordings with the "
    "noise of a cafe and of a kitchen at 6 to 24 dB, as published with the data",
    "differs": "The engines answered all recordings of the benchmark; the runs here answered the test split of this corpus "
    "alone, with other noise, or other stretches of it. The benchmark compares the loudest 128 ms of speech and of noise "
    "where a ratio here compares mean powers, so the same number is mostly noisier here.",
}


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
    rows: list[Utterance] = []
    for number, value in json_lines(path, problems):
        try:
            rows.append(_row(path, number, value, kind))
        except ValueError as error:
            problems.append(f"{path}, line {number}: {error}")
    times = Counter(row.id for row in rows)
    problems += [f"{path}: the recording '{name}' stands there {n} times." for name, n in times.items() if n > 1]
    if problems:
        raise DataError(f"{path}: {many(len(problems), 'problem')}.", problems)
    yield from with_durations(rows, path)


def _row(path: Path, number: int, value: Any, kind: str) -> Utterance:
    """Raises ValueError with what is wrong."""
    if not isinstance(value, dict):
        raise ValueError("is not an object.")
    given, intent, duration_s = value.get(kind), value.get("intent"), value.get("duration_s")
    for field, one in ((kind, given), ("intent", intent)):
        if not isinstance(one, str) or not one:
            raise ValueError(f"field '{field}' is {one!r}, a non-empty string is needed.")
    if not isinstance(value.get("slots"), dict):
        raise ValueError(f"field 'slots' is {value.get('slots')!r}, an object of strings is needed.")
    frame = Frame(intent, parse_slots(value["slots"]))
    if kind == "text":
        return Utterance(f"text-{number}", text=given, frame=frame, split="train")
    audio, problem = resolve(path.parent, str(given), allow_outside=False)
    if problem:
        raise ValueError(f"field 'audio': {problem}")
    if duration_s is not None and not (isinstance(duration_s, int | float) and 0 < duration_s < math.inf):
        raise ValueError(f"field 'duration_s' is {duration_s!r}, a number of seconds above 0 is needed.")
    return Utterance(audio.stem, audio=audio, frame=frame, duration_s=duration_s, source="recorded")


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
        recordings.append({"audio": name, "intent": "orderDrink", "slots": slots, "duration_s": 0.5 + 0.05 * index})
    write_jsonl(root / "text.jsonl", texts)
    write_jsonl(root / "recordings.jsonl", recordings)
