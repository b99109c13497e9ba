"""What selectors look at in a sentence: words, letter n-grams, labels; as units to be covered, and as vectors."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import svds

from lalm.data.covered import spoken_words
from lalm.records import Utterance

_NUM_BUCKETS = 2**14  # columns that features are hashed into


def seeded(rows: Iterable[Utterance], seed: int | None) -> list[Utterance]:
    """The rows in an order that breaks ties and draws samples: by a hash of seed and id.

    So other rows that come or go change nothing in the order of these, and two samples of the same rows are the same.
    """
    return sorted(rows, key=lambda row: (hashlib.sha256(f"{seed or 0}/{row.id}".encode()).digest(), row.id))


def ngrams(row: Utterance, length: int) -> list[str]:
    """The n-grams of a sentence's letters, each once, word boundaries as spaces: a stand-in for its sounds."""
    letters = f" {' '.join(spoken_words(row))} "
    return list(dict.fromkeys(letters[start : start + length] for start in range(len(letters) - length + 1)))


def unit_matrix(
    rows: Sequence[Utterance], weights: Mapping[str, float], length: int
) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Which rows hold which units [rows, units] (ones), and the weight of each unit's kind [units].

    Units are of the kinds `word`, `ngram`, `slot_value`, `label` (intents and slot types); a kind that weighs nothing is
    left out.
    """
    columns: dict[tuple[str, str], int] = {}
    indices: list[int] = []
    ends = [0]
    for row in rows:
        found = {
            "word": spoken_words(row),
            "ngram": ngrams(row, length),
            "slot_value": [f"{slot.type}={slot.value}" for slot in row.frame.slots],
            "label": [f"intent {row.frame.intent or ''}", *(f"slot {slot.type}" for slot in row.frame.slots)],
        }
        units = {(kind, name) for kind, names in found.items() if weights[kind] > 0 for name in names}
        indices += sorted(columns.setdefault(unit, len(columns)) for unit in sorted(units))
        ends.append(len(indices))
    shape = (len(rows), len(columns))
    matrix = sparse.csr_matrix((np.ones(len(indices)), np.array(indices, dtype=np.int32), ends), shape=shape)
    return matrix, np.array([weights[kind] for kind, _ in columns])


def hashed(rows: Sequence[Utterance], length: int, label_weight: float) -> sparse.csr_matrix:
    """tf-idf of words and letter n-grams, and of intent and slot types, hashed, each part of norm 1 [rows, buckets].

    The part of the labels is scaled by `label_weight`. A row lacks a part that it has nothing for.
    """
    text = [
        [f"w {word}" for word in spoken_words(row)] + [f"n {piece}" for piece in ngrams(row, length)] for row in rows
    ]
    intents = [[f"i {row.frame.intent}"] if row.frame.intent else [] for row in rows]
    labels = [
        [*intent, *(f"s {slot.type}" for slot in row.frame.slots)] for row, intent in zip(rows, intents, strict=True)
    ]
    return sparse.hstack([_tfidf(text), label_weight * _tfidf(labels)], format="csr")


def _tfidf(documents: Sequence[Sequence[str]]) -> sparse.csr_matrix:
    names = [name for document in documents for name in document]
    columns = [zlib.crc32(name.encode()) % _NUM_BUCKETS for name in names]  # crc32: the same in every process
    starts = np.cumsum([0, *(len(document) for document in documents)])
    matrix = sparse.csr_matrix((np.ones(len(names)), columns, starts), shape=(len(documents), _NUM_BUCKETS))
    matrix.sum_duplicates()
    times = np.asarray((matrix > 0).sum(axis=0)).ravel()
    matrix = matrix @ sparse.diags(np.log((1 + len(documents)) / (1 + times)) + 1)  # smoothed, as scikit-learn does it
    norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return sparse.csr_matrix(sparse.diags(1 / np.maximum(norms, 1e-12)) @ matrix)


def vectors(matrix: sparse.csr_matrix, fitted_on: Sequence[int], dims: int) -> np.ndarray:
    """The rows in the `dims` directions that hold most of some of them (truncated SVD), each of norm 1 [rows, dims].

    Fewer directions if there are not so many rows to fit them on.
    """
    sample = matrix[list(fitted_on)]
    number = min(dims, len(fitted_on) - 1)
    if number < 1:
        return np.ones((matrix.shape[0], 1))
    _, _, directions = svds(sample, k=number, v0=np.ones(min(sample.shape)) / np.sqrt(min(sample.shape)))
    made = np.asarray(matrix @ directions.T)
    return made / np.maximum(np.linalg.norm(made, axis=1, keepdims=True), 1e-12)
