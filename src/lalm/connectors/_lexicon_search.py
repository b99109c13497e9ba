"""CTC prefix beam search over characters, guided by a word list and a small word bigram model.

Hannun et al. 2014 (arXiv 1408.2873, algorithm 1), with a lexicon: a prefix may only grow along words of the list, or,
at a price, spell a word that is not in it. While a word is unfinished it carries the score of the likeliest word
below it in the tree, so that long words are not pruned before they are complete.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

NEVER = -1e30
SPACE = " "


@dataclass(frozen=True)
class SearchConfig:
    """Weights of the search, in natural-log units; chosen on held-out synthetic speech."""

    beam: int = 48
    num_best: int = 16
    lm_weight: float = 0.45
    word_bonus: float = 0.8
    unknown_word: float = -9.0
    unknown_letter: float = -1.2
    blank_skip: float = 0.995  # frames with more blank than this only separate repeated letters
    min_log_prob: float = -7.0


class Lexicon:
    """Word log-probabilities: unigrams from a frequency list, bigrams interpolated with them."""

    def __init__(self, unigrams: Mapping[str, float], bigrams: Mapping[str, Mapping[str, float]]) -> None:
        self.unigrams = dict(unigrams)
        self.bigrams = {first: dict(seconds) for first, seconds in bigrams.items()}
        self.root: dict[str, list] = {}  # letter -> [children, log-probability if a word ends here, best below]
        for word, log_prob in self.unigrams.items():
            children = self.root
            for position, letter in enumerate(word):
                node = children.setdefault(letter, [{}, None, NEVER])
                node[2] = max(node[2], log_prob)
                if position == len(word) - 1:
                    node[1] = log_prob
                children = node[0]

    @classmethod
    def read(cls, path: Path) -> Lexicon:
        """From the gzipped JSON `{"unigrams": {word: logp}, "bigrams": {word: {word: logp}}}`."""
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            value = json.load(stream)
        return cls(value["unigrams"], value["bigrams"])

    def log_prob(self, previous: str, word: str, unknown: float) -> float:
        """log p(word | previous): half bigram, half unigram where the pair is known."""
        unigram = self.unigrams.get(word, unknown)
        bigram = self.bigrams.get(previous, {}).get(word)
        if bigram is None:
            return unigram + math.log(0.5)
        return math.log(0.5 * math.exp(unigram) + 0.5 * math.exp(bigram))


@dataclass
class _Prefix:
    """What is fixed by a prefix's text: its place in the tree, and its language-model scores."""

    node: dict | None  # children that may follow; None while an unknown word is spelled
    word: str
    previous: str
    done: float  # language-model score of the finished words
    open: float  # score of the unfinished word, as far as known
    ends: bool


def search(
    log_probs: np.ndarray, vocabulary: Sequence[str], lexicon: Lexicon, cfg: SearchConfig
) -> list[tuple[str, float]]:
    """The best texts of one recording with their scores, best first.

    log_probs [frames, symbols] are natural logs; symbol 0 is the blank, the others are one character each.
    """
    prefixes: dict[str, _Prefix] = {"": _Prefix(lexicon.root, "", "<s>", 0.0, 0.0, True)}
    beams: dict[str, tuple[float, float]] = {"": (0.0, NEVER)}
    skip = math.log(cfg.blank_skip)
    for frame in log_probs:
        if frame[0] > skip:
            beams = {text: (_add(blank, other) + float(frame[0]), NEVER) for text, (blank, other) in beams.items()}
            continue
        letters = [int(i) for i in np.nonzero(frame > cfg.min_log_prob)[0] if i != 0]
        scores = frame.tolist()
        grown: dict[str, list[float]] = {}
        for text, (blank, other) in beams.items():
            total = _add(blank, other)
            here = grown.setdefault(text, [NEVER, NEVER])
            here[0] = _add(here[0], total + scores[0])
            last = text[-1:] if text else ""
            for index in letters:
                letter = vocabulary[index]
                if letter == last:
                    here[1] = _add(here[1], other + scores[index])
                source = blank if letter == last else total
                if source <= NEVER / 2:
                    continue
                for longer in _extend(text, letter, prefixes, lexicon, cfg):
                    there = grown.setdefault(longer, [NEVER, NEVER])
                    there[1] = _add(there[1], source + scores[index])
        ranked = sorted(grown.items(), key=lambda item: -_rank(item[1], prefixes[item[0]]))
        beams = {text: (pair[0], pair[1]) for text, pair in ranked[: cfg.beam]}
        if len(prefixes) > 50 * cfg.beam:
            prefixes = {text: prefixes[text] for text in beams}
    return _finish(beams, prefixes, lexicon, cfg)


def _extend(text: str, letter: str, prefixes: dict[str, _Prefix], lexicon: Lexicon, cfg: SearchConfig) -> list[str]:
    """The prefix grown by a letter, if words allow it; its state is kept in `prefixes`."""
    longer = text + letter
    if longer in prefixes:
        return [longer]
    state = prefixes[text]
    if letter == SPACE:
        if not state.word or not state.ends:
            return []
        word_score = _word_score(state, lexicon, cfg)
        prefixes[longer] = _Prefix(lexicon.root, "", state.word, state.done + word_score, 0.0, False)
        return [longer]
    child = None if state.node is None else state.node.get(letter)
    if child is not None:
        open_score = cfg.lm_weight * (child[2] + math.log(0.5))
        prefixes[longer] = _Prefix(
            child[0], state.word + letter, state.previous, state.done, open_score, child[1] is not None
        )
        return [longer]
    spelled = len(state.word) + 1
    open_score = cfg.lm_weight * cfg.unknown_word + spelled * cfg.unknown_letter
    prefixes[longer] = _Prefix(None, state.word + letter, state.previous, state.done, open_score, True)
    return [longer]


def _word_score(state: _Prefix, lexicon: Lexicon, cfg: SearchConfig) -> float:
    if state.node is None:
        return state.open + cfg.word_bonus
    return cfg.lm_weight * lexicon.log_prob(state.previous, state.word, cfg.unknown_word) + cfg.word_bonus


def _rank(pair: Sequence[float], state: _Prefix) -> float:
    return _add(pair[0], pair[1]) + state.done + state.open


def _finish(
    beams: Mapping[str, tuple[float, float]], prefixes: Mapping[str, _Prefix], lexicon: Lexicon, cfg: SearchConfig
) -> list[tuple[str, float]]:
    results: dict[str, float] = {}
    for text, (blank, other) in beams.items():
        state = prefixes[text]
        if state.word and not state.ends:
            score = state.done + cfg.lm_weight * cfg.unknown_word + len(state.word) * cfg.unknown_letter
        else:
            score = state.done + (_word_score(state, lexicon, cfg) if state.word else 0.0)
        clean = text.strip()
        results[clean] = max(results.get(clean, NEVER), _add(blank, other) + score)
    return sorted(results.items(), key=lambda item: -item[1])[: cfg.num_best] or [("", 0.0)]


def _add(a: float, b: float) -> float:
    """log(exp(a) + exp(b))."""
    if a < b:
        a, b = b, a
    return a if b <= NEVER / 2 else a + math.log1p(math.exp(b - a))
