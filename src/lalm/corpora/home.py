"""Home: commands to a home assistant, written for this project and spoken by synthetic voices; comes with the package.

480 sentences, 15 intents, 17 slot types. 360 sentences are for training, 150 of them also spoken; 120 others are spoken
for the test, by voices that training does not hold. Licence Apache-2.0; how it was made, and by which engines and
voices, stands in data/home/README.md. Layout: `manifest.jsonl` and `audio/*.ogg`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile

from lalm.corpora._home_grammar import sentences
from lalm.data.manifest import read_manifest, write_manifest
from lalm.errors import DataError
from lalm.plugins import PluginConfig
from lalm.records import Utterance

LICENCE = "Apache-2.0"
FOLDER = Path(__file__).with_name("data") / "home"
NUM_SENTENCES = {"train": 360, "test": 120}
NUM_SPOKEN = {"train": 150, "test": 120}


class Config(PluginConfig):
    """The corpus has no options."""


def read(root: Path, split: str, cfg: Config) -> Iterator[Utterance]:
    """Training sentences, with speech where they are spoken (`train`), nothing (`dev`), spoken sentences (`test`).

    The speech is synthetic, as the manifest says; it stands for recordings here, so rows are handed on as `recorded`.
    Raises DataError if the manifest or a recording is missing, or if the shipped corpus is not complete.
    """
    path = root / "manifest.jsonl"
    if not path.is_file():
        raise DataError(f"{path}: there is no such file. The corpus 'home' comes with the package, in {FOLDER}.")
    rows = read_manifest(path)
    missing = [f"{row.id}: {row.audio}" for row in rows if row.audio is not None and not row.audio.is_file()]
    if missing:
        raise DataError(f"{path}: {len(missing)} recordings are named and not there.", missing)
    if root.resolve() == FOLDER.resolve():
        _check_counts(path, rows)
    for row in rows:
        if row.split == split:
            yield row if row.audio is None else replace(row, source="recorded")


def _check_counts(path: Path, rows: list[Utterance]) -> None:
    for split, number in NUM_SENTENCES.items():
        found = [row for row in rows if row.split == split]
        spoken = sum(row.audio is not None for row in found)
        if (len(found), spoken) != (number, NUM_SPOKEN[split]):
            raise DataError(
                f"{path}: holds {len(found)} {split} sentences, {spoken} of them spoken; "
                f"{number} and {NUM_SPOKEN[split]} came with the package. Install it again."
            )


def make_tiny(root: Path, seed: int) -> None:
    """One sentence of every intent for training, a third of them spoken (noise), and four spoken for the test."""
    rng = np.random.default_rng(seed)
    (root / "audio").mkdir(parents=True, exist_ok=True)
    rows = []
    for index, (text, frame) in enumerate(sentences(2, seed)[:19]):
        is_test = index >= 15
        name, audio = f"home-{index:03d}", None
        if is_test or index % 3 == 0:
            audio = root / "audio" / f"{name}.ogg"
            soundfile.write(audio, 0.1 * rng.standard_normal(8000), 16_000)
        rows.append(
            Utterance(
                name,
                text,
                audio,
                frame,
                speaker=None if audio is None else f"{'test' if is_test else 'train'}-voice",
                duration_s=None if audio is None else 0.5,
                split="test" if is_test else "train",
                source="text" if audio is None else "synthetic",
            )
        )
    write_manifest(root / "manifest.jsonl", rows)
