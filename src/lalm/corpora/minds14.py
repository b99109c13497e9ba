"""MInDS-14: 8,168 recorded questions to a bank in 14 languages, with transcripts and 14 intents (no slots).

Gerz et al. 2021 (arXiv 2104.08524), CC BY 4.0. Layout of the archive: `text/LANGUAGE.csv` (file, transcript, English
transcript, intent) and `audio/LANGUAGE~INTENT/*.wav` at 8 kHz. There are no splits and no names of speakers: the test set is a
seeded draw with every intent in its share.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
from pydantic import Field, PositiveInt

from lalm.corpora._complete import CHECK_COUNTS, check_count, first_folder
from lalm.data.budget import balanced_order
from lalm.data.manifest import resolve
from lalm.data.problems import Problems
from lalm.data.recordings import with_durations
from lalm.data.table import decode
from lalm.errors import DataError, nearest
from lalm.languages import Locale, base
from lalm.plugins import PluginConfig
from lalm.records import Frame, Utterance
from lalm.rundir import write_text

LICENCE = "CC-BY-4.0"
NUM_ROWS = {
    "cs-CZ": 574, "de-DE": 611, "en-AU": 654, "en-GB": 592, "en-US": 563, "es-ES": 486, "fr-FR": 539, "it-IT": 696,
    "ko-KR": 592, "nl-NL": 654, "pl-PL": 562, "pt-PT": 604, "ru-RU": 539, "zh-CN": 502,
}  # fmt: skip


class Config(PluginConfig):
    """Options of the corpus."""

    language: Locale = Field("en-US", description="language and country, as the files are called")
    test_size: PositiveInt = Field(200, description="recordings of the test set; the others are the pool")
    split_seed: int = Field(0, description="seed of the split of the recordings")
    check_counts: bool = Field(True, description=CHECK_COUNTS)


def read(root: Path, split: str, cfg: Config) -> Iterator[Utterance]:
    """The pool (`train`), nothing (`dev`), the test recordings (`test`).

    Raises DataError for missing files, bad rows and recordings (all listed), files that are not complete, and a test set that
    leaves no pool.
    """
    if split == "dev":
        return
    folder = first_folder(root, "MInDS-14")
    path = folder / "text" / f"{cfg.language}.csv"
    if not path.is_file():
        raise DataError(f"{path}: there is no such file.{nearest(cfg.language, NUM_ROWS)}")
    rows = _rows(path, folder, cfg)
    if cfg.language in NUM_ROWS:
        check_count(path, len(rows), NUM_ROWS[cfg.language], cfg.check_counts)
    if len(rows) <= cfg.test_size:
        raise DataError(f"data.corpus.test_size: {cfg.test_size} of {len(rows)} recordings leave no pool to train on.")
    test = {row.id for row in balanced_order(rows, cfg.split_seed)[: cfg.test_size]}
    chosen = [row for row in rows if (row.id in test) == (split == "test")]
    yield from with_durations(chosen, path)


def _rows(path: Path, folder: Path, cfg: Config) -> list[Utterance]:
    """All rows of a language; the first line names columns and is passed over, as its names are not always the same."""
    problems = Problems()
    rows = []
    reader = csv.reader(io.StringIO(decode(path), newline=""), skipinitialspace=True)
    try:
        for number, cells in enumerate(reader):
            if number == 0 or not any(cells):
                continue
            if len(cells) != 4 or not cells[0] or not cells[3]:
                problems.append(
                    f"{path}, line {reader.line_num}: has {cells!r:.80}; file, two transcripts and intent are needed."
                )
                continue
            audio, problem = resolve(folder / "audio", cells[0], allow_outside=False)
            if problem:
                problems.append(f"{path}, line {reader.line_num}: {problem}")
                continue
            name = Path(cells[0]).with_suffix("").as_posix()
            words, english = cells[1].strip() or None, cells[2].strip()
            meta = {"english": english} if english else {}
            frame = Frame(cells[3].strip().lower())
            language = base(cfg.language)
            rows.append(Utterance(name, words, audio, frame, language, source="recorded", meta=meta))
    except csv.Error as error:
        problems.append(f"{path}, line {reader.line_num}: cannot be split into values ({error}).")
    problems.check(path)
    return rows


def make_tiny(root: Path, seed: int) -> None:
    """Six recordings of noise of three intents."""
    rng = np.random.default_rng(seed)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["filepath", "text_asr", "text_translated", "intent"])
    for index in range(6):
        intent, words = (
            ("ABROAD", "can I use my card, abroad"),
            ("FREEZE", "please freeze my card"),
            ("BALANCE", "how much is left"),
        )[index % 3]
        path = f"en-US~{intent}/{index:024x}.wav"
        (root / "audio" / path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / "audio" / path, 0.1 * rng.standard_normal(4000), 8_000)
        writer.writerow([path, words, words, intent])
    write_text(root / "text" / "en-US.csv", text.getvalue())
