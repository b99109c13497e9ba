"""`lalm data questions`: a local language model asks about what is said in training rows, and what it asks is sifted.

After the idea that a model writes its own training material (DeSTA2.5-Audio, arXiv 2507.02768). Ours is the way: the answer comes
first, a stretch of one to three words that is drawn from the passage, and the model writes the question to it. Kept is a question that

- is one line of 3 to 30 words with a question mark at its end,
- does not hold the answer,
- was not asked about the passage before, and
- is answered by the same model with that stretch (F1 of at least 0.6, as SQuAD counts) when it reads the passage, and not when it does not:
  else the question does not ask for it, or asks what one knows without listening.

Questions go into the rows' `meta.generated_questions`, for the task of that name. Test and development rows are handed on as they are.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from random import Random

import numpy as np

from lalm import plugins
from lalm.data.dialogue_checks import stands_in
from lalm.records import Reading, Utterance
from lalm.tasks._turns import WORD, tells
from lalm.tasks.generated_questions import FIELD
from lalm.write.texts import Write, first_line

SAME = 0.6  # F1 from which two answers are taken for one
_QUESTION_TOKENS, _ANSWER_TOKENS = 40, 16
KEPT = "kept"


@dataclass(frozen=True)
class _Draft:
    """An answer, and later the question to it, for the row at `index`."""

    index: int
    passage: str
    answer: str
    question: str = ""


def with_questions(
    rows: Iterable[Utterance], write: Write, num_per_row: int, seed: int, made_by: str
) -> tuple[list[Utterance], Counter[str]]:
    """The rows with their questions, and how many drafts were kept or fell, by reason.

    `num_per_row` questions are tried for each training row whose passage is known in words. `made_by` names model and licence.
    """
    known = list(rows)
    drafts = _drafts(known, num_per_row, seed)
    asked = write([_ask(draft) for draft in drafts], _QUESTION_TOKENS, "questions")
    drafts = [replace(draft, question=first_line(text)) for draft, text in zip(drafts, asked, strict=True)]
    fates = _by_rule(drafts, known)
    left = [number for number, fate in enumerate(fates) if fate == KEPT]
    for told, fate in ((True, "answered otherwise"), (False, "known without listening")):
        answers = write([_answer(drafts[number], told) for number in left], _ANSWER_TOKENS, "answers")
        for number, answer in zip(left, answers, strict=True):
            if (_f1(drafts[number].answer, first_line(answer)) >= SAME) != told:
                fates[number] = fate
        left = [number for number in left if fates[number] == KEPT]
    for number in left:
        draft = drafts[number]
        row = known[draft.index]
        more = [*row.meta.get(FIELD, []), {"question": draft.question, "answer": draft.answer, "made_by": made_by}]
        known[draft.index] = replace(row, meta={**row.meta, FIELD: more})
    return known, Counter(fates)


def _drafts(rows: Sequence[Utterance], num_per_row: int, seed: int) -> list[_Draft]:
    """Answers drawn for each row, none twice of a passage."""
    taken: dict[str, set[str]] = {}
    found = []
    for index, row in enumerate(rows):
        passage = _passage(row)
        if row.split not in (None, "train") or passage is None:
            continue
        used = taken.setdefault(passage, set())
        spans = [span for span in _spans(passage) if span not in used]
        drawn = Random(f"{seed}/{row.id}").sample(spans, min(num_per_row, len(spans)))
        used.update(drawn)
        found += [_Draft(index, passage, span) for span in drawn]
    return found


def _passage(row: Utterance) -> str | None:
    """What the narrator says, in words; None where nothing is narrated or not all of it is known in words."""
    told = [turn.text for turn in row.turns if turn.role == "narrator"]
    return " ".join(str(text) for text in told) if told and all(told) else None


def _spans(passage: str) -> list[str]:
    """Stretches of one to three words of a sentence that begin and end with telling words, each said once."""
    found: list[str] = []
    for sentence in re.split(r"(?<=[.!?])\s+", passage):
        words = list(WORD.finditer(sentence))
        for length in (1, 2, 3):
            for first, last in zip(words, words[length - 1 :], strict=False):
                span = sentence[first.start() : last.end()]
                if tells(first.group()) and tells(last.group()) and not re.search(r"[,;:()\"]", span):
                    found.append(span)
    times = Counter(span.casefold() for span in found)
    return [span for span in found if times[span.casefold()] == 1]


def _ask(draft: _Draft) -> str:
    return (
        f'Text: {draft.passage}\n\nWrite one short question about the text whose answer is "{draft.answer}". '
        "Write only the question."
    )


def _answer(draft: _Draft, told: bool) -> str:
    text = f"Text: {draft.passage}\n\n" if told else ""
    return f"{text}Question: {draft.question}\nAnswer with as few words as possible."


def _by_rule(drafts: Sequence[_Draft], rows: Sequence[Utterance]) -> list[str]:
    """`kept`, or why a draft falls, for what can be seen without asking the model."""
    asked = {(_passage(row), _plain(row.question)) for row in rows if row.question}
    asked |= {
        (_passage(row), _plain(str(one.get("question"))))
        for row in rows
        for one in row.meta.get(FIELD, [])
        if row.turns
    }
    fates = []
    for draft in drafts:
        key = (draft.passage, _plain(draft.question))
        if not draft.question.endswith("?") or not 3 <= len(draft.question.split()) <= 30:
            fates.append("no question")
        elif stands_in(draft.answer, draft.question):
            fates.append("gives the answer away")
        elif key in asked:
            fates.append("asked before")
        else:
            asked.add(key)
            fates.append(KEPT)
    return fates


def _plain(text: str) -> str:
    return " ".join(WORD.findall(text.casefold()))


def _f1(right: str, given: str) -> float:
    metric = plugins.load("metrics", "squad_f1")
    counts = metric.count(Reading(None, answers=(right,)), Reading(None, answers=(given,)))
    return float(metric.reduce(np.array(counts)))
