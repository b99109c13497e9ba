"""Fluent Speech Commands: 30,043 recordings of 248 commands to a home assistant by 97 speakers, 31 intents.

Lugosch et al. 2019 (arXiv 1904.03670). Layout: `data/train_data.csv`, `valid_data.csv`, `test_data.csv` (path, speakerId,
transcription, action, object, location) and `wavs/speakers/SPEAKER/*.wav`, in `fluent_speech_commands_dataset/` of the archive.
Fluent Speech Commands Public License: academic research only. The label says what is meant, not always what is said.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
from pydantic import Field

from lalm.corpora._complete import CHECK_COUNTS, check_count, first_folder
from lalm.data.manifest import resolve
from lalm.data.problems import Problems
from lalm.data.recordings import with_durations
from lalm.data.table import read_table
from lalm.errors import DataError, nearest
from lalm.plugins import PluginConfig
from lalm.records import Frame, Slot, Utterance
from lalm.rundir import write_text

LICENCE = "Fluent Speech Commands Public License (academic research only, non-commercial)"
NUM_ROWS = {"train": 23132, "dev": 3118, "test": 3793}
_FILES = {"train": "train_data.csv", "dev": "valid_data.csv", "test": "test_data.csv"}
_COLUMNS = ("path", "speakerId", "transcription", "action", "object", "location")


class Config(PluginConfig):
    """Options of the corpus."""

    label: Literal["slots", "intent"] = Field(
        "slots", description="action as the intent with slots object and location, or all three as one of 31 intents"
    )
    check_counts: bool = Field(True, description=CHECK_COUNTS)


def read(root: Path, split: str, cfg: Config) -> Iterator[Utterance]:
    """The recordings of a split with their transcripts; speakers are apart in the corpus itself.

    Raises DataError for missing files, bad rows and recordings (all listed), and files that are not complete.
    """
    folder = first_folder(root, "fluent_speech_commands_dataset")
    path = folder / "data" / _FILES[split]
    table = read_table(path, allow_index=True)
    missing = [name for name in _COLUMNS if name not in table.columns]
    if missing:
        raise DataError(f"{path}: has no column '{missing[0]}'.{nearest(missing[0], table.columns)}")
    problems = Problems()
    rows = []
    for line, cells in table.rows:
        audio, problem = resolve(folder, cells["path"], allow_outside=False)
        if problem or not cells["path"] or not cells["action"]:
            problems.append(f"{path}, line {line}: column 'path' or 'action': {problem or 'is empty.'}")
            continue
        rows.append(
            Utterance(
                audio.stem,
                cells["transcription"] or None,
                audio,
                _frame(cells, cfg),
                speaker=cells["speakerId"] or None,
                split=split,  # type: ignore[arg-type]
                source="recorded",
            )
        )
    problems.check(path)
    check_count(path, len(rows), NUM_ROWS[split], cfg.check_counts)
    yield from with_durations(rows, path)


def _frame(cells: dict[str, str], cfg: Config) -> Frame:
    named = [(kind, cells[kind]) for kind in ("object", "location") if cells[kind] not in ("", "none")]
    if cfg.label == "intent":
        return Frame("_".join(cells[kind] or "none" for kind in ("action", "object", "location")).replace(" ", "_"))
    return Frame(cells["action"], tuple(Slot(kind, value) for kind, value in named))


def make_tiny(root: Path, seed: int) -> None:
    """Three recordings of noise a split."""
    rng = np.random.default_rng(seed)
    commands = (
        ("Turn on the kitchen lights", "activate", "lights", "kitchen"),
        ("Make it louder", "increase", "volume", "none"),
        ("Bring me the newspaper", "bring", "newspaper", "none"),
    )
    for split, name in _FILES.items():
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["", *_COLUMNS])
        for index, (words, action, what, where) in enumerate(commands):
            speaker = f"{split}{index % 2}"
            path = f"wavs/speakers/{speaker}/{split}-{index}.wav"
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(root / path, 0.1 * rng.standard_normal(8000), 16_000)
            writer.writerow([index, path, speaker, words, action, what, where])
        write_text(root / "data" / name, text.getvalue())
