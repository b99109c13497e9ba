"""`lalm init`: a manifest and a recipe from the files that a user has, and a page that says what was understood."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from lalm.data import audio
from lalm.data.init_words import describe
from lalm.data.labelled import LabelledFile, LabelledRow, read_labelled
from lalm.data.manifest import row_to_json
from lalm.data.matching import Matches, match
from lalm.data.splitting import choose_test
from lalm.errors import DataError, UserError, many
from lalm.records import Utterance
from lalm.rundir import write_jsonl, write_text

RECIPE = """\
# Written by `lalm init`. `lalm check` says what this recipe does; `lalm ls --options` lists what plug-ins can be told.
data:
  corpus: jsonl
  root: manifest.jsonl
{outside}{budget}backbone: smol        # the embedded model; runs on a laptop's CPU
tuner: lora
scheme: {scheme}
evaluate:
  metrics: [{metrics}]
"""
BUDGET = """\
  speech_share: 1.0   # share of the pool of recordings that is used; or speech_items, speech_minutes
  budget_seed: 0      # another draw of recordings where the share is below 1
"""
OUTSIDE = """\
  # The recordings lie outside this folder and are read where they are; without this line such a path is refused,
  # so that a manifest from elsewhere cannot name any file of this machine.
  allow_outside_paths: true
"""


def init_project(text: Path, audio_folder: Path | None, out: Path) -> str:
    """Write `manifest.jsonl` and `recipe.yaml` into `out`; what was understood, for a person to read.

    `text` holds labelled sentences (CSV, TSV or JSON lines), `audio_folder` recordings of some of them. Raises
    UserError if `out` holds either file already, and DataError if the files cannot be read or say too little.
    """
    manifest, recipe = out / "manifest.jsonl", out / "recipe.yaml"
    for path in (manifest, recipe):
        if path.exists():
            raise UserError(
                f"{path} exists already and is not overwritten. Choose another folder with --out, or remove it."
            )
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; a folder is needed.")
    if audio_folder is not None and not audio_folder.is_dir():
        raise DataError(f"--audio {audio_folder}: there is no such folder.")
    sentences = read_labelled(text)
    _check_columns(sentences)
    matches = match(sentences, audio_folder)
    rows, unreadable = _utterances(sentences, matches, audio_folder)
    rows = _split(rows)
    _check_rows(rows, matches, unreadable, text, audio_folder)
    rows, one_speaker = _of_one_speaker(rows)
    outside = any(row.audio is not None and not _is_below(row.audio, out) for row in rows)
    page = describe(sentences, matches, rows, unreadable, audio_folder, one_speaker, outside, out)
    write_jsonl(manifest, (row_to_json(row, out) | _audio_of(row, out) for row in rows))
    try:
        write_text(recipe, _recipe(rows, outside))
    except UserError:
        manifest.unlink(missing_ok=True)  # a manifest alone would stop the next try
        raise
    return page


def _check_columns(sentences: LabelledFile) -> None:
    columns = sentences.columns
    found = ", ".join([*columns.of.values(), *columns.slot_types, *columns.left_over]) or "(none)"
    if not sentences.rows:
        raise DataError(f"{sentences.path}: holds no rows.")
    if not {"text", "audio"} & set(columns.of):
        raise DataError(f"{sentences.path}: no column looks like sentences. Call it 'text'. Columns: {found}.")
    if not columns.labelled:
        raise DataError(
            f"{sentences.path}: no column looks like labels. Call the column of intents 'intent', that of slots 'slots' (as "
            f"JSON), or a column for each slot type 'slot:TYPE'. Columns: {found}."
        )


def _utterances(sentences: LabelledFile, matches: Matches, folder: Path | None) -> tuple[list[Utterance], list[str]]:
    """Rows of the manifest, and the recordings that cannot be read, with the reason."""
    unreadable: list[str] = []
    seconds: dict[Path, float] = {}
    for path in matches.labelled:
        try:
            seconds[path] = round(audio.info(path).duration_s, 3)
        except DataError as error:
            unreadable.append(str(error))
    rows = []
    for row in sentences.rows:
        own = matches.by_line.get(row.line)
        recording = own if own in seconds else None
        if row.text is not None or recording is not None:
            row = replace(row, speaker=row.speaker or (matches.labelled[own].speaker if own else None))
            rows.append(_utterance(row, row.id or f"{sentences.path.stem}-{row.line}", recording, seconds))
    used = {row.id for row in rows}
    for path, row in matches.labelled.items():
        if path in seconds and path not in matches.by_line.values():
            start = folder if folder is not None and path.is_relative_to(folder) else path.parent
            name = path.relative_to(start).with_suffix("").as_posix()
            while name in used:
                name += "-recording"
            used.add(name)
            rows.append(_utterance(row, name, path, seconds))
    return rows, unreadable


def _utterance(row: LabelledRow, name: str, path: Path | None, seconds: dict[Path, float]) -> Utterance:
    return Utterance(
        id=name,
        text=row.text,
        audio=path,
        frame=row.frame,
        language=row.language or "en",
        speaker=row.speaker,
        duration_s=seconds[path] if path is not None else None,
        split=row.split,
        source="recorded" if path is not None else "text",
        meta=row.meta,
    )


def _split(rows: Sequence[Utterance]) -> list[Utterance]:
    """The split of the files, or a drawn one for the recordings if the files give none to any of them."""
    recorded = [row for row in rows if row.audio is not None]
    given = any(row.split is not None for row in recorded)
    test = set() if given else choose_test(recorded)
    return [replace(row, split=row.split or ("test" if row.id in test else "train")) for row in rows]


def _of_one_speaker(rows: Sequence[Utterance]) -> tuple[list[Utterance], str | None]:
    """With one speaker in all, pool and test cannot be kept apart: the name moves to `meta`; that speaker."""
    by_split = {
        split: {r.speaker for r in rows if r.audio and r.speaker and (r.split == "test") == split}
        for split in (False, True)
    }
    both = by_split[False] & by_split[True]
    if not both:
        return list(rows), None
    if len(by_split[False] | by_split[True]) > 1:
        raise DataError(
            f"The split column puts {many(len(both), 'speaker')} into training and test, so the test would not say how new "
            "voices are understood.",
            [f"speaker '{name}'" for name in sorted(str(one) for one in both)],
        )
    moved = [replace(r, speaker=None, meta={**r.meta, "speaker": r.speaker}) if r.speaker else r for r in rows]
    return moved, str(both.pop())


def _check_rows(
    rows: Sequence[Utterance], matches: Matches, unreadable: Sequence[str], text: Path, folder: Path | None
) -> None:
    training = [row for row in rows if row.split == "train"]
    if not training:
        raise DataError(f"{text}: holds no training rows.")
    unlabelled = [row.id for row in rows if row.frame.intent is None and not row.frame.slots]
    if len(unlabelled) == len(rows):
        raise DataError(f"{text}: not one of the {len(rows)} rows has an intent or slots.")
    if folder is not None and not any(row.audio for row in rows):
        tried = [*[f"{path}: no row names it" for path in matches.unlabelled], *matches.not_there, *unreadable]
        num_files = len(matches.unlabelled) + len(matches.labelled)
        raise DataError(
            f"--audio {folder}: none of its {num_files} recordings can be used. A recording is found by a column of file "
            f"names in {text.name}, by a file in the folder that lists file names with labels or sentences, or by a name that "
            "is a row's id.",
            tried,
        )


def _is_below(path: Path, out: Path) -> bool:
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(out))


def _audio_of(row: Utterance, out: Path) -> dict[str, str]:
    """Audio paths are relative to the manifest, so that a folder that holds both can be moved."""
    return {} if row.audio is None else {"audio": Path(os.path.relpath(row.audio, out)).as_posix()}


def _recipe(rows: Iterable[Utterance], outside: bool) -> str:
    rows = list(rows)
    has_pool = any(row.audio is not None and row.split == "train" for row in rows)
    has_text = any(row.text is not None and row.split == "train" for row in rows)
    has_slots = any(row.frame.slots for row in rows)
    metrics = ["intent_accuracy", *(["entity_f1", "slu_f1"] if has_slots else []), "exact_match"]
    return RECIPE.format(
        outside=OUTSIDE if outside else "",
        budget=BUDGET if has_pool else "",
        scheme="text_only" if not has_pool else "curriculum" if has_text else "speech_only",
        metrics=", ".join(metrics),
    )
