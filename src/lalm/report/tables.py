"""Tables as data, and how they are written in Markdown and LaTeX (the page has its own template)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from lalm.report.folder import StudyFolder
from lalm.report.rows import Comparison, Curve, Interval, Point
from lalm.report.words import NONE, Metric, duration, metric, share

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "−": "$-$",
    "–": "--",
}


@dataclass(frozen=True)
class Entry:
    """One field: what it says, what stands small beside it, whether it is the best of its column."""

    text: str
    detail: str = ""
    best: bool = False


@dataclass(frozen=True)
class Group:
    """Rows under one heading (empty: none)."""

    title: str
    rows: list[list[Entry]]


@dataclass(frozen=True)
class Table:
    """A table; each row's first entry names it. `words`: the other columns hold words, not numbers."""

    caption: str
    header: list[Entry]
    groups: list[Group]
    words: bool = False


def score_table(study: StudyFolder, metrics: Sequence[Metric], caption: str) -> Table:
    """Schemes and references by share, a group a metric."""
    groups = [
        Group("" if len(metrics) == 1 else f"{one.title}, {one.unit}", _score_rows(study, one)) for one in metrics
    ]
    return Table(caption, _share_header(study), groups)


def _share_header(study: StudyFolder) -> list[Entry]:
    return [Entry("recordings"), *(Entry(_numbers(numbers), share(value)) for value, numbers in study.shares)]


def _numbers(numbers: Sequence[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


def _score_rows(study: StudyFolder, one: Metric) -> list[list[Entry]]:
    order = [*study.cells, *study.of_role("cascade"), *study.of_role("oracle_text")]
    best = {value: _best(study, one, value) for value, _ in study.shares}
    rows = []
    for curve in order:
        by_share = {point.speech_share: point for point in curve.own}
        scores = [point.metrics.get(one.name) for point in by_share.values()]
        if curve.role == "cell" or any(score is not None and score.value is not None for score in scores):
            entries = []
            for value, _ in study.shares:
                score = by_share[value].metrics.get(one.name) if value in by_share else None
                entries.append(_entry(score, one, curve.role == "cell" and best[value]))
            rows.append([Entry(curve.name), *entries])
    for reference in study.results.references:
        if reference.metrics is None:
            name = f"{reference.name.replace('_', ' ')} (none: {reference.reason or 'no reason given'})"
            rows.append([Entry(name), *(Entry(NONE) for _ in study.shares)])
    return rows


def _entry(score: Interval | None, one: Metric, best: float | bool | None) -> Entry:
    if score is None or score.value is None:
        return Entry(NONE)
    top = not isinstance(best, bool) and best is not None and abs(score.value - best) < 1e-12
    return Entry(one.number(score.value), one.range(score) if score.low is not None else "", top)


def _best(study: StudyFolder, one: Metric, value: float) -> float | None:
    """The best value of a column among the schemes, where there are several."""
    found = [
        score.value
        for curve in study.cells
        for point in curve.own
        if point.speech_share == value and (score := point.metrics.get(one.name)) and score.value is not None
    ]
    if len(found) < 2:
        return None
    return max(found) if one.higher_is_better else min(found)


def cost_table(study: StudyFolder) -> Table:
    """How long runs took and how their answers could be read, by share."""
    columns: list[tuple[str, Callable[[Point], str]]] = [
        ("time a run, mean of the seeds", lambda point: duration(point.seconds)),
        ("answers read as they stand, %", lambda point: _status(point, "ok")),
        ("answers repaired, %", lambda point: _status(point, "repaired")),
        ("answers that could not be read (they count as wrong), %", lambda point: _status(point, "failed")),
    ]
    curves = [*study.cells, *study.of_role("cascade")]
    groups = [Group(title, [_plain_row(study, curve, shown) for curve in curves]) for title, shown in columns]
    return Table("Time and readable answers", _share_header(study), groups)


def _plain_row(study: StudyFolder, curve: Curve, shown: Callable[[Point], str]) -> list[Entry]:
    by_share = {point.speech_share: shown(point) for point in curve.own}
    return [Entry(curve.name), *(Entry(by_share.get(value, NONE)) for value, _ in study.shares)]


def _status(point: Point, word: str) -> str:
    total = sum(point.status.values())
    return f"{100 * point.status.get(word, 0) / total:.1f}" if total else NONE


def study_tables(study: StudyFolder) -> list[Table]:
    """The primary metric, then all others."""
    facts = study.results.metrics
    primary = metric(study.primary, facts)
    names = dict.fromkeys(name for cell in study.results.cells for name in cell.metrics)
    others = [metric(name, facts) for name in names if name != study.primary]
    first = score_table(study, [primary], f"{primary.title}, {primary.unit}".capitalize())
    return [first, *([score_table(study, others, "Other metrics")] if others else []), cost_table(study)]


def comparison_table(study: StudyFolder) -> Table | None:
    """Every paired comparison, in the order of the results; None if there are none."""
    return _compared("Paired comparisons", study, study.results.comparisons)


def free_comparison_table(study: StudyFolder) -> Table | None:
    """The same of answers without the grammar; None if no run was judged both ways."""
    return _compared("Paired comparisons of free answers", study, study.results.free_comparisons)


def _compared(title: str, study: StudyFolder, comparisons: Iterable[Comparison]) -> Table | None:
    rows = []
    for found in comparisons:
        one = metric(found.metric, study.results.metrics)
        interval = NONE if found.low is None else f"{one.signed(found.low)} to {one.signed(found.high)}"
        name = f"{found.a.replace('_', ' ')} against {found.b.replace('_', ' ')}"
        name += "" if found.metric == study.primary else f", {one.title}"
        rows.append([Entry(name), Entry(one.signed(found.difference)), Entry(interval), Entry(found.verdict)])
    header = [Entry("first against second"), Entry("difference"), Entry("95 % interval"), Entry("the first is")]
    return Table(title, header, [Group("", rows)]) if rows else None


def markdown(tables: Sequence[Table]) -> str:
    """Pipe tables, each under its caption."""
    return "\n".join(_markdown(table) for table in tables)


def _markdown(table: Table) -> str:
    titled = any(group.title for group in table.groups)
    head = ["", *[""] * titled]
    lines = [
        f"**{_md(table.caption)}**\n",
        _md_row([*head[1:], *(_md_entry(entry) for entry in table.header)]),
        "|" + "---|" * (len(table.header) + titled),
    ]
    for group in table.groups:
        for row in group.rows:
            lines.append(_md_row([*([_md(group.title)] if titled else []), *(_md_entry(entry) for entry in row)]))
    return "\n".join(lines) + "\n"


def _md_row(fields: Sequence[str]) -> str:
    return "| " + " | ".join(fields) + " |"


def _md_entry(entry: Entry) -> str:
    text = f"**{_md(entry.text)}**" if entry.best else _md(entry.text)
    return f"{text} ({_md(entry.detail)})" if entry.detail else text


def _md(text: str) -> str:
    return re.sub(r"([\\|*_`<>\[\]])", r"\\\1", " ".join(text.split()))


def latex(tables: Sequence[Table]) -> str:
    """`tabular` environments that need no package, each after its caption as a comment."""
    return "\n".join(_latex(table) for table in tables)


def _latex(table: Table) -> str:
    lines = [
        f"% {' '.join(table.caption.split())}",
        r"\begin{tabular}{l" + ("l" if table.words else "r") * (len(table.header) - 1) + "}",
        r"\hline",
        _tex_row(table.header),
        r"\hline",
    ]
    for group in table.groups:
        if group.title:
            lines.append(rf"\multicolumn{{{len(table.header)}}}{{l}}{{\textit{{{_tex(group.title)}}}}} \\")
        lines += [_tex_row(row) for row in group.rows]
        lines.append(r"\hline")
    return "\n".join([*lines, r"\end{tabular}", ""])


def _tex_row(row: Sequence[Entry]) -> str:
    fields = [rf"\textbf{{{_tex(e.text)}}}" if e.best else _tex(e.text) for e in row]
    details = [f" {{\\scriptsize ({_tex(entry.detail)})}}" if entry.detail else "" for entry in row]
    return " & ".join(field + detail for field, detail in zip(fields, details, strict=True)) + r" \\"


def _tex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))
