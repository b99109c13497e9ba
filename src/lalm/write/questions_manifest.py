"""`lalm data questions` as a command: rows in, the model loaded, rows with questions out, and what became of the drafts."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from lalm.data.manifest import write_manifest
from lalm.errors import ConfigError, DataError, UserError, many
from lalm.records import Utterance
from lalm.write.local_model import LocalModel
from lalm.write.questions import KEPT, with_questions


def write_questions(rows: Sequence[Utterance], out: Path, model: str, num_per_row: int, seed: int) -> str:
    """Write `rows` with questions by `model` to the manifest `out`; what was done, for a person.

    Raises ConfigError for numbers out of range, UserError for a file that is there, DataError where no training row has a
    passage in words, ModelError for a model that cannot be used; nothing is written then.
    """
    if num_per_row < 1:
        raise ConfigError(f"--per-row {num_per_row}: a number from 1 is needed.")
    if out.exists():
        raise UserError(f"{out} is there already and is not overwritten. Name another file with --out.")
    if not any(row.split in (None, "train") and any(turn.role == "narrator" for turn in row.turns) for row in rows):
        raise DataError("No training row has a turn of the narrator, so there is no passage to ask about.")
    writer = LocalModel(model)
    made_by = f"{model} ({writer.licence})"
    found, fates = with_questions(rows, writer, num_per_row, seed, made_by)
    write_manifest(Path(os.path.abspath(out)), found)
    return said(fates, len(found), made_by, out)


def said(fates: Counter[str], num_rows: int, made_by: str, out: Path) -> str:
    """How many drafts were kept and why the others fell."""
    total = sum(fates.values())
    lines = [f"{many(total, 'draft')} by {made_by}: {fates[KEPT]} kept."]
    lines += [f"  left out: {number} {reason}" for reason, number in fates.most_common() if reason != KEPT]
    use = (
        "The task generated_questions makes examples of them: "
        "scheme: {name: multitask, tasks: {generated_questions: 0.5}}."
        if fates[KEPT]
        else "None has a question: take a larger model, or try more (--per-row)."
    )
    lines.append(f"Wrote {out}, {many(num_rows, 'row')}. {use}")
    return "\n".join(lines)
