"""Answers with and without the grammar, for the report of a study."""

from __future__ import annotations

from collections.abc import Mapping

from lalm.report.folder import StudyFolder
from lalm.report.tables import Entry, Group, Table
from lalm.report.words import NONE, metric, recordings, share


def grammar_table(study: StudyFolder) -> Table | None:
    """Scores both ways and their paired difference, a row a scheme and share; None if no run was judged both ways."""
    if not study.results.grammar:
        return None
    rows = []
    for found in study.results.grammar:
        one = metric(found.metric, study.results.metrics)
        values = [NONE if value is None else one.number(value) for value in (found.value, found.free_value)]
        free = "" if found.free_low is None else f"{one.number(found.free_low)} to {one.number(found.free_high)}"
        interval = "" if found.low is None else f"{one.signed(found.low)} to {one.signed(found.high)}"
        rows.append(
            [
                Entry(f"{found.name.replace('_', ' ')}, {recordings(found.num_speech)} ({share(found.speech_share)})"),
                Entry(values[0]),
                Entry(values[1], free),
                Entry(one.signed(found.difference), interval),
                Entry(found.verdict),
                Entry(_unread(found.status)),
                Entry(_unread(found.free_status)),
            ]
        )
    header = ["", "with", "without", "difference", "with it is", "repaired / failed with", "repaired / failed without"]
    title = metric(study.results.grammar[0].metric, study.results.metrics)
    caption = f"Answers with and without the grammar: {title.title}, {title.unit}"
    return Table(caption, [Entry(text) for text in header], [Group("", rows)])


def _unread(status: Mapping[str, int]) -> str:
    total = sum(status.values())
    return f"{status.get('repaired', 0)} / {status.get('failed', 0)} of {total}"
