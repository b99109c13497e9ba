"""Listening comprehension: questions whose answers stand in the transcript (words of a turn, who spoke, a gap, an order).

Source: the task of arXiv 2412.15995 that represents what was said; its prompts are not published, so the four kinds of
question here are ours. The question is a written turn of the user after what is heard. Rows whose words are not all known
are left out, as are kinds that a row is too short for. Works on questions and dialogues and on single utterances.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import Literal

from pydantic import Field, PositiveInt

from lalm.plugins import PluginConfig
from lalm.records import Example, Turn, Utterance
from lalm.tasks._turns import WORD, about, heard, tells

Kind = Literal["transcript", "speaker", "cloze", "order"]
GAP = "___"
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


class Config(PluginConfig):
    """Options of the task."""

    instruction: str = Field(
        "Listen closely and answer the last question about the words that are said.",
        min_length=1,
        description="what the model is told first",
    )
    kinds: tuple[Kind, ...] = Field(
        ("transcript", "speaker", "cloze", "order"), min_length=1, description="kinds of question, one each a row"
    )
    max_words: PositiveInt = Field(40, description="longest turn or sentence that is written down or quoted, in words")
    num_ordered: int = Field(3, ge=2, le=6, description="most words that are to be put in order")


def examples(item: Utterance, cfg: Config, rng: Random) -> list[Example]:
    """One example a kind of question, for the kinds that the row allows."""
    turns = item.turns or heard(item)  # a written context is not listened to
    if not turns or any(not turn.text for turn in turns):
        return []
    asked = [found for kind in cfg.kinds if (found := _KINDS[kind](turns, cfg, rng)) is not None]
    return about(item, turns, asked, cfg.instruction, "listening_comprehension")


def _transcript(turns: Sequence[Turn], cfg: Config, rng: Random) -> tuple[str, str] | None:
    short = [(number, turn) for number, turn in enumerate(turns, 1) if len(_said(turn).split()) <= cfg.max_words]
    if not short:
        return None
    number, turn = rng.choice(short)
    which = "what is said" if len(turns) == 1 else f"turn {number}, by the {turn.role}"
    return f"Write down {which}, word for word.", _said(turn)


def _speaker(turns: Sequence[Turn], cfg: Config, rng: Random) -> tuple[str, str] | None:
    if len({turn.role for turn in turns}) < 2:
        return None
    by_role = {role: " ".join(_said(turn) for turn in turns if turn.role == role).casefold() for role in _roles(turns)}
    quotes = [
        (quote, turn.role)
        for turn in turns
        for quote in _sentences(turn, cfg)
        if not any(quote.casefold() in words for role, words in by_role.items() if role != turn.role)
    ]
    if not quotes:
        return None
    role = rng.choice(sorted({role for _, role in quotes}))  # else it would nearly always be the one who says most
    quote = rng.choice([quote for quote, by in quotes if by == role])
    return f'Who says "{quote}": {_listed(_roles(turns))}?', role


def _cloze(turns: Sequence[Turn], cfg: Config, rng: Random) -> tuple[str, str] | None:
    sentences = [quote for turn in turns for quote in _sentences(turn, cfg) if len(quote.split()) >= 3]
    gaps = [(quote, found) for quote in sentences for found in _telling([quote])]
    if not gaps:
        return None
    quote = rng.choice(sorted({quote for quote, _ in gaps}))
    found = rng.choice([one for sentence, one in gaps if sentence == quote])
    gapped = quote[: found.start()] + GAP + quote[found.end() :]
    return f'One word is missing in "{gapped}". Which one?', found.group()


def _order(turns: Sequence[Turn], cfg: Config, rng: Random) -> tuple[str, str] | None:
    told = [found.group() for found in _telling([_said(turn) for turn in turns])]
    if len(told) < 2:
        return None
    chosen = sorted(rng.sample(range(len(told)), min(cfg.num_ordered, len(told))))
    words = [told[index] for index in chosen]
    shown = rng.sample(words, len(words))
    return f"In which order are these words said: {', '.join(shown)}?", ", ".join(words)


_KINDS: dict[str, Callable[[Sequence[Turn], Config, Random], tuple[str, str] | None]] = {
    "transcript": _transcript,
    "speaker": _speaker,
    "cloze": _cloze,
    "order": _order,
}


def _said(turn: Turn) -> str:
    return turn.text or ""


def _roles(turns: Sequence[Turn]) -> list[str]:
    return list(dict.fromkeys(turn.role for turn in turns))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"the {name}" for name in names[:-1]) + f" or the {names[-1]}"


def _sentences(turn: Turn, cfg: Config) -> list[str]:
    """Sentences short enough to quote, and without quotation marks of their own."""
    found = (one.strip() for one in _SENTENCE_END.split(_said(turn)))
    return [one for one in found if one and '"' not in one and GAP not in one and len(one.split()) <= cfg.max_words]


def _telling(texts: Sequence[str]) -> list[re.Match[str]]:
    """The words worth asking for, as they come: of four letters or with a digit, and said once in all of the texts."""
    found = [word for text in texts for word in WORD.finditer(text)]
    times = Counter(word.group().casefold() for word in found)
    return [word for word in found if times[word.group().casefold()] == 1 and tells(word.group())]
