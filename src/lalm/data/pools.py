"""The rows of a run: text, recordings within the budget, synthetic speech, development and test set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from lalm import plugins
from lalm.config import DataSection
from lalm.data import budget
from lalm.data.manifest import read_manifest
from lalm.errors import DataError
from lalm.records import Utterance


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

    Raises DataError for missing folders, bad rows, an empty pool, a budget that gives no item, or speakers that are in
    training and in test.
    """
    corpus = plugins.load("corpora", data.corpus.name)
    cfg = plugins.configure(corpus, data.corpus.options, "data.corpus")
    if not data.root.exists():
        raise DataError(f"data.root: {data.root} does not exist, so the corpus '{data.corpus.name}' cannot be read.")
    train, dev, test = (list(corpus.read(data.root, split, cfg)) for split in ("train", "dev", "test"))
    text = [replace(row, audio=None, source="text") for row in train if row.text and row.source != "synthetic"]
    recorded = [row for row in train if row.audio is not None and row.source == "recorded"]
    if not text and not recorded:
        raise DataError(f"The corpus '{data.corpus.name}' in {data.root} has no training rows at all.")
    budget.check_speakers_apart(recorded, test)
    speech = budget.draw(
        recorded,
        share=data.speech_share,
        items=data.speech_items,
        minutes=data.speech_minutes,
        seed=data.budget_seed,
    )
    synthetic = []
    if data.synthetic is not None:
        rows = read_manifest(data.synthetic, allow_outside=data.allow_outside_paths)
        synthetic = [row for row in rows if row.audio is not None and row.split in (None, "train")]
    synthetic += [row for row in train if row.audio is not None and row.source == "synthetic"]
    return LoadedPools(
        text=_sample(text, data.num_text, "text rows"),
        speech=speech,
        synthetic=synthetic,
        dev=dev,
        test=_sample(test, data.num_test, "test rows"),
        num_pool_speech=len(recorded),
        pool_speech_s=sum(row.duration_s or 0.0 for row in recorded),
    )


def _sample(rows: Sequence[Utterance], number: int | None, what: str) -> list[Utterance]:
    """`number` rows drawn with a fixed seed, in their own order; the draw of a smaller number is within that of a larger."""
    if number is None:
        return list(rows)
    if number > len(rows):
        raise DataError(f"{number} {what} are asked for and the corpus has {len(rows)}.")
    order = list(range(len(rows)))
    Random(0).shuffle(order)
    return [rows[index] for index in sorted(order[:number])]
