"""Dialogues with a passage, read from text or from the folder of `lalm data synth`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from lalm.data.dialogue_checks import dialogue_problems
from lalm.data.manifest import read_manifest
from lalm.data.problems import Problems
from lalm.errors import DataError
from lalm.records import Turn, Utterance

MANIFEST = "manifest.jsonl"


def turns_of(story: str, history: Sequence[tuple[str, str]], request: str) -> tuple[Turn, ...]:
    """The narrator's passage, earlier questions of the user with the assistant's answers, and the user's request."""
    turns = [Turn("narrator", " ".join(story.split()))]
    for question, answer in history:
        turns += [Turn("user", question.strip()), Turn("assistant", answer.strip())]
    return (*turns, Turn("user", request.strip()))


def as_question(text: str) -> str:
    """A question with its mark, by which asking back is told from answering."""
    return text.strip() if text.rstrip().endswith("?") else f"{text.strip().rstrip('.')}?"


def spoken_rows(path: Path, split: str, allow_outside: bool) -> Iterator[Utterance]:
    """The dialogues of a split in a manifest that `lalm data synth` wrote, handed on as recordings, since they stand for them.

    DataError that lists every row which is no dialogue, or has a turn without a recording, comes after the good ones.
    """
    problems = Problems()
    for row in read_manifest(path, allow_outside):
        if (row.split or "train") != split:
            continue
        found = dialogue_problems(row) + _unspoken(row)
        for problem in found:
            problems.append(f"row '{row.id}' {problem}")
        if not found:
            yield replace(row, source="recorded")
    problems.check(path)


def checked(row: Utterance) -> Utterance:
    """The row. Raises DataError for one that is no dialogue, with everything that is wrong with it."""
    found = dialogue_problems(row)
    if found:
        raise DataError(" ".join(found))
    return row


def _unspoken(row: Utterance) -> list[str]:
    replies = row.clarification.replies if row.clarification is not None else ()
    named = [(f"turns[{index}]", turn) for index, turn in enumerate(row.turns)]
    named += [(f"clarification.replies[{index}]", turn) for index, (turn, _) in enumerate(replies)]
    problems = [f"has no recording of '{name}'." for name, turn in named if turn.audio is None]
    return problems + [
        f"names {turn.audio} in '{name}', and there is no such file."
        for name, turn in named
        if turn.audio is not None and not turn.audio.is_file()
    ]
