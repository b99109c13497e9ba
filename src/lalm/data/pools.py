"""The rows of a run: text, recordings within the budget, synthetic speech, development and test set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from lalm import plugins
from lalm.config import DataSection
from lalm.data import audio, budget
from lalm.data.choosing import by_selector
from lalm.data.joining import joined
from lalm.data.manifest import read_manifest
from lalm.errors import DataError, many
from lalm.records import Utterance

_OTHER_ANSWERS = {"answers", "turns"}  # what question and dialogue rows are labelled with


@dataclass(frozen=True)
class LoadedPools:
    """Rows by use. `num_pool_speech` and `pool_speech_s` describe the recordings before the budget was drawn."""

    text: list[Utterance]
    speech: list[Utterance]
    synthetic: list[Utterance]
    dev: list[Utterance]
    test: list[Utterance]
    num_pool_speech: int
    pool_speech_s: float


def load_pools(data: DataSection) -> LoadedPools:
    """Read the corpus and draw the budget. No samples are decoded.

    Raises DataError for missing folders, bad rows, an empty pool, a budget that gives no item, or speakers or recordings
    that are in training and in test.
    """
    corpus = plugins.load("corpora", data.corpus.name)
    cfg = plugins.configure(corpus, corpus_options(data), "data.corpus")
    if not data.root.exists():
        raise DataError(f"data.root: {data.root} does not exist, so the corpus '{data.corpus.name}' cannot be read.")
    train, dev, test = (list(corpus.read(data.root, split, cfg)) for split in ("train", "dev", "test"))
    text = _text_rows(train)
    recorded = [row for row in train if row.audio is not None and row.source == "recorded"]
    if not text and not recorded:
        raise DataError(f"The corpus '{data.corpus.name}' in {data.root} has no training rows at all.")
    _check_labelled(train, data)
    _check_files_apart([row for row in train if row.audio is not None], test)
    budget.check_speakers_apart(recorded, test)
    text = _sample(text, data.num_text, "text rows")
    choose = by_selector(data.selector, data.budget_seed, text, "data.selector") if data.selector is not None else None
    speech = budget.draw(
        recorded,
        share=data.speech_share,
        items=data.speech_items,
        minutes=data.speech_minutes,
        seed=data.budget_seed,
        choose=choose,
    )
    if data.join_text is not None:
        text = [*text, *joined(text, data.join_text)]
    synthetic = []
    if data.synthetic is not None:
        rows = read_manifest(data.synthetic, allow_outside=data.allow_outside_paths)
        synthetic = [row for row in rows if row.audio is not None and row.split in (None, "train")]
    synthetic += [row for row in train if row.audio is not None and row.source == "synthetic"]
    return LoadedPools(
        text=text,
        speech=speech,
        synthetic=synthetic,
        dev=dev,
        test=_sample(test, data.num_test, "test rows"),
        num_pool_speech=len(recorded),
        pool_speech_s=sum(row.duration_s or 0.0 for row in recorded),
    )


def check_recordings(*pools: LoadedPools) -> None:
    """Decode every recording that would be used to its end, once. Raises DataError that lists all that cannot be used."""
    rows = (row for one in pools for row in (*one.speech, *one.synthetic, *one.dev, *one.test))
    audio.check(row.audio for row in rows if row.audio is not None)


def corpus_options(data: DataSection) -> dict[str, Any]:
    """The options of the recipe's corpus; `data.allow_outside_paths` reaches every corpus that has such an option."""
    options = dict(data.corpus.options)
    fields = plugins.load("corpora", data.corpus.name).Config.model_fields
    if data.allow_outside_paths and "allow_outside_paths" in fields:
        options["allow_outside_paths"] = True
    return options


def _check_files_apart(train: Sequence[Utterance], test: Sequence[Utterance]) -> None:
    """Raises DataError if a recording is trained on and tested."""
    both = {row.audio for row in train} & {row.audio for row in test if row.audio is not None}
    if both:
        raise DataError(f"{many(len(both), 'recording')} in training and in test.", sorted(str(path) for path in both))


def _check_labelled(train: Sequence[Utterance], data: DataSection) -> None:
    """Raises DataError if not one training row says what it means: the label stands in a field of another name, then."""
    extra = {name for row in train for name in row.meta.get("extra", {})}
    if extra & _OTHER_ANSWERS or any(row.frame.intent or row.frame.slots for row in train):
        return
    hint = f" Fields that are not known: {', '.join(sorted(extra))}." if extra else ""
    raise DataError(
        f"{data.root}: none of the {len(train)} training rows has an 'intent' or 'slots', so there is nothing to learn.{hint}"
    )


def _text_rows(train: Sequence[Utterance]) -> list[Utterance]:
    """The labelled sentences: all written rows, and what was said in recordings unless it stands there in writing."""
    written = [row for row in train if row.text and row.audio is None]
    known = {(row.text, row.frame) for row in written}
    for row in train:
        if row.text and row.audio is not None and row.source == "recorded" and (row.text, row.frame) not in known:
            known.add((row.text, row.frame))
            written.append(replace(row, audio=None, source="text"))
    return written


def _sample(rows: Sequence[Utterance], number: int | None, what: str) -> list[Utterance]:
    """`number` rows drawn with a fixed seed, in their own order; the draw of a smaller number is within that of a larger."""
    if number is None:
        return list(rows)
    if number > len(rows):
        raise DataError(f"{number} {what} are asked for and the corpus has {len(rows)}.")
    order = list(range(len(rows)))
    Random(0).shuffle(order)
    return [rows[index] for index in sorted(order[:number])]
