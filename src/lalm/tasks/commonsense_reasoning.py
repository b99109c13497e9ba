"""Reasoning over what is said and what is written: which statement follows, which contradicts, is a request ambiguous.

Source: the task of cross-modal commonsense reasoning of arXiv 2412.15995, whose prompts are not published. Here it is
built by rules alone: statements are made of a row's answer and of a wrong one (from a
question about the same passage, else from any other row), and why a request is ambiguous is what the user may reply.
Rows without turns or without answers are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from pydantic import Field

from lalm.plugins import PluginConfig
from lalm.records import Example, Utterance
from lalm.tasks._turns import about, asked

Kind = Literal["follows", "contradicts", "ambiguous"]
_TRIES = 20  # draws of a wrong answer from all rows before a row is left out


class Config(PluginConfig):
    """Options of the task."""

    instruction: str = Field(
        "Think about what is said and what is written, and answer the last question.",
        min_length=1,
        description="what the model is told first",
    )
    kinds: tuple[Kind, ...] = Field(
        ("follows", "contradicts", "ambiguous"), min_length=1, description="kinds of question, one each a row"
    )


@dataclass(frozen=True)
class Survey:
    """What a row must know of the others: their answers, by passage and in all, and how many requests are ambiguous."""

    by_passage: dict[str, tuple[str, ...]]
    answers: tuple[str, ...]
    num_ambiguous: int
    num_clear: int


NOTHING = Survey({}, (), 0, 0)


def survey(rows: Iterable[Utterance], cfg: Config) -> Survey:
    """Look at all training rows, once."""
    by_passage: dict[str, dict[str, None]] = {}
    everything: dict[str, None] = {}
    ambiguous = clear = 0
    for row in rows:
        ambiguous += row.clarification is not None
        clear += row.clarification is None and bool(row.answers)
        for answer in row.answers[:1]:
            everything[answer] = None
            if (passage := _passage(row)) is not None:
                by_passage.setdefault(passage, {})[answer] = None
    return Survey({passage: tuple(found) for passage, found in by_passage.items()}, tuple(everything), ambiguous, clear)


def examples(item: Utterance, cfg: Config, rng: Random, known: Survey = NOTHING) -> list[Example]:
    """One example a kind of question, for the kinds that the row allows."""
    turns = asked(item)
    if not turns:
        return []
    questions = []
    for kind in cfg.kinds:
        found = _ambiguous(item, rng, known) if kind == "ambiguous" else _statements(kind, item, rng, known)
        if found is not None:
            questions.append(found)
    return about(item, turns, questions, cfg.instruction, "commonsense_reasoning")


def _statements(kind: str, item: Utterance, rng: Random, known: Survey) -> tuple[str, str] | None:
    """Two statements, of which one holds; the letter of the one that follows, or of the one that contradicts."""
    if item.clarification is not None or not item.answers:
        return None
    wrong = _wrong(item, rng, known)
    if wrong is None:
        return None
    shown = rng.sample([item.answers[0], wrong], 2)
    said = " ".join(f'({letter}) The answer is "{one}".' for letter, one in zip("AB", shown, strict=True))
    verb = "follows from" if kind == "follows" else "contradicts"
    sought = item.answers[0] if kind == "follows" else wrong
    return f"{said} Which statement {verb} what is said?", "AB"[shown.index(sought)]


def _wrong(item: Utterance, rng: Random, known: Survey) -> str | None:
    """An answer that is surely not right: other words than every right one, and neither within the other."""
    near = [one for one in known.by_passage.get(_passage(item) or "", ()) if _apart(one, item.answers)]
    if near:
        return rng.choice(near)
    for _ in range(_TRIES if known.answers else 0):
        drawn = rng.choice(known.answers)
        if _apart(drawn, item.answers):
            return drawn
    return None


def _apart(one: str, right: Sequence[str]) -> bool:
    words = _plain(one)
    return bool(words) and not any(words in other or other in words for other in map(_plain, right))


def _plain(text: str) -> str:
    return " ".join("".join(letter if letter.isalnum() else " " for letter in text.casefold()).split())


def _passage(item: Utterance) -> str | None:
    """What names the passage of a row: its corpus says so, else its written context, else what the narrator says first."""
    first = next((turn.text for turn in item.turns if turn.role == "narrator"), None)
    return item.meta.get("passage") or item.context or first


def _ambiguous(item: Utterance, rng: Random, known: Survey) -> tuple[str, str] | None:
    """Whether the request is ambiguous, and why. Of clear requests as many are asked about as there are ambiguous ones."""
    question = "Is the last question before this one ambiguous, and why?"
    if item.clarification is not None:
        readings = [reply.text.strip().rstrip(".!") for reply, _ in item.clarification.replies if reply.text]
        if len(readings) < 2:
            return question, f'Yes, one has to ask: "{item.clarification.question}"'
        return question, "Yes, it may mean: " + " or ".join(f'"{one}"' for one in readings)
    if not item.answers or rng.random() * known.num_clear >= known.num_ambiguous:
        return None
    return question, "No, it is clear."
