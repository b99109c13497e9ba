"""Checks that need all rows: what stands in two splits, what contradicts, what is unlike the others."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

import numpy as np

from lalm.data.findings import Problem
from lalm.data.row_checks import LONGEST_S, SHORTEST_S, meant
from lalm.data.rowstore import RowStore, hash64, repeated
from lalm.data.sources import SPLITS

FEWEST_WORDS, MOST_WORDS = 5, 40  # of sentences that are looked at for one that differs by a word
_ODD_FACTOR, _ODD_SPREADS = 3.0, 6.0
_FEWEST_DURATIONS = 20
_STRETCH = 1_000_000
_ROW, _CODE = np.uint32, "I"  # of an index of a row: numpy's type and that of `array`


def check_ids(store: RowStore) -> Iterator[Problem]:
    """Ids that stand in a file twice."""
    for indices in repeated(store.columns()["ids"]):
        first = store.place(int(indices[0]))
        for index in indices[1:]:
            here = store.place(int(index))
            where = "there" if first.line is None else f"on line {first.line}"
            message = f"{here.row!r} stands {where} already; ids must differ."
            yield Problem("id_twice", message, here.file, here.line, here.row, "id", here.row)


def check_texts(store: RowStore) -> Iterator[Problem]:
    """Sentences of dev and test that stand in training, and sentences that have two labels."""
    columns = store.columns()
    for indices in repeated(columns["texts"]):
        splits, labels = columns["splits"][indices], columns["labels"][indices]
        if (splits == 0).any() and (splits > 0).any():
            there = store.place(int(indices[splits == 0][0]))
            for index in indices[splits > 0]:
                split = SPLITS[columns["splits"][index]]
                message = f"the sentence of {split} stands in training too, as {there.row!r}: {there.text!r}."
                yield store.problem("text_in_both", int(index), message, "text", there.text)
        if (labels != labels[0]).any():
            there = store.place(int(indices[0]))
            for index in indices[labels != labels[0]]:
                message = f"{there.text!r} has another label as {there.row!r}."
                yield store.problem("label_conflict", int(index), message, "text", there.text)


def check_recordings(store: RowStore) -> Iterator[Problem]:
    """Recordings that are trained on and tested: the same file, or, where files were decoded, the same sound."""
    columns = store.columns()
    told: set[int] = set()
    for name, what in (("sounds", "the file"), ("contents", "the same sound under another name")):
        for sounds in repeated(columns[name]):
            indices = columns["sound_rows"][sounds]
            splits = columns["splits"][indices]
            if (splits == 0).any() and (splits > 0).any():
                there = store.place(int(indices[splits == 0][0]))
                for index in sorted(set(map(int, indices[splits > 0])) - told):
                    told.add(index)
                    split = SPLITS[columns["splits"][index]]
                    message = f"the recording is in {split} and in training: {what} is that of {there.row!r}."
                    yield store.problem("audio_in_both", index, message, "audio")


class Speakers:
    """In which splits each speaker is heard, and in which row first."""

    def __init__(self) -> None:
        self._heard: dict[str, dict[str, list[int]]] = {}

    def add(self, speaker: str, split: str, index: int) -> None:
        """Take note of a recording: its number and the first of them are kept."""
        seen = self._heard.setdefault(speaker, {}).setdefault(split, [index, 0])
        seen[1] += 1

    def check(self, store: RowStore) -> Iterator[Problem]:
        """Speakers of training who are heard in dev or test."""
        for speaker, splits in self._heard.items():
            for split, check in (("test", "speaker_in_test"), ("dev", "speaker_in_dev")):
                if split in splits and "train" in splits:
                    message = (
                        f"speaker {speaker!r} is heard in training ({splits['train'][1]} rows) and in {split} "
                        f"({splits[split][1]} rows, first this one)."
                    )
                    yield store.problem(check, splits[split][0], message, "speaker", speaker)


class Labels:
    """Labels of training, and rows of dev and test by label."""

    def __init__(self) -> None:
        self._train: dict[str, set[str]] = {"intent": set(), "slot type": set()}
        self._others: dict[tuple[str, str], array[int]] = {}

    def add(self, kind: str, label: str, split: str, index: int) -> None:
        """Take note of an intent or a slot type of a row."""
        if split == "train":
            self._train[kind].add(label)
        else:
            self._others.setdefault((kind, label), array("q")).append(index)

    def check(self, store: RowStore) -> Iterator[Problem]:
        """Labels of dev and test that training does not have; nothing where training has none of their kind."""
        for (kind, label), indices in self._others.items():
            if self._train[kind] and label not in self._train[kind]:
                message = f"no training row has the {kind} {label!r}.{meant(label, tuple(sorted(self._train[kind])))}"
                name = "intent" if kind == "intent" else "slots"
                for index in indices:
                    yield store.problem("label_unseen", index, message, name, label)


class Durations:
    """Lengths of recordings, to find those that are far from all others."""

    def __init__(self) -> None:
        self._rows, self._seconds = array("q"), array("d")

    def add(self, index: int, seconds: float) -> None:
        """Take note of a recording."""
        self._rows.append(index)
        self._seconds.append(seconds)

    def check(self, store: RowStore) -> Iterator[Problem]:
        """Recordings whose length is three times off the middle one, and six spreads of the logarithm off, too.

        The spread is 1.4826 times the median of the distances from the median, which is the standard deviation of a normal
        distribution and is not moved by the outliers themselves.
        """
        if len(self._rows) < _FEWEST_DURATIONS:
            return
        logs = np.log(np.maximum(np.frombuffer(self._seconds), 1e-3))
        middle = float(np.median(logs))
        distances = np.abs(logs - middle)
        limit = max(np.log(_ODD_FACTOR), _ODD_SPREADS * 1.4826 * float(np.median(distances)))
        for number in np.flatnonzero(distances > limit):
            seconds = self._seconds[int(number)]
            if not SHORTEST_S <= seconds <= LONGEST_S:
                continue  # said of the row by itself
            message = f"lasts {seconds:.2f} s, the middle one {np.exp(middle):.2f} s."
            yield store.problem("duration_odd", self._rows[int(number)], message, "audio", f"{seconds:.2f}")


class Near:
    """Sentences that differ from another by one word, put in, left out or replaced: they share a variant with a word less."""

    def __init__(self) -> None:
        self._variants = {True: array("Q"), False: array("Q")}  # of training, of the others
        self._rows = {True: array(_CODE), False: array(_CODE)}

    def add(self, words: str, split: str, index: int) -> None:
        """Take note of a sentence of plain words; short ones are passed over, since a word is much of them."""
        parts = words.split()
        if not FEWEST_WORDS <= len(parts) <= MOST_WORDS:
            return
        variants, rows = self._variants[split == "train"], self._rows[split == "train"]
        variants.append(hash64(words))
        rows.append(index)
        for skip in range(len(parts)):
            variants.append(hash64(" ".join(parts[:skip] + parts[skip + 1 :])))
            rows.append(index)

    def check(self, store: RowStore) -> Iterator[Problem]:
        """Sentences of dev and test with one of training beside them, unless they stand there letter for letter."""
        others = np.frombuffer(self._variants[False], dtype=np.uint64)
        if not len(self._variants[True]) or not len(others):
            return
        texts, splits = store.columns()["texts"], store.columns()["splits"]
        known = np.unique(texts[splits == 0])
        train, rows = self._wanted(np.unique(others))
        if not len(train):
            return
        places = np.minimum(np.searchsorted(train, others), len(train) - 1)
        hits = train[places] == others
        own = np.frombuffer(self._rows[False], dtype=_ROW)
        told: set[int] = set()
        for index, near in zip(own[hits], rows[places[hits]], strict=True):
            if (
                int(index) in told
                or known[min(int(np.searchsorted(known, texts[index])), len(known) - 1)] == texts[index]
            ):
                continue
            told.add(int(index))
            there, here = store.place(int(near)), store.place(int(index))
            message = f"{here.text!r} of {SPLITS[splits[index]]} differs by a word from {there.row!r} of training: {there.text!r}."
            yield Problem("text_near", message, here.file, here.line, here.row, "text", here.text)

    def _wanted(self, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The variants of training that are among `others` (sorted), sorted, and their rows; a stretch after the other."""
        variants = np.frombuffer(self._variants[True], dtype=np.uint64)
        rows = np.frombuffer(self._rows[True], dtype=_ROW)
        found, places = [], []
        for start in range(0, len(variants), _STRETCH):
            part = variants[start : start + _STRETCH]
            near = np.minimum(np.searchsorted(others, part), len(others) - 1)
            wanted = others[near] == part
            found.append(part[wanted])
            places.append(rows[start : start + _STRETCH][wanted])
        order = np.argsort(np.concatenate(found), kind="stable")
        return np.concatenate(found)[order], np.concatenate(places)[order]
