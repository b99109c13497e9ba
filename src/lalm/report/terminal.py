"""The table of a study for a terminal: columns aligned, nothing but text."""

from __future__ import annotations

from pathlib import Path

from lalm.report.ablations import task_gains
from lalm.report.folder import load_study
from lalm.report.selectors import against_random
from lalm.report.standings import Standings
from lalm.report.tables import Entry, study_tables


def standings_text(root: Path) -> str:
    """The primary metric of a study by scheme and share, the best of each column starred; which selectors beat random, what
    several tasks gain.

    Raises UserError for a folder that is no finished study.
    """
    study = load_study(root)
    table = study_tables(study)[0]
    rows = [
        [_plain(entry) for entry in row] for row in (table.header, *(r for group in table.groups for r in group.rows))
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.header))]
    lines = [
        "  ".join(
            field.ljust(width) if number == 0 else field.rjust(width)
            for number, (field, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    starred = any(entry.best for group in table.groups for row in group.rows for entry in row)
    note = " (* the best with that many recordings)" if starred else ""
    standings = Standings(study)
    said = [*against_random(standings), *task_gains(standings)]
    return "\n".join([f"{table.caption}{note}", *(line.rstrip() for line in lines), *said])


def _plain(entry: Entry) -> str:
    detail = f" ({entry.detail})" if entry.detail else ""
    return f"{'*' if entry.best else ''}{entry.text}{detail}"
