"""The manifest itself: one file with a `split` field, or a folder with train.jsonl, dev.jsonl and test.jsonl.

The format stands in docs/formats.md. In one file, rows without a split are training rows. The licence is yours to state.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
from pydantic import Field

from lalm.data.manifest import read_manifest, write_manifest
from lalm.errors import DataError
from lalm.plugins import PluginConfig
from lalm.records import Frame, Slot, Utterance

LICENCE = "as stated by the owner of the manifest"


class Config(PluginConfig):
    """Options of the corpus."""

    allow_outside_paths: bool = Field(False, description="let audio paths leave the manifest's folder")
    check_audio: bool = Field(True, description="check that every recording named is there")


def read(root: Path, split: str, cfg: Config) -> Iterator[Utterance]:
    """The rows of a split. Raises DataError for missing files and bad rows, all of them listed."""
    if root.is_dir():
        path = root / f"{split}.jsonl"
        single = root / "manifest.jsonl"
        if not path.is_file() and single.is_file():
            yield from _of_file(single, split, cfg)
        elif path.is_file():
            yield from (replace(row, split=split) for row in _checked(path, cfg))  # type: ignore[arg-type]
        elif split == "train":
            raise DataError(f"{root}: holds neither train.jsonl nor manifest.jsonl.")
    else:
        yield from _of_file(root, split, cfg)


def _of_file(path: Path, split: str, cfg: Config) -> Iterator[Utterance]:
    yield from (row for row in _checked(path, cfg) if (row.split or "train") == split)


def _checked(path: Path, cfg: Config) -> list[Utterance]:
    rows = read_manifest(path, cfg.allow_outside_paths)
    if cfg.check_audio:
        missing = [f"{row.id}: {row.audio}" for row in rows if row.audio is not None and not row.audio.is_file()]
        if missing:
            raise DataError(f"{path}: {len(missing)} recordings are named and not there.", missing)
    return rows


def make_tiny(root: Path, seed: int) -> None:
    """Six texts and four recordings of noise in one manifest."""
    rng = np.random.default_rng(seed)
    (root / "audio").mkdir(parents=True, exist_ok=True)
    rows = []
    for index, (intent, place) in enumerate((i, p) for i in ("light_on", "light_off") for p in ("kitchen", "hall", "attic")):
        words = f"turn the light {intent[6:]} in the {place}"
        frame = Frame(intent, (Slot("place", place),))
        rows.append(Utterance(f"t{index}", text=words, frame=frame, split="train"))
        if index < 4:
            audio = root / "audio" / f"{index}.wav"
            soundfile.write(audio, 0.1 * rng.standard_normal(6400 + 800 * index), 16_000)
            split = "train" if index < 2 else "test"
            rows.append(
                Utterance(f"s{index}", words, audio, frame, speaker=f"speaker-{index}", duration_s=0.4, split=split, source="recorded")
            )
    write_manifest(root / "manifest.jsonl", rows)
