"""What `lalm data validate` found, as a table for a terminal."""

from __future__ import annotations

from lalm.data.findings import CHECKS, KEPT, Findings, Problem
from lalm.errors import many

SHOWN = 10  # problems of a check that the table lists


def as_text(found: Findings) -> str:
    """The splits, the checks that found something with their numbers, and the first problems of each."""
    lines = [found.source, *_table(_splits(found))]
    if found.sample_rates:
        rates = ", ".join(f"{rate:,} Hz ({number:,})" for rate, number in found.sample_rates.most_common())
        lines.append(f"Sample rates: {rates}.")
    lines.append("")
    if not found.found:
        return "\n".join([*lines, "No problems were found." + _undecoded(found)])
    lines += _table([["", "problem", "number"], *(_check(found, check) for check in found.found)])
    for check in found.found:
        problems = found.problems[check]
        lines += ["", f"{CHECKS[check][0]}: {CHECKS[check][1]}"]
        lines += _problems(problems[:SHOWN])
        left = found.counts[check] - min(SHOWN, len(problems))
        if left:
            lines.append(f"  and {left:,} more; --json lists {'all' if found.counts[check] <= KEPT else f'{KEPT:,}'}")
    errors, warnings = found.number("error"), found.number("warning")
    lines += ["", f"{many(errors, 'error')}, {many(warnings, 'warning')}.{_undecoded(found)}"]
    return "\n".join(lines)


def _undecoded(found: Findings) -> str:
    some = any(numbers.recordings for numbers in found.splits.values())
    return (
        " Recordings were not decoded; --decode looks for silence, clipping and NaN."
        if some and not found.decoded
        else ""
    )


def _splits(found: Findings) -> list[list[str]]:
    rows = [["split", "rows", "recordings", "hours", "speakers", "intents", "slot types"]]
    for name, one in found.splits.items():
        numbers = (
            one.rows,
            one.recordings,
            one.seconds / 3600,
            len(one.speakers),
            len(one.intents),
            len(one.slot_types),
        )
        rows.append([name, *(f"{number:,.2f}" if isinstance(number, float) else f"{number:,}" for number in numbers)])
    return rows


def _check(found: Findings, check: str) -> list[str]:
    severity, title = CHECKS[check]
    return [severity, title, f"{found.counts[check]:,}"]


def _problems(problems: list[Problem]) -> list[str]:
    return [f"  {one.where}" + (f"  {one.row}" if one.row else "") + f"  {one.message}" for one in problems]


def _table(rows: list[list[str]]) -> list[str]:
    """Columns aligned; the last and those of numbers to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    numeric = [all(row[column][:1].isdigit() for row in rows[1:]) for column in range(len(rows[0]))]
    return [
        "  ".join(
            field.rjust(width) if is_number else field.ljust(width)
            for field, width, is_number in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in rows
    ]
