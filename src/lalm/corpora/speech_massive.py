"""Speech-MASSIVE: MASSIVE's commands read aloud in 12 languages; full training speech in French and German, 115 rows else.

Lee et al. 2024 (arXiv 2408.03900), CC BY-NC-SA 4.0 (non-commercial). Layout: a folder a language (`fr-FR`) with
`train.jsonl`, `train_115.jsonl`, `validation.jsonl`, `test.jsonl` (the Hub's columns without `audio`) and the WAV files that
`path` names. The Hub's Parquet files have the sound inside: `lalm data import hf` makes a manifest of them (docs/data.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile
from pydantic import Field

from lalm.corpora import massive
from lalm.corpora._complete import CHECK_COUNTS, check_count, lines_of, text_of
from lalm.data.manifest import resolve
from lalm.data.recordings import with_durations
from lalm.errors import DataError, nearest
from lalm.languages import Locale
from lalm.plugins import PluginConfig
from lalm.records import Utterance
from lalm.rundir import write_jsonl

LICENCE = "CC-BY-NC-SA-4.0 (non-commercial)"
NUM_ROWS = {"train": 11514, "train_115": 115, "validation": 2033, "test": 2974}  # of every language that has the split
LOCALES = (
    "ar-SA", "de-DE", "es-ES", "fr-FR", "hu-HU", "ko-KR", "nl-NL", "pl-PL", "pt-PT", "ru-RU", "tr-TR", "vi-VN",
)  # fmt: skip
SPOKEN_WHOLE = ("fr-FR", "de-DE")  # whose training sentences were all read aloud


class Config(PluginConfig):
    """Options of the corpus."""

    locale: Locale = Field("fr-FR", description="language and country, as the folder is called")
    train: Literal["train", "train_115"] = Field(
        "train_115", description="training recordings: all (fr-FR, de-DE), or the 115 of every language"
    )
    massive: str | None = Field(
        None,
        description="MASSIVE's file of the language, within the corpus: training text (none: the transcripts alone)",
    )
    check_counts: bool = Field(True, description=CHECK_COUNTS)


def read(root: Path, split: str, cfg: Config) -> Iterator[Utterance]:
    """The recordings of a split, and MASSIVE's training sentences with those of `train`.

    Raises DataError for missing files, bad rows and recordings (all listed), and files that are not complete.
    """
    folder = root / cfg.locale if (root / cfg.locale).is_dir() else root
    name = {"train": cfg.train, "dev": "validation", "test": "test"}[split]
    path = folder / f"{name}.jsonl"
    if not path.is_file() and split != "train" and folder.is_dir() and any(folder.glob("train*.jsonl")):
        return  # the test set is a download of its own
    if not path.is_file() and any(folder.glob(f"{name}-*.parquet")):
        raise DataError(
            f"{folder}: holds Parquet files with the recordings inside. Make a manifest of them: lalm data import hf {folder} "
            "text_column=utt intent_column=intent_str annotated_column=annot_utt --out DIR"
        )
    if not path.is_file():
        _say_what_there_is(path, cfg)
    rows = list(lines_of(path, lambda value: [_spoken(value, folder, split)]))
    check_count(path, len(rows), NUM_ROWS[name], cfg.check_counts)
    if split == "train" and cfg.massive is not None:
        text, problem = resolve(root, cfg.massive, allow_outside=False)
        if problem:
            raise DataError(f"data.corpus.massive: {problem}")
        options = massive.Config(locale=cfg.locale, check_counts=cfg.check_counts)
        yield from massive.read(text, "train", options)
    yield from with_durations(rows, path)


def _say_what_there_is(path: Path, cfg: Config) -> None:
    """Raises DataError for a file that the corpus does not have."""
    if cfg.locale not in LOCALES:
        raise DataError(f"{path}: there is no such file.{nearest(cfg.locale, LOCALES)}")
    if cfg.train == "train" and path.stem == "train" and cfg.locale not in SPOKEN_WHOLE:
        raise DataError(
            f"{path}: there is no such file. All training sentences were read aloud in {' and '.join(SPOKEN_WHOLE)} alone; "
            f"of {cfg.locale} there are 115: train: train_115."
        )


def _spoken(value: dict[str, Any], folder: Path, split: Any) -> Utterance:
    """A recording: its id is that of its file, since sentences of `train_115` are MASSIVE's too."""
    written = massive.sentence(
        {
            **value,
            "intent": value["intent_str"],
            "scenario": value["scenario_str"],
            "partition": {"validation": "dev"}.get(value["partition"], value["partition"]),
        }
    )
    name = text_of(value, "path")
    audio, problem = resolve(folder, name, allow_outside=False)
    if problem:
        raise DataError(f"field 'path': {problem}")
    speaker = value.get("speaker_id")
    kept: dict[str, Any] = {key: value[key] for key in ("speaker_sex", "speaker_age", "is_validated") if key in value}
    return Utterance(
        Path(name).stem,
        written.text,
        audio,
        written.frame,
        written.language,
        speaker if isinstance(speaker, str) else None,
        split=split,
        source="recorded",
        meta={**written.meta, **kept},
    )


def make_tiny(root: Path, seed: int) -> None:
    """Four recordings of noise a split in French, speakers apart, and MASSIVE's file beside them."""
    rng = np.random.default_rng(seed)
    sentences = [
        row for index, split in enumerate(massive.NUM_ROWS) for row in massive.tiny_rows("fr-FR", split, 10 * index)
    ]
    write_jsonl(root / "massive" / "fr-FR.jsonl", sentences)
    for name, partition in (("train_115", "train"), ("validation", "dev"), ("test", "test")):
        rows = []
        for row in (one for one in sentences if one["partition"] == partition):
            path = f"{name}/{int(row['id']):032x}.wav"
            (root / "fr-FR" / name).mkdir(parents=True, exist_ok=True)
            soundfile.write(root / "fr-FR" / path, 0.1 * rng.standard_normal(8000), 16_000)
            rows.append(
                {
                    **{key: value for key, value in row.items() if key not in ("intent", "scenario")},
                    "scenario_str": row["scenario"],
                    "intent_str": row["intent"],
                    "tokens": row["utt"].split(),
                    "path": path,
                    "is_transcript_reported": False,
                    "is_validated": True,
                    "speaker_id": f"speaker-{name}-{int(row['id']) % 2}",
                    "speaker_sex": "Female",
                    "speaker_age": "25",
                }
            )
        write_jsonl(root / "fr-FR" / f"{name}.jsonl", rows)
