"""SD-QA: questions that people ask in 24 dialects of five languages, answered from Wikipedia (Faisal et al. 2021, arXiv 2109.12072).

Layout of its repository: `SPLIT/LANGUAGE/DIALECT/` (`dev`, `test`; `eng`, `ara`, `ben`, `kor`, `swa`) with `wav_LANGUAGE/ID.wav`,
`metadata.csv` (who said it) and `NAME.jsonl` or `.jsonl.gz`, one file a recogniser: TyDi QA's rows with the article, passages and
answers as stretches of its UTF-8 bytes, and the question as the recogniser wrote it; `SPLIT/LANGUAGE/NAME.SPLIT.txt` has the
questions as they were to be read. There is no training set: the `dev` folder is given out as training rows. Questions and
recordings Apache-2.0, articles CC BY-SA 3.0.

Read from the layout that its README and its own description of the rows state; counts of rows are not checked, since none are
stated a dialect.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile
from pydantic import Field

from lalm.corpora._complete import text_of
from lalm.data.problems import Problems
from lalm.data.recordings import with_durations
from lalm.data.table import decode
from lalm.errors import DataError, nearest
from lalm.plugins import PluginConfig
from lalm.records import Turn, Utterance
from lalm.rundir import write_jsonl, write_text

LICENCE = "questions and recordings Apache-2.0, articles CC-BY-SA-3.0"
_LANGUAGES = {"eng": "en", "ara": "ar", "ben": "bn", "kor": "ko", "swa": "sw"}
_FOLDERS = {"train": "dev", "test": "test"}
_NONE = "NONE"


class Config(PluginConfig):
    """Options of the corpus."""

    language: Literal["eng", "ara", "ben", "kor", "swa"] = Field(
        "eng", description="language, as the folders are called"
    )
    dialects: tuple[str, ...] = Field((), description="dialects, as the folders are called (none: all that are there)")


def read(root: Path, split: str, cfg: Config) -> Iterator[Utterance]:
    """Questions that were recorded and have a short answer (or yes or no), with the passages that hold it as `context`.

    `train` is the folder `dev`, `dev` is empty. What annotators answered differently is all right. Questions without a short
    answer, and those that a dialect has no recording of, are left out.
    Raises DataError for missing files, dialects that are none, malformed rows and recordings that cannot be used, all listed.
    """
    if split not in _FOLDERS:
        return
    folder = root / _FOLDERS[split] / cfg.language
    there = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if not there:
        raise DataError(f"{folder}: there is no such folder with dialects in it.")
    for name in cfg.dialects:
        if name not in there:
            raise DataError(f"data.corpus.dialects: {folder} has no dialect '{name}'.{nearest(name, there)}")
    questions = _questions(folder, _FOLDERS[split])
    problems = Problems()
    rows: list[Utterance] = []
    for name in cfg.dialects or there:
        rows += _dialect(folder / name, split, cfg, questions, problems)
    problems.check(folder)
    yield from with_durations(rows, folder)


def _questions(folder: Path, split: str) -> Mapping[str, str]:
    """The questions as they were to be read, by id: the last column of `english.dev.txt`; none if there is no such file."""
    found = {}
    for path in sorted(folder.glob(f"*.{split}.txt")):
        for line in decode(path).splitlines()[1:]:
            cells = line.split("\t")
            if len(cells) > 1:
                found[cells[0].strip()] = cells[-1].strip()
    return found


def _speakers(folder: Path) -> Mapping[str, Mapping[str, str]]:
    """Who said what, by id."""
    path = folder / "metadata.csv"
    table = csv.DictReader(io.StringIO(decode(path), newline="")) if path.is_file() else ()
    return {str(row.get("example_id")): row for row in table}


def _dialect(
    folder: Path, split: Any, cfg: Config, questions: Mapping[str, str], problems: Problems
) -> Iterator[Utterance]:
    """The rows of a dialect; what is wrong with its file goes to `problems`."""
    files = [path for path in sorted(folder.glob("*.jsonl*")) if ".triples." not in path.name]
    if not files:
        problems.append(f"{folder}: holds no .jsonl or .jsonl.gz file with answers.")
        return
    speakers = _speakers(folder)
    # the files of a dialect differ in the recogniser's words alone, which are not used
    for number, line in enumerate(_lines(files[0], problems), 1):
        try:
            value = json.loads(line)
            name = str(value["example_id"])
            path = folder / f"wav_{cfg.language}" / f"{name}.wav"
            answers, passages = _answers(value)
            if not answers or not path.is_file():
                continue
            who = speakers.get(name, {})
            said = Turn("user", questions.get(name), path)
            yield Utterance(
                f"{folder.name}/{name}",
                language=_LANGUAGES[cfg.language],
                speaker=who.get("user_id") or None,
                split=split,
                source="recorded",
                meta={
                    "dialect": folder.name,
                    "title": text_of(value, "document_title"),
                    **{key: who[key] for key in ("gender", "age") if who.get(key)},
                },
                context="\n".join(passages),
                turns=(said,),
                answers=answers,
            )
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            what = f"field {error} is missing" if isinstance(error, KeyError) else str(error)
            problems.append(f"{files[0]}, line {number}: {what}.")


def _lines(path: Path, problems: Problems) -> Iterator[bytes]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            yield from (line for line in stream if line.strip())
    except (OSError, EOFError) as error:
        problems.append(f"{path}: cannot be read ({error}).")


def _answers(value: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The short answers, and the passages that annotators found them in. Raises what a malformed row raises."""
    article = text_of(dict(value), "document_plaintext").encode()
    passages = value["passage_answer_candidates"]
    answers: dict[str, None] = {}
    held: dict[str, None] = {}
    for one in value["annotations"]:
        answer, chosen = one["minimal_answer"], one["passage_answer"]["candidate_index"]
        yes_no = one["yes_no_answer"]
        start, end = answer["plaintext_start_byte"], answer["plaintext_end_byte"]
        if chosen < 0 or (start < 0 and yes_no == _NONE):
            continue
        said = _stretch(article, answer) if 0 <= start < end else str(yes_no).lower()
        if said:
            answers[said] = None
            held[_stretch(article, passages[chosen])] = None
    return tuple(answers), tuple(held)


def _stretch(article: bytes, place: Mapping[str, int]) -> str:
    """The words from one byte of the article to another. Raises ValueError where these lie within a character."""
    return article[place["plaintext_start_byte"] : place["plaintext_end_byte"]].decode().strip()


_ARTICLE = "Ben Nevis is a mountain in Škotska, Scotland. It was first climbed in 1771."


def make_tiny(root: Path, seed: int) -> None:
    """Three questions in two dialects a folder, recorded as noise; one of the questions has no answer."""
    rng = np.random.default_rng(seed)
    for number, split in enumerate(_FOLDERS.values()):
        folder = root / split / "eng"
        questions = {
            str(100 * number + 1): ("When was Ben Nevis first climbed?", "1771", _NONE),
            str(-100 * number - 2): ("Is Ben Nevis a mountain?", "", "YES"),
            str(100 * number + 3): ("Who owns Ben Nevis?", "", _NONE),
        }
        for dialect, user in (("gbr", "GBT"), ("irl", "IRL")):
            (folder / dialect / "wav_eng").mkdir(parents=True, exist_ok=True)
            table = [",example_id,user_id,region,language,gender,age"]
            for index, name in enumerate(questions):
                path = folder / dialect / "wav_eng" / f"{name}.wav"
                soundfile.write(path, 0.1 * rng.standard_normal(4800), 16_000)
                table.append(f"{index},{name},{user}{number},{dialect},eng,female,35")
            write_text(folder / dialect / "metadata.csv", "\n".join(table) + "\n")
            rows = [_tiny_row(name, *asked) for name, asked in questions.items()]
            write_jsonl(folder / dialect / f"english.{split}.{dialect}-en-US.jsonl", rows)
        lines = ["ID\tin XOR dev\tsentence", *(f"{name}\tFalse\t{asked[0]}" for name, asked in questions.items())]
        write_text(folder / f"english.{split}.txt", "\n".join(lines) + "\n")


def _tiny_row(name: str, question: str, answer: str, yes_no: str) -> dict[str, Any]:
    start = len(_ARTICLE[: _ARTICLE.index(answer)].encode()) if answer else -1
    place = {"plaintext_start_byte": start, "plaintext_end_byte": start + len(answer) if answer else -1}
    return {
        "annotations": [
            {
                "annotation_id": 1,
                "minimal_answer": place,
                "passage_answer": {"candidate_index": 0 if answer or yes_no != _NONE else -1},
                "yes_no_answer": yes_no,
            }
        ],
        "document_plaintext": _ARTICLE,
        "document_title": "Ben Nevis",
        "document_url": "",
        "example_id": int(name),
        "language": "english",
        "passage_answer_candidates": [{"plaintext_start_byte": 0, "plaintext_end_byte": len(_ARTICLE.encode())}],
        "question_text": question.lower().rstrip("?"),
    }
