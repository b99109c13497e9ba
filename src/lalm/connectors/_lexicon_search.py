"""CTC prefix beam search over phones, along a word list with pronunciations and a small word bigram model.

Hannun et al. 2014 (arXiv 1408.2873, algorithm 1), with a lexicon: a hypothesis is the words so far and the phones of an
unfinished word, which may only grow along pronunciations of the list. The unfinished word carries the score of the
likeliest word below it in the tree, so that long and rare words are not pruned before they are complete.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

NEVER = -1e30
NUM_HOMOPHONES = 4


@dataclass(frozen=True)
class SearchConfig:
    """Weights of the search, in natural-log units; chosen on recorded prompts (docs/models.md)."""

    beam: int = 64
    num_best: int = 16
    lm_weight: float = 0.6
    word_bonus: float = 0.8
    unfinished: float = -8.0  # a word that the recording cuts off is dropped at this price
    blank_skip: float = 0.99  # frames with more blank than this only separate repeated phones
    min_log_prob: float = -7.0
    temperature: float = 1.5  # posteriors are flattened by it first: a head is surer than it should be


@dataclass(slots=True)
class _Node:
    """A place in the tree of pronunciations: phones that may follow, words that end here, the best score below."""

    children: dict[str, _Node] = field(default_factory=dict)
    words: list[tuple[str, float]] = field(default_factory=list)
    best: float = NEVER


class Lexicon:
    """Words with log-probabilities and pronunciations; bigrams interpolated with the unigrams."""

    def __init__(
        self,
        unigrams: Mapping[str, float],
        bigrams: Mapping[str, Mapping[str, float]],
        pronunciations: Mapping[str, Sequence[str]],
    ) -> None:
        self.unigrams = dict(unigrams)
        self.bigrams = {first: dict(seconds) for first, seconds in bigrams.items()}
        self.pronunciations = {word: tuple(sounds) for word, sounds in pronunciations.items()}

    @cached_property
    def root(self) -> _Node:
        """The tree of pronunciations; made when something is searched for, since that takes a second."""
        root = _Node()
        for word, sounds in self.pronunciations.items():
            for sound in sounds:
                self._add(root, word, sound, self.unigrams[word])
        return root

    def _add(self, root: _Node, word: str, sound: str, log_prob: float) -> None:
        node = root
        for phone in sound:
            below = node.children.get(phone)
            if below is None:
                below = node.children[phone] = _Node()
            node = below
            node.best = max(node.best, log_prob)
        if sound:
            node.words = sorted([*node.words, (word, log_prob)], key=lambda item: -item[1])[:NUM_HOMOPHONES]

    @classmethod
    def read(cls, path: Path) -> Lexicon:
        """From the gzipped JSON `{"unigrams": {word: logp}, "bigrams": {word: {word: logp}}, "pronunciations": {word: [..]}}`."""
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            value = json.load(stream)
        return cls(value["unigrams"], value["bigrams"], value["pronunciations"])

    def phones(self, text: str) -> str | None:
        """The usual pronunciation of a text in plain words; None if a word is not in the list."""
        words = text.split()
        if any(word not in self.pronunciations for word in words):
            return None
        return "".join(self.pronunciations[word][0] for word in words)

    def log_prob(self, previous: str, word: str) -> float:
        """log p(word | previous): half bigram, half unigram where the pair is known."""
        unigram = self.unigrams[word]
        bigram = self.bigrams.get(previous, {}).get(word)
        if bigram is None:
            return unigram + math.log(0.5)
        return math.log(0.5 * math.exp(unigram) + 0.5 * math.exp(bigram))


@dataclass(slots=True)
class _State:
    """What is fixed by a hypothesis: its place in the tree, its last word and phone, the score of finished words."""

    node: _Node
    previous: str
    last_phone: str
    done: float
    ahead: float  # score of the unfinished word, as far as known


_Key = tuple[str, str]  # finished words, phones of the unfinished one


def search(
    log_probs: np.ndarray, vocabulary: Sequence[str], lexicon: Lexicon, cfg: SearchConfig
) -> list[tuple[str, float]]:
    """The best texts of one recording with their scores, best first.

    log_probs [frames, symbols] are natural logs; symbol 0 is the blank, the others are one phone each.
    """
    log_probs = log_probs / cfg.temperature
    log_probs = log_probs - np.logaddexp.reduce(log_probs, axis=-1, keepdims=True)
    states: dict[_Key, _State] = {("", ""): _State(lexicon.root, "<s>", "", 0.0, 0.0)}
    beams: dict[_Key, tuple[float, float]] = {("", ""): (0.0, NEVER)}
    skip = math.log(cfg.blank_skip)
    for frame in log_probs:
        if frame[0] > skip:
            beams = {key: (_add(blank, other) + float(frame[0]), NEVER) for key, (blank, other) in beams.items()}
            continue
        likely = np.nonzero(frame > cfg.min_log_prob)[0].tolist()
        phones = [(vocabulary[i], float(frame[i])) for i in likely if i != 0]
        grown: dict[_Key, list[float]] = {}
        for key, (blank, other) in beams.items():
            state, total = states[key], _add(blank, other)
            here = grown.setdefault(key, [NEVER, NEVER])
            here[0] = _add(here[0], total + float(frame[0]))
            for phone, score in phones:
                repeats = phone == state.last_phone
                if repeats:
                    here[1] = _add(here[1], other + score)
                source = blank if repeats else total
                if source <= NEVER / 2:
                    continue
                for longer in _extend(key, phone, states, lexicon, cfg):
                    there = grown.setdefault(longer, [NEVER, NEVER])
                    there[1] = _add(there[1], source + score)
        ranked = sorted(grown.items(), key=lambda item: -_rank(item[1], states[item[0]]))
        beams = {key: (pair[0], pair[1]) for key, pair in ranked[: cfg.beam]}
        if len(states) > 100 * cfg.beam:
            states = {key: states[key] for key in beams}
    return _finish(beams, states, lexicon, cfg)


def _extend(key: _Key, phone: str, states: dict[_Key, _State], lexicon: Lexicon, cfg: SearchConfig) -> list[_Key]:
    """Hypotheses that one more phone leads to: the word goes on, or it ends and another begins."""
    text, partial = key
    state = states[key]
    found: list[_Key] = []
    child = state.node.children.get(phone)
    if child is not None:
        longer = (text, partial + phone)
        if longer not in states:
            states[longer] = _State(child, state.previous, phone, state.done, cfg.lm_weight * child.best)
        found.append(longer)
    first = lexicon.root.children.get(phone) if partial else None
    if first is not None:
        for word, _ in state.node.words:
            longer = (f"{text} {word}", phone)
            if longer not in states:
                done = state.done + _word_score(state, word, lexicon, cfg)
                states[longer] = _State(first, word, phone, done, cfg.lm_weight * first.best)
            found.append(longer)
    return found


def _word_score(state: _State, word: str, lexicon: Lexicon, cfg: SearchConfig) -> float:
    return cfg.lm_weight * lexicon.log_prob(state.previous, word) + cfg.word_bonus


def _rank(pair: Sequence[float], state: _State) -> float:
    return _add(pair[0], pair[1]) + state.done + state.ahead


def _finish(
    beams: Mapping[_Key, tuple[float, float]], states: Mapping[_Key, _State], lexicon: Lexicon, cfg: SearchConfig
) -> list[tuple[str, float]]:
    results: dict[str, float] = {}
    for key, (blank, other) in beams.items():
        text, partial = key
        state, total = states[key], _add(blank, other)
        ends = [(f"{text} {word}", _word_score(state, word, lexicon, cfg)) for word, _ in state.node.words if partial]
        for words, score in ends or [(text, cfg.unfinished if partial else 0.0)]:
            clean = words.strip()
            results[clean] = max(results.get(clean, NEVER), total + state.done + score)
    return sorted(results.items(), key=lambda item: -item[1])[: cfg.num_best] or [("", 0.0)]


def _add(a: float, b: float) -> float:
    """log(exp(a) + exp(b))."""
    if a < b:
        a, b = b, a
    return a if b <= NEVER / 2 else a + math.log1p(math.exp(b - a))
