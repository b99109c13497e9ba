"""`lalm data export`: the rows of a manifest, of a recipe or of predictions in the files of another tool, streaming."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from lalm import plugins
from lalm.config import override
from lalm.data import audio
from lalm.data.manifest import json_lines, stream_manifest
from lalm.data.predictions import stream_predictions
from lalm.data.sources import RECIPES, corpus_of, corpus_rows, manifests, recipe_data
from lalm.errors import DataError, UserError, many
from lalm.records import Frame, Source, Utterance


def export_rows(
    name: str,
    source: Path,
    out: Path,
    assignments: Sequence[str] = (),
    split: str | None = None,
    allow_outside: bool = False,
) -> str:
    """Write the rows of `source` to `out` in the format `name`; what was done.

    `assignments` are the format's options (`key=value`). Raises UserError if `out` is there already, and DataError with
    every row that is wrong or that the format cannot hold; nothing is left at `out` then.
    """
    module = plugins.load("formats", name)
    cfg = plugins.configure(module, override({}, assignments), name)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"--out {out} exists already and is not overwritten.")
    rows = read_rows(source, allow_outside)
    chosen = (row for row in rows if split is None or (row.split or "train") == split)
    number = module.write((_one_input(row, name) for row in chosen), Path(os.path.abspath(out)), cfg)
    if not number:
        _remove(out)
        raise DataError(
            f"{source}: holds no rows{f' of the split {split!r}' if split else ''}, so there is nothing to write."
        )
    return f"Wrote {many(number, 'row')} of {source} to {out}."


def _one_input(row: Utterance, name: str) -> Utterance:
    """The row with the whole path of its recording.

    Raises DataError for a dialogue, which the formats have no place for, and for a file that is no audio: some formats copy it.
    """
    if row.turns:
        raise DataError(f"row '{row.id}' has turns, and the format {name} has one sentence or recording a row.")
    if row.audio is not None and audio.is_file(row.audio):
        audio.info(row.audio)
    return row if row.audio is None else replace(row, audio=Path(os.path.abspath(row.audio)))


def _remove(out: Path) -> None:
    if out.is_dir():
        shutil.rmtree(out)
    else:
        out.unlink(missing_ok=True)


def read_rows(source: Path, allow_outside: bool = False) -> Iterator[Utterance]:
    """All rows of a manifest, a folder of manifests, a recipe's corpus, or a predictions file (what was answered).

    DataError for rows that are wrong comes after the last good one.
    """
    if source.suffix.lower() in RECIPES:
        data = recipe_data(source)
        yield from corpus_rows(corpus_of(data)[0], data.root, corpus_of(data)[1])
    elif not source.is_dir() and _holds_predictions(source):
        yield from _predictions(source)
    else:
        for path, split in manifests(source):
            for row in stream_manifest(path, allow_outside):
                yield row if split is None else replace(row, split=split)


def _holds_predictions(path: Path) -> bool:
    """Whether the first line of a file is an answered item."""
    _, first = next(json_lines(path, []), (0, None))
    return isinstance(first, dict) and "prediction" in first and "gold" in first


def _predictions(path: Path) -> Iterator[Utterance]:
    """What was answered as rows: text is what was heard (else what was said); no answer is an empty frame."""
    for row in stream_predictions(path):
        frame = Frame(None) if row["prediction"] is None else Frame.from_json(row["prediction"])
        recording = path.parent / row["audio"] if row.get("audio") else None
        source: Source = "recorded" if recording else "text"
        words = row.get("heard") or row.get("text")
        yield Utterance(row["id"], words, recording, frame, source=source, meta={"prediction": True})
