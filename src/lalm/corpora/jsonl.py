"""The manifest itself: one file with a `split` field, or a folder with train.jsonl, dev.jsonl and test.jsonl.

The format stands in docs/formats.md. In one file, rows without a split are training rows. Rows with turns that have answers or a
clarification must be whole dialogues; what is wrong with them is listed. The licence is yours to state.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
from pydantic import Field

from lalm.data.dialogue import is_labelled
from lalm.data.dialogue_checks import dialogue_problems
from lalm.data.manifest import read_manifest, write_manifest
from lalm.data.problems import Problems
from lalm.data.recordings import with_durations
from lalm.errors import DataError
from lalm.plugins import PluginConfig
from lalm.records import Frame, Slot, Utterance

LICENCE = "as stated by the owner of the manifest"


class Config(PluginConfig):
    """Options of the corpus."""

    allow_outside_paths: bool = Field(False, description="let audio paths leave the manifest's folder")
    check_audio: bool = Field(True, description="check that every recording is there, and take its length if not given")


def read(root: Path, split: str, cfg: Config) -> Iterator[Utterance]:
    """The rows of a split. Raises DataError for missing files and bad rows, all of them listed."""
    path = root
    if root.is_dir():
        single, named = root / "manifest.jsonl", [root / f"{name}.jsonl" for name in ("train", "dev", "test")]
        path = root / f"{split}.jsonl" if any(file.is_file() for file in named) else single
        if not path.is_file() and split != "train":
            return
        if not path.is_file():
            raise DataError(f"{root}: holds neither train.jsonl nor manifest.jsonl.")
    rows = read_manifest(path, cfg.allow_outside_paths)
    if path not in (root, root / "manifest.jsonl"):
        rows = [replace(row, split=split) for row in rows]  # type: ignore[arg-type]
    wanted = [row for row in rows if (row.split or "train") == split]
    problems = Problems()
    for row in wanted:
        for problem in dialogue_problems(row) if row.turns and is_labelled(row) else []:
            problems.append(f"row '{row.id}' {problem}")
    problems.check(path)
    yield from with_durations(wanted, path) if cfg.check_audio else wanted


def make_tiny(root: Path, seed: int) -> None:
    """Six texts and four recordings of noise in one manifest."""
    rng = np.random.default_rng(seed)
    (root / "audio").mkdir(parents=True, exist_ok=True)
    rows: list[Utterance] = []
    for index, (intent, place) in enumerate(
        (i, p) for i in ("light_on", "light_off") for p in ("kitchen", "hall", "attic")
    ):
        words = f"turn the light {intent[6:]} in the {place}"
        frame = Frame(intent, (Slot("place", place),))
        rows.append(Utterance(f"t{index}", text=words, frame=frame, split="train"))
        if index < 4:
            audio = root / "audio" / f"{index}.wav"
            num_samples = 6400 + 800 * index
            soundfile.write(audio, 0.1 * rng.standard_normal(num_samples), 16_000)
            spoken = Utterance(f"s{index}", words, audio, frame, source="recorded", duration_s=num_samples / 16_000)
            rows.append(replace(spoken, speaker=f"speaker-{index}", split="train" if index < 2 else "test"))
    write_manifest(root / "manifest.jsonl", rows)
