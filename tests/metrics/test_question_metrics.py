"""SQuAD's EM and F1 against a second writing of the published script, and asking back against figures worked out by hand."""

from __future__ import annotations

import math
import random
import re

import numpy as np
import pytest

from lalm import plugins
from lalm.records import Reading

PUNCTUATION = r"""!"#$%&'()*+,-./:;<=>?@[\]^_`{|}~"""
NUM_PAIRS = 3000


# The script of SQuAD 1.1 in the order of its steps: lower case, punctuation, articles, white space; then words in common.
def official_words(answer: str) -> list[str]:
    letters = [letter for letter in answer.lower() if letter not in PUNCTUATION]
    return re.sub(r"\b(a|an|the)\b", " ", "".join(letters)).split()


def official_em(right: list[str], given: str) -> float:
    return float(any(official_words(one) == official_words(given) for one in right))


def official_f1(right: list[str], given: str) -> float:
    best = 0.0
    for one in right:
        left, found = official_words(one), official_words(given)
        total, num_same = len(left), 0
        for word in found:
            if word in left:
                left.remove(word)
                num_same += 1
        if num_same:
            precision, recall = num_same / len(found), num_same / total
            best = max(best, 2 * precision * recall / (precision + recall))
    return best


WORDS = [
    "the", "The", "a", "an", "A", "tower", "Tower", "tower's", "1,889", "1889", "U.S.", "us", "anthem", "theatre", "Übergröße",
    "STRASSE", "straße", "İzmir", "naïve", "北京", "москва", "Москва", "—", "“quoted”", "'", "...", "?", "co-op", "coop", "α/β",
    "\u00a0", "\u2003", "the-end", "an.", "a_b", "é", "e\u0301", "¿qué?", "$5", "5%", "🙂", "",
]  # fmt: skip


def made_answer(rng: random.Random) -> str:
    return rng.choice([" ", "  ", "\t", "\n"]).join(rng.choices(WORDS, k=rng.choice([0, 1, 1, 2, 3, 6])))


def near(rng: random.Random, answer: str) -> str:
    """The answer written another way, or with a word more or less: pairs that share most of their words."""
    changed = [
        answer.upper(),
        f"The {answer}.",
        f'"{answer}"',
        answer.replace(" ", "  "),
        f"{answer} tower",
        answer[1:],
    ]
    return rng.choice([answer, *changed, " ".join(reversed(answer.split()))])


def made_pairs() -> list[tuple[list[str], str]]:
    rng = random.Random(0)
    pairs = []
    for _ in range(NUM_PAIRS):
        right = [made_answer(rng) for _ in range(rng.choice([1, 1, 2, 3, 6]))]
        pairs.append((right, near(rng, rng.choice(right)) if rng.random() < 0.6 else made_answer(rng)))
    return pairs


@pytest.mark.parametrize(("name", "official"), [("squad_em", official_em), ("squad_f1", official_f1)])
def test_as_the_official_script_says(name: str, official):
    metric = plugins.load("metrics", name)
    rows = [
        (metric.count(Reading(None, answers=tuple(right)), Reading(None, answers=(given,))), official(right, given))
        for right, given in made_pairs()
    ]
    assert [row[0][0] for row in rows] == pytest.approx([row[1] for row in rows], abs=1e-12)
    assert float(metric.reduce(np.array([row[0] for row in rows]).sum(axis=0))) == pytest.approx(
        sum(row[1] for row in rows) / NUM_PAIRS
    )
    found = [row[1] for row in rows]
    assert 0.2 < np.mean(found) < 0.8, "the pairs are neither all alike nor all different"
    if name == "squad_f1":
        assert sum(0 < one < 1 for one in found) > 300


def value(name: str, *pairs: tuple[Reading, Reading]) -> float:
    metric = plugins.load("metrics", name)
    counts = [found for pair in pairs if (found := metric.count(*pair)) is not None]
    return float(metric.reduce(np.array(counts, dtype=float).sum(axis=0)))


def test_squad_by_hand():
    def em_f1(right: tuple[str, ...], given: tuple[str, ...]) -> tuple[float, float]:
        pair = (Reading(None, answers=right), Reading(None, answers=given))
        return value("squad_em", pair), value("squad_f1", pair)

    assert em_f1(("the Denver Broncos", "Broncos"), ("denver broncos!",)) == (1, 1)
    # of five words three are right, of four wanted three are found: 2 * 3 / (5 + 4)
    assert em_f1(("a red and white flag",), ("white flag and blue stars",)) == (0, pytest.approx(2 * 3 / 9))
    assert em_f1(("Broncos",), ()) == (0, 0), "no answer is a wrong answer"
    assert em_f1(("a",), ("the",)) == (1, 0), "nothing is left of both: the script of version 1.1 says so"


@pytest.mark.parametrize("name", ["squad_em", "squad_f1"])
def test_a_request_that_must_be_asked_back_about_has_no_answer_yet(name: str):
    metric = plugins.load("metrics", name)
    assert metric.count(Reading(None, answers=("Tom",), asks=True), Reading(None, answers=("Tom",), asks=False)) is None
    assert metric.count(Reading(None), Reading(None, answers=("Tom",))) is None
    assert metric.count(Reading(None, answers=("Tom",), asks=False), Reading(None, answers=("Which?",))) == (0, 1)


def test_asking_back_by_hand():
    def pairs(ambiguous: bool, asked: bool, times: int) -> list[tuple[Reading, Reading]]:
        return times * [(Reading(None, asks=ambiguous), Reading(None, asks=asked))]

    # five ambiguous requests, three asked about; four clear ones, one asked about; two where the question does not arise
    rows = [*pairs(True, True, 3), *pairs(True, False, 2), *pairs(False, True, 1), *pairs(False, False, 3)]
    rows += 2 * [(Reading(None), Reading(None, asks=True))]
    assert value("clarification_precision", *rows) == pytest.approx(3 / 4)
    assert value("clarification_recall", *rows) == pytest.approx(3 / 5)
    assert value("asks_when_clear", *rows) == pytest.approx(1 / 4)
    assert not plugins.load("metrics", "asks_when_clear").HIGHER_IS_BETTER
    assert math.isnan(value("clarification_precision", *pairs(True, False, 2)))
    assert math.isnan(value("clarification_recall", *pairs(False, True, 2)))
    assert math.isnan(value("asks_when_clear", *pairs(True, True, 2)))
