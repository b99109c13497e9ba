"""The rows of a run: text, recordings within the budget, synthetic speech, development and test set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from lalm import plugins
from lalm.config import DataSection
from lalm.data import audio, budget, by_language
from lalm.data.choosing import by_selector
from lalm.data.dialogue import all_recordings, heard_s, in_writing, is_labelled
from lalm.data.joining import joined
from lalm.data.manifest import read_manifest
from lalm.errors import DataError, many
from lalm.records import UNKNOWN_FIELDS, Utterance


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
    if data.languages is not None:
        by_language.check_there(data, {row.language for row in train})
        train = [row for row in train if row.language in data.languages]
    text = _text_rows(train, data.budget_sources)
    recorded = [row for row in train if row.recordings and row.source in data.budget_sources]
    if not text and not recorded:
        raise DataError(f"The corpus '{data.corpus.name}' in {data.root} has no training rows at all.")
    _check_labelled(train, data)
    _check_files_apart(train, test, "in training and in test")
    _check_files_apart(train, dev, "in training and in the development set")
    _check_files_apart(dev, test, "in the development set and in test")
    budget.check_speakers_apart(recorded, test)
    text, speech = (_draw if data.languages is None else by_language.draw)(text, recorded, data)
    if data.join_text is not None:
        own = by_language.of_languages(text).values()
        text = [*text, *(new for rows in own for new in joined(rows, data.join_text))]
    synthetic = []
    if data.synthetic is not None:
        rows = read_manifest(data.synthetic, allow_outside=data.allow_outside_paths)
        synthetic = [row for row in rows if row.recordings and row.split in (None, "train")]
        synthetic = [row for row in synthetic if data.languages is None or row.language in data.languages]
        _check_sentences_apart(synthetic, test)
        _check_files_apart(synthetic, test, "in data.synthetic and in test")
        _check_files_apart(synthetic, dev, "in data.synthetic and in the development set")
        budget.check_speakers_apart(synthetic, test)
    synthetic += [row for row in train if row.recordings and row.source not in ("recorded", *data.budget_sources)]
    if _states_text(data):
        synthetic = _of_text(synthetic, text)
    return LoadedPools(
        text=text,
        speech=speech,
        synthetic=synthetic,
        dev=dev,
        test=_sample(test, data.num_test, "test rows"),
        num_pool_speech=len(recorded),
        pool_speech_s=sum(heard_s(row) or 0.0 for row in recorded),
    )


def _draw(
    text: Sequence[Utterance], recorded: Sequence[Utterance], data: DataSection
) -> tuple[list[Utterance], list[Utterance]]:
    """Text rows and recordings under one budget, whatever their languages."""
    text = _sample(text, data.num_text, "text rows")
    choose = by_selector(data.selector, data.budget_seed, text, "data.selector") if data.selector is not None else None
    speech = budget.draw_stated(recorded, data, data.budget_seed, choose)
    return text, speech


def check_recordings(*pools: LoadedPools) -> None:
    """Decode every recording that would be used to its end, once. Raises DataError that lists all that cannot be used."""
    rows = (row for one in pools for row in (*one.speech, *one.synthetic, *one.dev, *one.test))
    audio.check(path for row in rows for path in all_recordings(row))


def corpus_options(data: DataSection) -> dict[str, Any]:
    """The options of the recipe's corpus; `data.allow_outside_paths` reaches every corpus that has such an option."""
    options = dict(data.corpus.options)
    fields = plugins.load("corpora", data.corpus.name).Config.model_fields
    if data.allow_outside_paths and "allow_outside_paths" in fields:
        options["allow_outside_paths"] = True
    return options


def _check_files_apart(first: Sequence[Utterance], second: Sequence[Utterance], where: str) -> None:
    """Raises DataError if a recording is in both, under whatever name."""
    heard = {path.resolve() for row in first for path in all_recordings(row)}
    both = heard & {path.resolve() for row in second for path in all_recordings(row)}
    if both:
        raise DataError(f"{many(len(both), 'recording')} {where}.", sorted(str(path) for path in both))


def _check_sentences_apart(synthetic: Sequence[Utterance], test: Sequence[Utterance]) -> None:
    """Raises DataError if `data.synthetic` speaks sentences, in whatever language, that are tested (by `slurp_id`, where rows have it)."""
    tested = {str(row.meta["slurp_id"]): row.id for row in test if "slurp_id" in row.meta}
    both = [
        f"slurp_id {row.meta['slurp_id']}: {row.id} in data.synthetic, {tested[str(row.meta['slurp_id'])]} in the test"
        for row in synthetic
        if str(row.meta.get("slurp_id")) in tested
    ]
    if both:
        raise DataError(f"{many(len(both), 'row')} of data.synthetic of sentences that are tested.", both)


def _states_text(data: DataSection) -> bool:
    return data.num_text is not None or any(one.num_text is not None for one in (data.languages or {}).values())


def _of_text(synthetic: Sequence[Utterance], text: Sequence[Utterance]) -> list[Utterance]:
    """Synthetic speech of the text that a budget left: what it speaks would be text beyond it else."""
    said = {_said(row) for row in text}
    return [row for row in synthetic if row.text is None or _said(row) in said]


def _said(row: Utterance) -> tuple[str, str]:
    return row.language, " ".join((row.text or "").casefold().split())


def _check_labelled(train: Sequence[Utterance], data: DataSection) -> None:
    """Raises DataError if not one training row says what it means: the label stands in a field of another name, then."""
    if any(is_labelled(row) for row in train):
        return
    extra = {name for row in train for name in row.meta.get(UNKNOWN_FIELDS, {})}
    hint = f" Fields that are not known: {', '.join(sorted(extra))}." if extra else ""
    raise DataError(
        f"{data.root}: none of the {len(train)} training rows has an 'intent', 'slots' or 'answers', so there is nothing to learn.{hint}"
    )


def _text_rows(train: Sequence[Utterance], sources: Sequence[str]) -> list[Utterance]:
    """The labelled sentences and dialogues: all written rows, and what was said in recordings (those that a budget is drawn
    from) unless that stands in writing."""
    written = [row for row in train if (row.text or row.turns) and not row.recordings]
    known = {_in_words(row) for row in written}
    for row in train:
        twin = in_writing(row) if row.recordings and row.source in sources else None
        if twin is not None and _in_words(twin) not in known:
            known.add(_in_words(twin))
            written.append(twin)
    return written


def _in_words(row: Utterance) -> tuple[Any, ...]:
    """All that a row says, its recordings aside."""
    said = tuple((turn.role, turn.text) for turn in row.turns)
    return row.language, row.text, row.frame, said, row.context, row.question, row.answers


def _sample(rows: Sequence[Utterance], number: int | None, what: str) -> list[Utterance]:
    """`number` rows drawn with a fixed seed, in their own order; the draw of a smaller number is within that of a larger."""
    if number is None:
        return list(rows)
    if number > len(rows):
        raise DataError(f"{number} {what} are asked for and the corpus has {len(rows)}.")
    order = list(range(len(rows)))
    Random(0).shuffle(order)
    return [rows[index] for index in sorted(order[:number])]
