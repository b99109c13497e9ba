"""Free Spoken Digit Dataset: real recordings of the ten digits by several speakers; the digit is the intent.

Layout: `{digit}_{speaker}_{index}.wav` at 8 kHz. Licence CC BY-SA 4.0. Speakers are kept apart: those of the test set are
never heard in training. Text rows are the digit's name and short phrases with it, written here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
from pydantic import Field, PositiveInt

from lalm.data.recordings import with_durations
from lalm.errors import DataError, many, nearest
from lalm.plugins import PluginConfig
from lalm.records import Frame, Utterance

LICENCE = "CC-BY-SA-4.0"
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PHRASES = ("{}", "the digit {}", "number {}", "{} please", "that is a {}", "dial {}")
_NAME = re.compile(r"(\d)_([A-Za-z][A-Za-z0-9]*)_(\d+)\.wav")


class Config(PluginConfig):
    """Options of the corpus."""

    test_speakers: tuple[str, ...] = Field(
        ("lucas", "nicolas"), description="speakers of the test set, never heard in training"
    )
    pool_size: PositiveInt | None = Field(
        200, description="recordings in the training pool, evenly over digits (none: all)"
    )
    test_size: PositiveInt | None = Field(200, description="recordings in the test set, evenly over digits (none: all)")


def read(root: Path, split: str, cfg: Config) -> Iterator[Utterance]:
    """Phrases and pool recordings (`train`), nothing (`dev`), recordings of the test speakers (`test`).

    Raises DataError if there are no recordings, they cannot be read, or a test speaker is not among the speakers.
    """
    if not root.is_dir():
        raise DataError(f"{root}: is not a folder; this corpus is a folder of recordings.")
    folder = root / "audio" if (root / "audio").is_dir() else root
    files = sorted((path, match) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name)))
    files.sort(key=lambda item: (int(item[1][3]), item[0].name))
    speakers = {match[2] for _, match in files}
    if not files:
        raise DataError(f"{root}: holds no recordings named like 7_jackson_32.wav.")
    others = sorted(
        path.name for path in folder.iterdir() if path.suffix.lower() == ".wav" and not _NAME.fullmatch(path.name)
    )
    if others:
        raise DataError(f"{folder}: {many(len(others), 'recording')} not named like 7_jackson_32.wav.", others)
    for name in cfg.test_speakers:
        if name not in speakers:
            raise DataError(f"data.corpus.test_speakers: '{name}' has no recordings.{nearest(name, speakers)}")
    if split == "train":
        for words, digit in ((phrase.format(digit), digit) for phrase in PHRASES for digit in DIGITS):
            yield Utterance(f"text: {words}", text=words, frame=Frame(digit), split="train")
    if split == "dev":
        return
    is_test = split == "test"
    use: Literal["train", "test"] = "test" if is_test else "train"
    chosen = [item for item in files if (item[1][2] in cfg.test_speakers) == is_test]
    size = cfg.test_size if is_test else cfg.pool_size
    rows = []
    for path, match in chosen[:size]:
        digit = DIGITS[int(match[1])]
        rows.append(Utterance(path.stem, digit, path, Frame(digit), speaker=match[2], split=use, source="recorded"))
    yield from with_durations(rows, root)


def make_tiny(root: Path, seed: int) -> None:
    """Two recordings of noise for each of three digits and three speakers."""
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    for digit in (0, 3, 7):
        for speaker in ("jackson", "lucas", "nicolas"):
            for index in range(2):
                samples = 0.1 * rng.standard_normal(4000)
                soundfile.write(root / f"{digit}_{speaker}_{index}.wav", samples, 8_000)
