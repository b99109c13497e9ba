"""Spoken-SQuAD: written questions about spoken articles of Wikipedia, answered with a stretch of them (arXiv 1804.00320).

Lee et al. 2018, CC BY-SA 4.0. Layout: `spoken_train-v1.1.json` and `spoken_test-v1.1.json` in SQuAD's format and, from an
archive of its own, `Spoken-SQuAD_audio/train_wav/` and `dev_wav/` (of the test file) with a recording a sentence,
`TOPIC_PARAGRAPH_SENTENCE.wav`, counted from 0 in the order of the file. The recordings are synthetic speech (Google's). The
words of the files are what a recogniser (CMU Sphinx) made of them, lower case, 22.7 % of the words wrong; questions whose
answer it did not write are left out by its makers. Transcripts of the test set with noise (44.2 and 54.8 %) are in files of
their own; the recordings with this noise are not published.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any, Literal

import numpy as np
import soundfile
from pydantic import Field, PositiveInt

from lalm.corpora._complete import CHECK_COUNTS, check_count, text_of
from lalm.data.problems import Problems
from lalm.data.recordings import with_durations
from lalm.errors import DataError
from lalm.plugins import PluginConfig
from lalm.records import Turn, Utterance
from lalm.rundir import read_json, write_json

LICENCE = "CC-BY-SA-4.0"
NUM_ROWS = {"spoken_train-v1.1.json": 37111, "spoken_test-v1.1.json": 5351}
_FOLDERS = {"train": "train_wav", "test": "dev_wav"}
_NAME = re.compile(r"(\d+)_(\d+)_(\d+)\.wav")
_SENTENCE_ENDS = re.compile(r"(?<=\.)\s+")


class Config(PluginConfig):
    """Options of the corpus."""

    train: str = Field("spoken_train-v1.1.json", description="file of the training questions")
    test: str = Field("spoken_test-v1.1.json", description="file of the test questions")
    test_wer: Literal[22, 44, 54] = Field(
        22, description="wrong words of the test transcripts, in per cent; at 44 and 54 there are no recordings"
    )
    split_by_article: bool = Field(
        False, description="divide the articles of the test file into train, dev and test, and read no training file"
    )
    num_dev: PositiveInt = Field(200, description="questions in dev at least, where articles are divided")
    num_test: PositiveInt = Field(500, description="questions in test at least, where articles are divided")
    split_seed: int = Field(0, description="seed of that division, and of where sentences are kept")
    num_sentences: PositiveInt | None = Field(
        None, description="sentences kept of a paragraph, those of the answer among them (none: all)"
    )
    check_counts: bool = Field(True, description=CHECK_COUNTS)


@dataclass(frozen=True)
class _Sounds:
    """A folder of recordings, and the numbers of the sentences that it has of each (topic, paragraph)."""

    folder: Path
    sentences: dict[tuple[int, int], list[int]]


def read(root: Path, split: str, cfg: Config) -> Iterator[Utterance]:
    """The questions of a split, the paragraph of each as turns of the narrator, a sentence a turn. There is no dev set.

    Recordings count as recorded, although no person said them: they are the speech of this corpus. A paragraph without
    recordings is a written row. Where a paragraph has more or fewer recordings than sentences, nothing tells which words a
    recording says, and its turns have none. With `num_sentences` a question keeps so many sentences in a row (more if its
    answer is longer), drawn among all stretches that hold the first answer; a paragraph whose turns have no words stays whole.
    Raises DataError for missing files, malformed entries, answers that the passage does not hold and recordings that cannot
    be used (all listed), for files that are not complete, and for a division that leaves no training article.
    """
    if split == "dev" and not cfg.split_by_article:
        return
    name = "test" if cfg.split_by_article else split
    path, rows = _rows(root, name, cfg)
    if cfg.split_by_article:
        wanted = _articles(path, rows, cfg)[split]
        rows = [row for row in rows if row.meta["article"] in wanted]
    if cfg.num_sentences is not None:
        rows = [_shortened(row, cfg.num_sentences, cfg.split_seed) for row in rows]
    yield from (replace(row, split=split) for row in _timed(rows, path))  # type: ignore[arg-type]


def _rows(root: Path, name: str, cfg: Config) -> tuple[Path, list[Utterance]]:
    """The file of the `train` or `test` questions, and all of them."""
    path = root / (cfg.train if name == "train" else cfg.test)
    if name == "test" and cfg.test_wer != 22:
        path = path.with_name(f"{path.stem}_WER{cfg.test_wer}{path.suffix}")
    if not path.is_file():
        hint = " Without it, split_by_article: true divides the test file." if name == "train" else ""
        raise DataError(f"{path}: there is no such file.{hint}")
    value = read_json(path)
    if not isinstance(value, dict) or not isinstance(value.get("data"), list):
        raise DataError(f"{path}: is no file in SQuAD's format: an object with a list 'data' is needed.")
    problems = Problems()
    sounds = _sounds(root, _FOLDERS[name], problems) if name == "train" or cfg.test_wer == 22 else None
    rows: dict[str, Utterance] = {}
    for topic, article in enumerate(value["data"]):
        for row in _article(article, topic, sounds, f"{path}, data[{topic}]", problems):
            if row.id in rows:
                problems.append(f"{path}: the id {row.id!r} stands there twice; ids must differ.")
            rows[row.id] = row
    problems.check(path)
    if path.name in NUM_ROWS:
        check_count(path, len(rows), NUM_ROWS[path.name], cfg.check_counts)
    return path, list(rows.values())


def _article(article: Any, topic: int, sounds: _Sounds | None, where: str, problems: Problems) -> Iterator[Utterance]:
    """The questions of an article; what is wrong with it goes to `problems`."""
    try:
        title, paragraphs = text_of(article, "title"), enumerate(article["paragraphs"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        problems.append(f"{where}: {_said(error)}")
        return
    for number, paragraph in paragraphs:
        place = f"{where}.paragraphs[{number}]"
        try:
            passage, questions = text_of(paragraph, "context"), enumerate(paragraph["qas"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            problems.append(f"{place}: {_said(error)}")
            continue
        turns = _turns(passage, topic, number, sounds)
        spoken = any(turn.audio is not None for turn in turns)
        for index, asked in questions:
            try:
                yield Utterance(
                    text_of(asked, "id"),
                    source="recorded" if spoken else "text",
                    meta={"article": title, "paragraph": number, "passage": f"{title}/{number}"},
                    question=text_of(asked, "question").strip(),
                    turns=turns,
                    answers=_answers(asked, passage),
                )
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                name = f" (id {asked['id']!r})" if isinstance(asked, dict) and "id" in asked else ""
                problems.append(f"{place}.qas[{index}]{name}: {_said(error)}")


def _answers(asked: Any, passage: str) -> tuple[str, ...]:
    """The answers that differ, in their order. Raises KeyError, TypeError, ValueError.

    Three questions of the test file have an empty answer among others; it is left out, or saying nothing would be right.
    """
    said = dict.fromkeys(answer["text"].strip() for answer in asked["answers"])
    found = tuple(answer for answer in said if answer)
    if not found:
        raise ValueError("field 'answers' holds no answer, one at least is needed")
    for answer in found:
        if answer not in passage:
            raise ValueError(f"the answer {answer!r} is not in the passage")
    return found


def _said(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"field {error} is missing."
    return f"{error}." if isinstance(error, ValueError) else f"is not as SQuAD's format wants it ({error})."


def _sounds(root: Path, name: str, problems: Problems) -> _Sounds | None:
    """The recordings of a folder, beside the files or in the folder of the archive; None where there is no such folder."""
    folder = next((one for one in (root / "Spoken-SQuAD_audio" / name, root / name) if one.is_dir()), None)
    if folder is None:
        return None
    sentences: dict[tuple[int, int], list[int]] = {}
    for path in folder.iterdir():
        if match := _NAME.fullmatch(path.name):
            topic, paragraph, sentence = map(int, match.groups())
            sentences.setdefault((topic, paragraph), []).append(sentence)
    for (topic, paragraph), found in sentences.items():
        found.sort()
        if found != list(range(len(found))):
            missing = next(number for number in range(len(found)) if number not in found)
            problems.append(
                f"{folder / f'{topic}_{paragraph}_{missing}.wav'}: there is no such file, and there are later ones."
            )
    return _Sounds(folder, sentences)


def _turns(passage: str, topic: int, paragraph: int, sounds: _Sounds | None) -> tuple[Turn, ...]:
    """The sentences of a paragraph, with their recordings where there are any."""
    words: Sequence[str | None] = _SENTENCE_ENDS.split(passage.strip())
    heard = sounds.sentences.get((topic, paragraph), []) if sounds is not None else []
    if sounds is None or not heard:
        return tuple(Turn("narrator", sentence) for sentence in words)
    if len(heard) != len(words):
        words = [None] * len(heard)
    return tuple(
        Turn("narrator", sentence, sounds.folder / f"{topic}_{paragraph}_{number}.wav")
        for number, sentence in zip(heard, words, strict=True)
    )


def _shortened(row: Utterance, num_sentences: int, seed: int) -> Utterance:
    """The row with a stretch of its sentences that holds the first answer, and the answers that stand in it."""
    words = [turn.text for turn in row.turns]
    if len(words) <= num_sentences or not all(words):
        return row
    said = [str(text) for text in words]
    begin = " ".join(said).find(row.answers[0])
    end = begin + len(row.answers[0])
    ends = list(
        accumulate(len(text) + 1 for text in said)
    )  # where each sentence ends in the passage, with the blank behind it
    first, last = bisect_right(ends, begin), bisect_left(ends, end) + 1
    length = max(num_sentences, last - first)
    start = Random(f"{seed}/{row.id}").randint(max(0, last - length), min(first, len(said) - length))
    kept = " ".join(said[start : start + length])
    answers = tuple(answer for answer in row.answers if answer in kept)
    return replace(row, turns=row.turns[start : start + length], answers=answers)


def _timed(rows: Sequence[Utterance], path: Path) -> Iterator[Utterance]:
    """The rows with the seconds of their turns; a paragraph's recordings are looked at once for all of its questions."""
    first = {row.turns: row for row in rows}
    timed = {row.id: row.turns for row in with_durations(first.values(), path)}
    return (replace(row, turns=timed[first[row.turns].id]) for row in rows)


def _articles(path: Path, rows: Sequence[Utterance], cfg: Config) -> dict[str, set[str]]:
    """Which articles are in which split: whole articles, in a seeded order, until test and then dev have enough questions."""
    num_questions: dict[str, int] = {}
    for row in rows:
        num_questions[row.meta["article"]] = num_questions.get(row.meta["article"], 0) + 1
    order = sorted(num_questions)
    Random(cfg.split_seed).shuffle(order)
    found: dict[str, set[str]] = {"test": set(), "dev": set(), "train": set()}
    for split, least in (("test", cfg.num_test), ("dev", cfg.num_dev)):
        while order and sum(num_questions[title] for title in found[split]) < least:
            found[split].add(order.pop())
    found["train"].update(order)
    if not order:
        raise DataError(
            f"{path}: has {len(rows)} questions about {len(num_questions)} articles; num_test {cfg.num_test} and num_dev "
            f"{cfg.num_dev} leave no article to train on."
        )
    return found


_TINY = {
    "train": (
        ("Bees", "bees live in hives. a hive has one queen.", "How many queens has a hive?", "one"),
        ("Bees", "honey is made of nectar.", "What is honey made of?", "nectar"),
        ("Rhine", "the rhine begins in the alps. it ends in the sea. it is long.", "Where does the Rhine end?", "the sea"),
    ),
    "test": (
        ("Oxygen", "oxygen is a gas. it was found by priestly.", "Who found oxygen?", "priestly"),
        ("Warsaw", "warsaw lies on the vistula.", "On which river is Warsaw?", "the vistula"),
        ("Geology", "geology is about rocks.", "What is geology about?", "rocks"),
    ),
}  # fmt: skip


def make_tiny(root: Path, seed: int) -> None:
    """Three paragraphs and questions a file, and recordings of noise of their sentences, 24 kHz."""
    rng = np.random.default_rng(seed)
    for name, entries in _TINY.items():
        folder = root / "Spoken-SQuAD_audio" / _FOLDERS[name]
        folder.mkdir(parents=True, exist_ok=True)
        articles: dict[str, list[Any]] = {}
        for number, (title, passage, question, answer) in enumerate(entries):
            paragraphs = articles.setdefault(title, [])
            for sentence in range(len(_SENTENCE_ENDS.split(passage))):
                path = folder / f"{len(articles) - 1}_{len(paragraphs)}_{sentence}.wav"
                soundfile.write(path, 0.1 * rng.standard_normal(9600), 24_000)
            answers = 2 * [{"answer_start": passage.index(answer), "text": answer}]
            asked = {"answers": answers, "question": question, "id": f"{name}{number:020d}"}
            paragraphs.append({"context": passage, "qas": [asked]})
        data = [{"title": title, "paragraphs": paragraphs} for title, paragraphs in articles.items()]
        write_json(root / f"spoken_{name}-v1.1.json", {"data": data, "version": "1.1"})
