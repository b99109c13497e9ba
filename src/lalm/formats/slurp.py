"""SLURP's own JSON lines: data (sentences, tokens, entities, recordings) and predictions, so that its scorer can be run.

Predictions are rows of `scenario`, `action` and `entities` with a `file` (answers to recordings) or a `slurp_id`. A
manifest of predictions is written from `lalm predict`'s file; an answer that could not be read becomes an empty one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from lalm.corpora import slurp as corpus
from lalm.data.intake import Intake
from lalm.data.manifest import json_lines
from lalm.data.problems import Problems
from lalm.errors import DataError
from lalm.formats._files import refuse, split_files
from lalm.languages import Language
from lalm.plugins import PluginConfig
from lalm.records import Frame, Slot, Utterance
from lalm.rundir import write_jsonl

_KEYS = ("slurp_id", "file")


class Config(PluginConfig):
    """Options of the format."""

    kind: Literal["data", "predictions"] = Field("data", description="which of SLURP's two kinds of files")
    audio: Path | None = Field(None, description="folder of the recordings when reading (none: text only)")
    recordings: Literal["headset", "all", "one"] = Field("one", description="which recordings of a sentence are read")
    language: Language = Field("en", description="language of the rows")
    gold: Path | None = Field(
        None,
        description="SLURP data for predictions: sentences when reading, an intent's scenario and action when writing "
        "(none: split at the first _)",
    )


def read(source: str, into: Intake, cfg: Config) -> Iterator[Utterance]:
    """The rows of a file, or of `train`, `devel` and `test` in a folder."""
    sentences = _known_sentences(cfg.gold) if cfg.gold is not None else {}
    for path, split in split_files(source, (".jsonl",)):
        for line, value in json_lines(path, into.problems):
            try:
                if cfg.kind == "predictions":
                    yield _predicted(value, sentences, cfg)
                else:
                    yield from _data(path, value, split, cfg)
            except (KeyError, TypeError, IndexError, AttributeError) as error:
                into.problem(f"{path}, line {line}", f"not a SLURP row ({type(error).__name__}: {error}).")
            except DataError as error:
                into.problem(f"{path}, line {line}", str(error))


def _data(path: Path, value: dict[str, Any], split: Any, cfg: Config) -> Iterator[Utterance]:
    """The rows of a sentence, read as the corpus reads them; `meta.tokens` where blanks do not show the tokens."""
    folder = None if cfg.audio is None else str(cfg.audio.absolute())
    options = corpus.Config(audio=folder, recordings=cfg.recordings, language=cfg.language)
    rows = corpus.rows_of(path.parent, value, split or "train", options)
    tokens = [token["surface"] for token in value["tokens"]]
    for row in rows:
        meta = row.meta if tokens == (row.text or "").split() else {**row.meta, "tokens": tokens}
        yield replace(row, split=split, meta=meta)


def _predicted(value: dict[str, Any], sentences: dict[str, str], cfg: Config) -> Utterance:
    key = next((name for name in _KEYS if name in value), None)
    if key is None:
        raise DataError("has neither 'slurp_id' nor 'file'.")
    slots = tuple(Slot(str(e.get("type", "unknown")), str(e.get("filler", ""))) for e in value["entities"])
    meta = {"scenario": value["scenario"], "action": value["action"], key: value[key]}
    frame = Frame(f"{value['scenario']}_{value['action']}", slots)
    words = value.get("text") or sentences.get(str(value[key]))
    if not words:
        raise DataError("has no 'text'; the option gold=FILE takes sentences from SLURP's data.")
    return Utterance(str(value[key]), str(words), None, frame, cfg.language, meta=meta)


def write(rows: Iterable[Utterance], out: Path, cfg: Config) -> int:
    """One SLURP row a sentence (a manifest's rows that follow each other with one `slurp_id` are one), or a prediction."""
    known = _known_intents(cfg.gold) if cfg.gold is not None else {}
    problems = Problems()
    if cfg.kind == "predictions":
        return write_jsonl(out, (_prediction(row, known) for row in rows))
    groups = groupby(rows, key=lambda row: str(row.meta.get("slurp_id", row.id)))
    return write_jsonl(out, _sentences(groups, known, problems, out))


def _sentences(
    groups: Any, known: dict[str, tuple[str, str]], problems: Problems, out: Path
) -> Iterator[dict[str, Any]]:
    for index, (name, group) in enumerate(groups):
        together = list(group)
        try:
            yield _sentence(name, index, together, known)
        except DataError as error:
            problems.append(f"row '{together[0].id}': {error}")
    refuse(out, problems)


def _sentence(name: str, index: int, rows: list[Utterance], known: dict[str, tuple[str, str]]) -> dict[str, Any]:
    first = rows[0]
    if not first.text:
        raise DataError("has no text, which SLURP's rows need.")
    given = first.meta.get("tokens")
    tokens = [str(one) for one in given] if isinstance(given, list) else first.text.split()
    scenario, action = _scenario_action(first, known)
    return {
        "slurp_id": int(name) if name.isdecimal() and len(name) < 16 else index,
        "sentence": first.text,
        "sentence_annotation": _annotated(tokens, spans := _spans(tokens, first.frame.slots)),
        "intent": first.frame.intent,
        "scenario": scenario,
        "action": action,
        "tokens": [{"surface": word, "id": i} for i, word in enumerate(tokens)],
        "recordings": [{"file": row.audio.name} for row in rows if row.audio is not None],
        "entities": [{"type": kind, "span": span} for kind, span in spans],
    }


def _spans(tokens: list[str], slots: Iterable[Slot]) -> list[tuple[str, list[int]]]:
    """The tokens of each slot's value: the first place where it stands and no slot before has stood."""
    plain = [token.lower() for token in tokens]
    used: set[int] = set()
    found = []
    for slot in slots:
        words = slot.value.lower().split()
        places = [
            list(range(i, i + len(words)))
            for i in range(len(plain) - len(words) + 1)
            if words and plain[i : i + len(words)] == words
        ]
        span = next((place for place in places if not used & set(place)), next(iter(places), None))
        if span is None:
            raise DataError(
                f"slot '{slot.type}': {slot.value!r} does not stand in {' '.join(tokens)!r} as whole words."
            )
        used.update(span)
        found.append((slot.type, span))
    return found


def _annotated(tokens: list[str], spans: list[tuple[str, list[int]]]) -> str:
    words = list(tokens)
    for kind, span in spans:
        words[span[0]] = f"[{kind} : {words[span[0]]}"
        words[span[-1]] += "]"
    return " ".join(words)


def _scenario_action(row: Utterance, known: dict[str, tuple[str, str]]) -> tuple[str, str]:
    if isinstance(row.meta.get("scenario"), str) and isinstance(row.meta.get("action"), str):
        return row.meta["scenario"], row.meta["action"]
    intent = row.frame.intent or ""
    return known.get(intent) or (intent.partition("_")[0], intent.partition("_")[2])


def _known_intents(gold: Path) -> dict[str, tuple[str, str]]:
    """What scenario and action an intent mostly is. Raises DataError."""
    counts: dict[str, Counter[tuple[str, str]]] = {}

    def add(value: dict[str, Any]) -> None:
        counts.setdefault(value["intent"], Counter())[(value["scenario"], value["action"])] += 1

    _every(gold, add)
    return {intent: found.most_common(1)[0][0] for intent, found in counts.items()}


def _known_sentences(gold: Path) -> dict[str, str]:
    """The sentence of every `slurp_id` and of every recording's file. Raises DataError."""
    found: dict[str, str] = {}

    def add(value: dict[str, Any]) -> None:
        found[str(value["slurp_id"])] = value["sentence"]
        found.update({str(one["file"]): value["sentence"] for one in value["recordings"]})

    _every(gold, add)
    return found


def _every(gold: Path, add: Callable[[dict[str, Any]], None]) -> None:
    problems = Problems()
    for line, value in json_lines(gold, problems):
        try:
            add(value)
        except (KeyError, TypeError) as error:
            problems.append(f"{gold}, line {line}: not a SLURP row ({type(error).__name__}: {error}).")
    problems.check(gold)


def _prediction(row: Utterance, known: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """A prediction names its recording by `file`, one that was made from text names its sentence by `slurp_id`."""
    scenario, action = _scenario_action(row, known)
    named = (
        {"file": row.audio.name} if row.audio is not None else {key: row.meta[key] for key in _KEYS if key in row.meta}
    )
    return {
        **({"text": row.text} if row.text else {}),
        "scenario": scenario,
        "action": action,
        "entities": [{"type": slot.type, "filler": slot.value} for slot in row.frame.slots],
        **(named or {"slurp_id": row.id}),
    }
