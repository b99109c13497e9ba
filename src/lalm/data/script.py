"""The recording script: what to read aloud, in which order, what to be careful with, and why; as CSV, JSON lines or Markdown."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lalm.errors import UserError, nearest
from lalm.records import Utterance
from lalm.rundir import atomic, write_jsonl

_COLUMNS = ("number", "id", "text", "language", "intent", "slots", "hints", "estimate_s", "reason")


@dataclass(frozen=True)
class Line:
    """A sentence to be read aloud: its row, the seconds that it will take, and why it is there."""

    number: int
    row: Utterance
    estimate_s: float
    reason: str

    @property
    def hints(self) -> list[str]:
        """The slot values, which must be heard clearly: `size: large`."""
        return [f"{slot.type}: {slot.value}" for slot in self.row.frame.slots]


def check_out(out: Path) -> None:
    """Raises UserError for a file that is there already, or an extension that is none of a script's."""
    if out.suffix.lower() not in _WRITERS:
        raise UserError(
            f"--out {out}: the extension '{out.suffix}' is none of a script's.{nearest(out.suffix, _WRITERS)}"
        )
    if out.exists():
        raise UserError(f"--out {out} exists already and is not overwritten.")


def write_script(out: Path, lines: Sequence[Line], title: str) -> None:
    """Write the script in the form that the extension names."""
    _WRITERS[out.suffix.lower()](out, lines, title)


def _csv(out: Path, lines: Sequence[Line], title: str) -> None:
    with atomic(out) as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(_COLUMNS)
        for line in lines:
            row, frame = line.row, line.row.frame
            slots = json.dumps(frame.to_json()["slots"], ensure_ascii=False) if frame.slots else ""
            hints = "; ".join(line.hints)
            words = (
                line.number,
                row.id,
                row.text,
                row.language,
                frame.intent,
                slots,
                hints,
                line.estimate_s,
                line.reason,
            )
            table.writerow(words)


def _jsonl(out: Path, lines: Sequence[Line], title: str) -> None:
    """Rows of a manifest, too: what a script adds are fields that manifests do not know, and keep."""
    write_jsonl(
        out,
        (
            {
                "number": line.number,
                "id": line.row.id,
                "text": line.row.text,
                "language": line.row.language,
                **line.row.frame.to_json(),
                "hints": line.hints,
                "estimate_s": line.estimate_s,
                "reason": line.reason,
            }
            for line in lines
        ),
    )


def _md(out: Path, lines: Sequence[Line], title: str) -> None:
    """A page to read from."""
    rows = [["", "read aloud", "be careful with", "language", "intent", "id", "why"]]
    for line in lines:
        row = line.row
        careful = "; ".join(line.hints)
        rows.append([str(line.number), f"**{_plain(row.text or '')}**", *map(
            _plain, (careful, row.language, row.frame.intent or "", row.id, line.reason)
        )])  # fmt: skip
    rows.insert(1, ["---"] * len(rows[0]))
    with atomic(out) as stream:
        stream.write(f"# Recording script\n\n{title}\n\n")
        stream.writelines(f"| {' | '.join(cells)} |\n" for cells in rows)


def _plain(text: str) -> str:
    """Text in which Markdown sees nothing to mark, on one line."""
    return " ".join("".join(f"\\{letter}" if letter in "\\|*_`<>[]" else letter for letter in text).split())


_WRITERS: dict[str, Callable[[Path, Sequence[Line], str], None]] = {".csv": _csv, ".jsonl": _jsonl, ".md": _md}
