"""Builds the report of a study folder or of run folders, from what is in them and nothing else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from lalm.errors import UserError
from lalm.report.both_ways import grammar_table
from lalm.report.dialogues import runs_dialogues, study_dialogues
from lalm.report.folder import is_study, load_study
from lalm.report.gap import runs_gap, study_gap
from lalm.report.languages import language_comparison_table, language_table
from lalm.report.more import gain_table, more_speech
from lalm.report.of_tasks import runs_tasks, study_tasks
from lalm.report.pages import run_page, study_page
from lalm.report.robustness import noise_table, runs_under_noise, study_under_noise
from lalm.report.runs import RunFolder, load_runs, run_tables
from lalm.report.standings import Standings
from lalm.report.tables import comparison_table, free_comparison_table, latex, markdown, study_tables
from lalm.rundir import check_target, write_text

Format = Literal["html", "markdown", "latex"]
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")  # models write such things, too
_ENDINGS = {"html": "html", "markdown": "md", "latex": "tex"}


def build_report(folders: Sequence[Path], out: Path | None = None, fmt: Format = "html") -> Path:
    """Write the report of one study, or of one or several runs; the file written.

    The file is `report.html` (`.md`, `.tex`) in the first folder unless `out` names another. Markdown and LaTeX hold the
    tables alone. Raises UserError for folders that are missing, damaged, unfinished, or of both kinds.
    """
    studies = [folder for folder in folders if _checked(folder) and is_study(folder)]
    if studies and len(folders) > 1:
        raise UserError(
            f"{studies[0]} is a study folder, and a report is of one study or of several runs. "
            "Its runs can be compared by naming them: lalm report STUDY/runs/A STUDY/runs/B"
        )
    path = out or folders[0] / f"report.{_ENDINGS[fmt]}"
    if path.is_dir():
        raise UserError(f"--out: {path} is a folder; name a file.")
    check_target(path, (".html", ".htm", ".md", ".tex", ".txt"))
    text = _study(studies[0], path, fmt) if studies else _runs(load_runs(folders), path, fmt)
    write_text(path, _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text))
    return path


def _checked(folder: Path) -> bool:
    if not folder.exists():
        raise UserError(f"{folder}: there is no such folder.")
    if not folder.is_dir():
        raise UserError(f"{folder} is a file; a report is made from the folder of a study or of a run.")
    return True


def _study(root: Path, path: Path, fmt: Format) -> str:
    study = load_study(root)
    if fmt == "html":
        return study_page(study, path)
    standings = Standings(study)
    noise, gap = study_under_noise(study), study_gap(study)
    more = [
        comparison_table(study),
        grammar_table(study),
        free_comparison_table(study),
        gain_table(standings, more_speech(standings)),
        noise_table(noise) if noise is not None else None,
        gap.table if gap is not None else None,
        study_tasks(study),
        *study_dialogues(study),
        language_table(study),
        language_comparison_table(study),
    ]
    tables = [*study_tables(study), *(table for table in more if table is not None)]
    return markdown(tables) if fmt == "markdown" else latex(tables)


def _runs(runs: Sequence[RunFolder], path: Path, fmt: Format) -> str:
    if fmt == "html":
        return run_page(runs, path)
    gap = runs_gap(runs)
    tables = [*run_tables(runs), *map(noise_table, runs_under_noise(runs)), *([gap.table] if gap is not None else [])]
    tables += [*([tasks] if (tasks := runs_tasks(runs)) is not None else []), *runs_dialogues(runs)]
    return markdown(tables) if fmt == "markdown" else latex(tables)
