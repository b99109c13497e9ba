"""ASK-QA: questions about a passage in a dialogue, some of them ambiguous, made from Abg-CoQA's text; spoken by `lalm data synth`.

Abg-CoQA (Guo et al., AKBC 2021) took questions of CoQA, said which are ambiguous, and wrote what to ask back with the replies
of the user and the answer after each. ASK-QA (arXiv 2412.15995, section 3.1) speaks it, with voices for narrator, user and
assistant; its recordings are not published, so they are made here:

    lalm data synth --corpus ask_qa --root abg-coqa --engine flite --engine espeak_ng --out speech

Layout of the text: `coqa_abg_train.json`, `coqa_abg_val.json`, `coqa_abg_test.json`, each `{"data": [...]}` of items with `story`,
`history_turns`, `target_turn`, `ambiguity` and `clarification_turn`, for some `clarification_turn_2` and so on. A folder that
`lalm data synth` made is read as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from lalm.corpora._complete import CHECK_COUNTS, check_count
from lalm.corpora._dialogues import MANIFEST, as_question, checked, spoken_rows, turns_of
from lalm.data.dialogue_checks import stands_in
from lalm.data.fields import shown
from lalm.data.problems import Problems
from lalm.errors import DataError
from lalm.plugins import PluginConfig
from lalm.records import Clarification, Turn, Utterance
from lalm.rundir import read_json, write_json

LICENCE = "annotations MIT; passages from CoQA under their own terms (some non-commercial)"
# Section 3.1 of arXiv 2412.15995. Its 500 dialogues for validation are part of a file that holds more, so they are a lower bound.
NUM_ROWS = {"train": 5985, "dev": 500, "test": 1345}
_ANSWERS = ("org_ans", "org_ans_2", "org_ans_3")  # of a reply; the first is always there


class Config(PluginConfig):
    """Options of the corpus."""

    train: str = Field("coqa_abg_train.json", description="file of the training dialogues")
    dev: str | None = Field("coqa_abg_val.json", description="file of the development dialogues (none: no such set)")
    test: str = Field("coqa_abg_test.json", description="file of the test dialogues")
    check_counts: bool = Field(True, description=CHECK_COUNTS)
    check_spans: bool = Field(True, description="check that the rationale of an answer stands in its passage")
    allow_outside_paths: bool = Field(False, description="let audio paths leave the folder of a spoken corpus")


def read(root: Path, split: str, cfg: Config) -> Iterator[Utterance]:
    """The dialogues of a split: written ones from Abg-CoQA's files (or one of them), spoken ones from a folder with a manifest.

    Raises DataError that lists every dialogue which is malformed: a turn or a field that is missing, a history that refers to
    its own turn or to a later one, a rationale that is not in the passage, a clarification without replies or answers.
    """
    if (root / MANIFEST).is_file():
        yield from spoken_rows(root / MANIFEST, split, cfg.allow_outside_paths)
        return
    name = {"train": cfg.train, "dev": cfg.dev, "test": cfg.test}[split]
    if root.is_file():
        if root.name not in (cfg.train, cfg.dev, cfg.test):
            raise DataError(
                f"{root}: a single file is one of {cfg.train}, {cfg.dev} and {cfg.test}, which says its split; the options "
                "train, dev and test give them other names."
            )
        if root.name != name:
            return
    if name is None:
        return
    path = root if root.is_file() else root / name
    items = _items(path)
    stated = NUM_ROWS[split]
    check_count(path, len(items), max(len(items), stated) if split == "dev" else stated, cfg.check_counts)
    problems = Problems()
    seen: set[str] = set()
    for index, item in enumerate(items):
        try:
            row = row_of(item, split, cfg.check_spans)
            if row.id in seen:
                raise DataError("has an id that stands there already; ids must differ.")
            seen.add(row.id)
            yield row
        except DataError as error:
            identity = item.get("id") if isinstance(item, dict) else None
            problems.append(f"{path}, data[{index}]: row {shown(identity)} {error}")
    problems.check(path)


def row_of(item: Any, split: Any, check_spans: bool = True) -> Utterance:
    """The row of an item of Abg-CoQA. Raises DataError that says everything that is wrong with it."""
    if not isinstance(item, dict):
        raise DataError("is no object; a dialogue with 'story' and 'target_turn' is needed.")
    problems: list[str] = []
    identity, story = _text(item, "id", problems), _text(item, "story", problems)
    target = _turn(item.get("target_turn"), "target_turn", problems)
    history = item.get("history_turns")
    if not isinstance(history, list):
        problems.append(f"field 'history_turns' is {shown(history)}, a list of turns is needed.")
        history = []
    turns = [_turn(turn, f"history_turns[{index}]", problems) for index, turn in enumerate(history)]
    problems += [] if problems else _references(turns, target)
    if check_spans and not problems:
        problems += _rationale(target, story)
    clarification = _clarification(item, problems)
    if problems:
        raise DataError(" ".join(problems))
    turns.sort(key=lambda turn: turn["turn_id"])
    row = Utterance(
        id=identity,
        split=split,
        turns=turns_of(story, [(turn["question"], turn["answer"]) for turn in turns], target["question"]),
        answers=(target["answer"].strip(),) if clarification is None else (),
        clarification=clarification,
        meta={"passage": identity.partition("|")[0], "topic": item.get("source")},
    )
    return checked(row)


def _items(path: Path) -> list[Any]:
    if not path.is_file():
        raise DataError(
            f"{path}: there is no such file. Abg-CoQA's files, or a folder of `lalm data synth`, are needed."
        )
    value = read_json(path)
    if not isinstance(value, dict) or not isinstance(value.get("data"), list):
        raise DataError(f'{path}: {{"data": [...]}} is needed, a list of dialogues.')
    items: list[Any] = value["data"]
    return items


def _text(item: dict[str, Any], name: str, problems: list[str], where: str = "") -> str:
    found = item.get(name)
    if isinstance(found, str) and found.strip():
        return found
    problems.append(f"field '{where}{name}' is {shown(found)}, a string that is not empty is needed.")
    return ""


def _turn(value: Any, where: str, problems: list[str]) -> dict[str, Any]:
    """A turn with `turn_id`, `question` and `answer`."""
    if not isinstance(value, dict):
        problems.append(f"field '{where}' is {shown(value)}: the turn is missing.")
        return {}
    number = value.get("turn_id")
    if isinstance(number, bool) or not isinstance(number, int):
        problems.append(f"field '{where}.turn_id' is {shown(number)}, a whole number is needed.")
    for name in ("question", "answer"):
        _text(value, name, problems, f"{where}.")
    return value


def _references(history: list[dict[str, Any]], target: dict[str, Any]) -> list[str]:
    """What is wrong with the numbers of turns: a dialogue goes forward, so a history holds earlier turns alone, each once."""
    problems = []
    last, seen = target["turn_id"], set()
    for number in (turn["turn_id"] for turn in history):
        if number == last:
            problems.append(f"has a history that refers to turn {number}, which is the request itself.")
        elif number > last:
            problems.append(f"has a history that refers to turn {number}, which comes after the request, turn {last}.")
        elif number in seen:
            problems.append(f"has turn {number} twice in its history.")
        seen.add(number)
    return problems


def _rationale(target: dict[str, Any], story: str) -> list[str]:
    """What is wrong with the span of an answer; a start below 0 says that the passage does not hold it."""
    words, start = target.get("rationale"), target.get("span_start")
    if not isinstance(words, str) or not isinstance(start, int) or start < 0 or not words.strip():
        return []
    joined = " ".join(words.split())
    if joined in " ".join(story.split()) or stands_in(joined, story):
        return []
    return [
        f"field 'target_turn.rationale' is {shown(words)}, which does not stand in the story. (check_spans: false allows it.)"
    ]


def _clarification(item: dict[str, Any], problems: list[str]) -> Clarification | None:
    """What to ask back. Of several clarifications the first is taken: each has replies of its own."""
    kind = item.get("ambiguity")
    if kind not in ("ambiguous", "non_ambiguous"):
        problems.append(f"field 'ambiguity' is {shown(kind)}; allowed: ambiguous, non_ambiguous.")
        return None
    value = item.get("clarification_turn")
    if kind == "non_ambiguous":
        if value:
            problems.append("has a 'clarification_turn' and is non_ambiguous.")
        return None
    if not isinstance(value, dict) or not value:
        problems.append(f"is ambiguous, and its 'clarification_turn' is {shown(value)}: the turn is missing.")
        return None
    question = _text(value, "question", problems, "clarification_turn.")
    given = value.get("answers")
    if not isinstance(given, list) or not given:
        problems.append(f"field 'clarification_turn.answers' is {shown(given)}, a list of replies is needed.")
        given = []
    replies = []
    for index, reply in enumerate(given):
        where = f"clarification_turn.answers[{index}]"
        if not isinstance(reply, dict):
            problems.append(f"field '{where}' is {shown(reply)}, an object is needed.")
            continue
        words = _text(reply, "clr_ans", problems, f"{where}.")
        _text(reply, "org_ans", problems, f"{where}.")
        found = [reply.get(name) for name in _ANSWERS]
        right = dict.fromkeys(text.strip() for text in found if isinstance(text, str) and text.strip())
        replies.append((Turn("user", words.strip()), tuple(right)))
    return Clarification(as_question(question), tuple(replies))


def make_tiny(root: Path, seed: int) -> None:
    """Two dialogues a file, one of them ambiguous, in Abg-CoQA's layout; no sound."""
    for number, (split, name) in enumerate((("train", "Ann"), ("val", "Bea"), ("test", "Eve"))):
        story = f"{name} has two cats. The black cat is called Tom and the white cat is called Kit.\n\nTom sleeps on the sofa."
        history = [
            {"turn_id": 1, "question": "Who has cats?", "answer": name, "rationale": f"{name} has two cats"},
            {"turn_id": 2, "question": "How many?", "answer": "two", "rationale": "two cats"},
        ]
        clear: dict[str, Any] = {
            "turn_id": 3,
            "question": "Where does Tom sleep?",
            "answer": "the sofa",
            "rationale": "on the sofa",
        }
        unclear: dict[str, Any] = {
            "turn_id": 3,
            "question": "What is it called?",
            "answer": "Tom",
            "rationale": "called Tom",
        }
        asked = {
            "question": "Which cat do you mean",
            "answers": [
                {"clr_ans": "The black one.", "org_ans": "Tom", "org_ans_2": "it is called Tom"},
                {"clr_ans": "The white one.", "org_ans": "Kit"},
            ],
        }
        items: list[dict[str, Any]] = []
        cases: list[tuple[dict[str, Any], dict[str, Any]]] = [(clear, {}), (unclear, asked)]
        for index, (turn, clarification) in enumerate(cases):
            start = story.index(str(turn["rationale"]))
            span = {"span_start": start, "span_end": start + len(str(turn["rationale"]))}
            items.append(
                {
                    "id": f"{seed}{number}{index}|3|{len(history)}",
                    "story": story,
                    "target_turn": {**turn, **span},
                    "history_turns": history,
                    "ambiguity": "ambiguous" if clarification else "non_ambiguous",
                    "clarification_turn": clarification,
                    "source": "tiny",
                }
            )
        write_json(root / f"coqa_abg_{split}.json", {"version": "1.0", "data": items})
