"""Budgets by language: how much of each language's text and recordings a run may use (`data.languages`).

Every language has one seeded order of its sentences, those of its recordings first, in the order in which the speech budget
draws them; its text and its recordings are beginnings of that order. So with 115 items of speech and 115 rows of text the two
are the same sentences, written and spoken, and 800 rows of text hold these 115. In the words of arXiv 2509.15389, table of
transfer: T is `num_text: 115, speech_items: 0`, T+S `num_text: 115, speech_items: 115`, T+M `num_text: 800, speech_items: 0`,
T+S+M `num_text: 800, speech_items: 115`. The source does not say whether M holds T; here it does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lalm.data import budget
from lalm.data.choosing import by_selector
from lalm.errors import DataError, nearest
from lalm.languages import name
from lalm.records import Utterance
from lalm.sections import DataSection, LanguageBudget

Rows = list[Utterance]


def draw(text: Sequence[Utterance], recorded: Sequence[Utterance], data: DataSection) -> tuple[Rows, Rows]:
    """Text rows and recordings within the budgets of `data.languages`, language by language as these are named.

    Raises DataError for a budget that cannot be met.
    """
    written, spoken = of_languages(text), of_languages(recorded)
    texts: Rows = []
    speech: Rows = []
    for language, own in (data.languages or {}).items():
        rows = _draw(written.get(language, []), spoken.get(language, []), own, data, language)
        texts += rows[0]
        speech += rows[1]
    return texts, speech


def of_languages(rows: Sequence[Utterance]) -> dict[str, Rows]:
    """Rows by language, in their own order; languages as they come."""
    parts: dict[str, Rows] = {}
    for row in rows:
        parts.setdefault(row.language, []).append(row)
    return parts


def check_there(data: DataSection, there: set[str]) -> None:
    """Raises DataError for languages of `data.languages` that are not `there`."""
    missing = [language for language in data.languages or {} if language not in there]
    if missing:
        raise DataError(
            f"data.languages.{missing[0]}: the corpus '{data.corpus.name}' in {data.root} has no training rows in "
            f"{name(missing[0])}.{nearest(missing[0], there)}"
        )


def _draw(
    text: Sequence[Utterance], recorded: Sequence[Utterance], own: LanguageBudget, data: DataSection, language: str
) -> tuple[Rows, Rows]:
    """Text rows and recordings of one language; a budget that it does not state is that of the section."""
    stated = own if own.states_speech or not recorded else data
    choose = None
    if data.selector is not None:
        choose = by_selector(data.selector, data.budget_seed, text, "data.selector")
    try:
        speech = budget.draw_stated(recorded, stated, data.budget_seed, choose)
        number = data.num_text if own.num_text is None else own.num_text
        if number is None or number == len(text):
            return list(text), speech
        if number > len(text):
            raise DataError(f"data.num_text: {number} text rows are asked for and there are {len(text)}.")
        chosen = {id(row) for row in _text_order(text, recorded, data.budget_seed, choose)[:number]}
    except DataError as error:
        raise DataError(f"data.languages.{language}: {error}") from None
    return [row for row in text if id(row) in chosen], speech


def _text_order(
    text: Sequence[Utterance], recorded: Sequence[Utterance], seed: int, choose: budget.Choose | None
) -> Rows:
    """Text rows: what the recordings say, in the order of the recordings, then the others (chosen or balanced alike)."""
    spoken = budget.draw(recorded, seed=seed, choose=choose)
    rows = {_said(row): row for row in reversed(text)}
    found = [rows.get(_said(row)) for row in spoken]
    first = list({id(row): row for row in found if row is not None}.values())
    there = {id(row) for row in first}
    rest = [row for row in text if id(row) not in there]
    if not rest:
        return first
    ordered = choose(rest, len(rest)) if choose is not None and not first else budget.balanced_order(rest, seed, first)
    return [*first, *ordered]


def _said(row: Utterance) -> tuple[Any, ...]:
    """Words and label of a row, by which a recording finds the written sentence."""
    return row.text, row.frame, tuple(turn.text for turn in row.turns), row.question
