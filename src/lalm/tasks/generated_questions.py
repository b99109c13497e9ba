"""Questions that a language model wrote about a passage (`lalm data questions`): further examples from the same recordings.

They stand in a row's `meta.generated_questions`, so a speech budget means the recordings of the row as ever. Source: a model that
writes its own training material about audio, DeSTA2.5-Audio (arXiv 2507.02768); how they are made and sifted is said in
`write/questions.py`. Rows without such questions are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from pydantic import Field

from lalm.errors import DataError
from lalm.plugins import PluginConfig
from lalm.records import Example, Utterance
from lalm.tasks._turns import about, heard
from lalm.tasks.answer import SPAN

FIELD = "generated_questions"


class Config(PluginConfig):
    """Options of the task."""

    instruction: str = Field(SPAN, min_length=1, description="what the model is told first")


def examples(item: Utterance, cfg: Config, rng: Random) -> list[Example]:
    """One example a question, after what the narrator says. Raises DataError for an entry that is no question with an answer."""
    asked = item.meta.get(FIELD, [])
    passage = tuple(turn for turn in heard(item) if turn.role == "narrator")
    if not asked or not passage:
        return []
    if not isinstance(asked, list):
        raise DataError(f"row '{item.id}': 'meta.{FIELD}' is no list.")
    questions = [_read(one, f"row '{item.id}': 'meta.{FIELD}[{number}]'") for number, one in enumerate(asked)]
    return about(item, passage, questions, cfg.instruction, "generated_questions")


def _read(one: Any, where: str) -> tuple[str, str]:
    if isinstance(one, Mapping) and all(
        isinstance(one.get(key), str) and one[key].strip() for key in ("question", "answer")
    ):
        return one["question"], one["answer"]
    raise DataError(f"{where} is {one!r}; an object with 'question' and 'answer' is needed.")
