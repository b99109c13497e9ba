"""SLURP: commands to a home assistant, 18 scenarios, with intents and entities; text here, recordings where you have them.

Bastianelli et al. 2020. Layout: `train.jsonl`, `devel.jsonl`, `test.jsonl` (sentence, tokens, entities as token spans,
scenario, action, intent, recordings) and, fetched apart, a folder of recordings. Text CC BY 4.0, recordings
CC BY-NC 4.0. `intent` is not always scenario_action, so both are kept in `meta`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile
from pydantic import Field, PositiveInt, model_validator

from lalm.data.budget import balanced_order
from lalm.data.manifest import json_lines, resolve
from lalm.data.recordings import with_durations
from lalm.errors import DataError, many
from lalm.languages import Language
from lalm.plugins import PluginConfig
from lalm.records import Frame, Slot, Utterance
from lalm.rundir import write_jsonl

LICENCE = "text CC-BY-4.0, recordings CC-BY-NC-4.0 (non-commercial)"
NUM_ROWS = {"train.jsonl": 11514, "devel.jsonl": 2033, "test.jsonl": 2974}


class Config(PluginConfig):
    """Options of the corpus."""

    train: str = Field("train.jsonl", description="file of the training rows")
    dev: str | None = Field("devel.jsonl", description="file of the development rows (none: no development set)")
    test: str = Field("test.jsonl", description="file of the test rows")
    test_size: PositiveInt | None = Field(
        None,
        description="rows of the test set, drawn by id from the one file that `train` and `test` name (none: two files)",
    )
    split_seed: int = Field(0, description="seed of that draw")
    scenario_action: bool = Field(
        False, description="intents are scenario_action, as the official scorer has them and MASSIVE writes them"
    )
    audio: str | None = Field(None, description="folder of the recordings, within the corpus (none: text only)")
    recordings: Literal["headset", "all", "one"] = Field(
        "one", description="which recordings of a sentence: one, all, or headset ones"
    )
    language: Language = Field("en", description="language of the rows (MASSIVE uses the same layout)")

    @model_validator(mode="after")
    def _one_file_is_split(self) -> Config:
        if (self.train == self.test) != (self.test_size is not None):
            raise ValueError("one file is split between training and test by test_size, two files without it")
        return self


def read(root: Path, split: str, cfg: Config) -> Iterator[Utterance]:
    """Sentences (and their recordings, if `audio` is given). The test set of a text-only corpus is its sentences.

    Raises DataError for missing files, bad rows and recordings that are named and not there, all of them listed.
    """
    name = {"train": cfg.train, "dev": cfg.dev, "test": cfg.test}[split]
    if name is None:
        return
    path = root / name
    problems: list[str] = []
    rows: list[Utterance] = []
    sentences: list[Utterance] = []  # every one of them, whether there is a recording of it or not
    for number, value in json_lines(path, problems):
        try:
            sentences += rows_of(root, value, split, cfg.model_copy(update={"audio": None}))
            rows += rows_of(root, value, split, cfg) if cfg.audio is not None else sentences[-1:]
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            problems.append(f"{path}, line {number}: not a SLURP row ({type(error).__name__}: {error}).")
        except DataError as error:
            problems.append(f"{path}, line {number}: {error}")
    times = Counter(row.id for row in rows)
    problems += [
        f"{path}: the id {name!r} stands there {n} times; ids must differ." for name, n in times.items() if n > 1
    ]
    if problems:
        raise DataError(f"{path}: {many(len(problems), 'problem')}.", problems)
    if cfg.test_size is not None and split != "dev":
        tested = _tested(sentences, path, cfg.test_size, cfg.split_seed)
        rows = [row for row in rows if (str(row.meta["slurp_id"]) in tested) == (split == "test")]
    yield from with_durations(rows, path)


def _tested(sentences: list[Utterance], path: Path, number: int, seed: int) -> set[str]:
    """The ids of the sentences that are tested: a draw with intents and slot types in their shares. Raises DataError."""
    if len(sentences) <= number:
        raise DataError(
            f"{path}: data.corpus.test_size: {number} of {len(sentences)} sentences leave none to train on."
        )
    return {row.id for row in balanced_order(sentences, seed)[:number]}


def rows_of(root: Path, value: dict[str, Any], split: Any, cfg: Config) -> list[Utterance]:
    """The sentence of a parsed line and the recordings that are wanted of it. Raises what a malformed line raises."""
    for field in ("sentence", "intent", "scenario", "action"):
        if not isinstance(value[field], str):
            raise DataError(f"field '{field}' is {value[field]!r}, a string is needed.")
    words = [token["surface"].lower() for token in value["tokens"]]
    for entity in value["entities"]:
        if not entity["span"] or not all(0 <= place < len(words) for place in entity["span"]):
            raise DataError(
                f"field 'entities': the span {entity['span']} of '{entity['type']}' is none of the {len(words)} tokens."
            )
    slots = tuple(Slot(e["type"], " ".join(words[i] for i in e["span"])) for e in value["entities"])
    if not all(isinstance(slot.type, str) for slot in slots):
        raise DataError(f"field 'entities' is {value['entities']!r}, strings as types are needed.")
    meta = {"scenario": value["scenario"], "action": value["action"], "slurp_id": value["slurp_id"]}
    intent = f"{value['scenario']}_{value['action']}" if cfg.scenario_action else value["intent"]
    frame = Frame(intent, slots)
    base = Utterance(
        str(value["slurp_id"]),
        value["sentence"],
        None,
        frame,
        language=cfg.language,
        split=split,
        source="text",
        meta=meta,
    )
    if cfg.audio is None:
        return [base]
    names = [item["file"] for item in value["recordings"]]
    if cfg.recordings == "headset":
        names = [name for name in names if "headset" in name]
    names = names[:1] if cfg.recordings == "one" else names
    spoken = []
    for name in names:
        audio, problem = resolve(root / cfg.audio, name, allow_outside=False)
        if problem:
            raise DataError(problem)
        spoken.append(
            Utterance(
                Path(name).stem,
                value["sentence"],
                audio,
                frame,
                cfg.language,
                split=split,
                source="recorded",
                meta=meta,
            )
        )
    return [base, *spoken] if split == "train" else spoken


def make_tiny(root: Path, seed: int) -> None:
    """Four sentences a file, one recording of noise each."""
    rng = np.random.default_rng(seed)
    (root / "audio").mkdir(parents=True, exist_ok=True)
    sentences: tuple[tuple[str, str, str, list[tuple[str, list[int]]]], ...] = (
        ("wake me at seven", "alarm", "set", [("time", [3])]),
        ("play some jazz", "play", "music", [("music_genre", [2])]),
        ("what is the weather in rome", "weather", "query", [("place_name", [5])]),
        ("mute the speakers", "audio", "volume_mute", []),
    )
    for file_number, name in enumerate(NUM_ROWS):
        rows = []
        for index, (sentence, scenario, action, entities) in enumerate(sentences):
            number = 10 * file_number + index
            recording = f"audio-{number}-headset.flac"
            soundfile.write(root / "audio" / recording, 0.1 * rng.standard_normal(8000), 16_000)
            rows.append(
                {
                    "slurp_id": number,
                    "sentence": sentence,
                    "sentence_annotation": sentence,
                    "intent": f"{scenario}_{action}",
                    "scenario": scenario,
                    "action": action,
                    "tokens": [{"surface": word, "id": i} for i, word in enumerate(sentence.split())],
                    "recordings": [{"file": recording, "wer": 0.0, "ent_wer": 0.0, "status": "correct"}],
                    "entities": [{"type": kind, "span": span} for kind, span in entities],
                }
            )
        write_jsonl(root / name, rows)
