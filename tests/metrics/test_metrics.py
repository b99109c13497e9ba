"""Metrics against figures worked out by hand and against the plainest definition that there is."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lalm import plugins
from lalm.metrics._edits import edit_distance
from lalm.records import Frame, Reading, Slot


def frame(intent: str | None, *slots: tuple[str, str]) -> Frame:
    return Frame(intent, tuple(Slot(*slot) for slot in slots))


def value(name: str, *pairs: tuple[Reading | Frame | None, Reading | Frame | None]) -> float:
    """A metric over (label, answer) pairs, counted one by one and reduced once."""
    metric = plugins.load("metrics", name)
    counts = []
    for pair in pairs:
        reference, hypothesis = (side if isinstance(side, Reading) else Reading(side) for side in pair)
        found = metric.count(reference, hypothesis)
        if found is not None:
            counts.append(found)
    assert counts, "nothing was counted"
    return float(metric.reduce(np.array(counts, dtype=float).sum(axis=0)))


def slow_edits(first: tuple, second: tuple) -> int:
    """Levenshtein's recursive definition, word for word."""

    @functools.cache
    def distance(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        if first[i - 1] == second[j - 1]:
            return distance(i - 1, j - 1)
        return 1 + min(distance(i - 1, j), distance(i, j - 1), distance(i - 1, j - 1))

    return distance(len(first), len(second))


@given(st.text("ab c", max_size=9), st.text("ab c", max_size=9))
@settings(max_examples=200, deadline=None)
def test_edit_distance_is_levenshteins(first: str, second: str):
    assert edit_distance(first, second) == slow_edits(tuple(first), tuple(second))
    assert edit_distance(first.split(), second.split()) == slow_edits(tuple(first.split()), tuple(second.split()))


@given(
    st.lists(st.sampled_from(["turn", "the", "light", "on"]), min_size=1, max_size=6), st.text("abc '-", max_size=12)
)
@settings(max_examples=100, deadline=None)
def test_wer_is_edits_over_reference_words(words: list[str], said: str):
    heard = [plain for word in said.replace("-", " ").split() if (plain := word.strip("'"))]
    found = value("wer", (Reading(None, " ".join(words)), Reading(None, said)))
    assert found == pytest.approx(slow_edits(tuple(words), tuple(heard)) / len(words))


def test_wer_by_hand():
    # "kitchen" is missing, "on" is replaced, "please" is added: three edits over four words
    pair = (Reading(None, "The kitchen light, on!"), Reading(None, "the light off please"))
    assert value("wer", pair) == pytest.approx(3 / 4)
    # sums over the corpus, not the mean of rates: (3 + 0) / (4 + 1)
    assert value("wer", pair, (Reading(None, "stop"), Reading(None, "Stop."))) == pytest.approx(3 / 5)
    wer = plugins.load("metrics", "wer")
    assert wer.count(Reading(None, None), Reading(None, "a")) is None
    assert wer.count(Reading(None, "a"), Reading(None, None)) is None
    assert wer.count(Reading(None, "?!"), Reading(None, "a")) is None, "no words, no rate"
    assert wer.count(Reading(None, "don’t"), Reading(None, "don't")) == (0.0, 1.0)


def test_entity_f1_by_hand():
    label = frame("order", ("size", "large"), ("drink", "Flat  White"), ("shot", "two"))
    answer = frame("order", ("drink", "flat white"), ("size", "small"))
    # one right; two labels missed, one answer wrong: 2 * 1 / (2 * 1 + 1 + 2)
    assert value("entity_f1", (label, answer)) == pytest.approx(0.4)
    # the order does not matter, the number does: two labelled, three answered, two right
    twice = frame("a", ("milk", "oat"), ("milk", "oat"))
    thrice = frame("a", ("milk", "oat"), ("milk", "oat"), ("milk", "oat"))
    assert value("entity_f1", (twice, thrice)) == pytest.approx(2 * 2 / (2 * 2 + 1))
    # micro: counts are summed before the ratio
    assert value("entity_f1", (label, answer), (twice, thrice)) == pytest.approx(2 * 3 / (2 * 3 + 2 + 2))


def test_f1_without_a_slot_is_no_number():
    empty = frame("on")
    assert math.isnan(value("entity_f1", (empty, empty)))
    assert math.isnan(value("slu_f1", (empty, empty), (empty, None)))
    assert value("entity_f1", (empty, frame("on", ("a", "b")))) == 0


def test_slu_f1_by_hand():
    label = frame("x", ("time", "seven in the morning"), ("date", "today"))
    answer = frame("x", ("time", "seven the morning"), ("place", "here"))
    # words: "in" is missing, 1 edit of 4 words = 0.25; time is a hit, place is false, date is missed
    by_word = (1, 0.25 + 1, 0.25 + 1)
    # characters: "in " is missing, 3 edits, the longer one has 20 characters = 0.15
    by_char = (1, 0.15 + 1, 0.15 + 1)
    true, false, missed = (a + b for a, b in zip(by_word, by_char, strict=True))
    assert value("slu_f1", (label, answer)) == pytest.approx(2 * true / (2 * true + false + missed))
    assert value("slu_f1", (label, label)) == 1


def test_slu_f1_matches_an_answer_with_the_nearest_label_of_its_type():
    label = frame("x", ("person", "anna maria"), ("person", "bob"))
    # "bob" goes with "bob" although "anna maria" stands first
    assert value("slu_f1", (label, frame("x", ("person", "bob"), ("person", "anna maria")))) == 1
    # one answer only: the other label is missed, once for words and once for characters
    assert value("slu_f1", (label, frame("x", ("person", "bob")))) == pytest.approx(2 * 2 / (2 * 2 + 2))


def test_intent_accuracy_by_hand():
    pairs = [(frame("on"), frame("on")), (frame("on"), frame("off")), (frame("on"), None), (frame("on"), frame(None))]
    assert value("intent_accuracy", *pairs) == 0.25
    assert plugins.load("metrics", "intent_accuracy").count(Reading(frame(None)), Reading(frame("on"))) is None


@pytest.mark.parametrize(
    ("answer", "exact", "accepted"),
    [
        (frame("order", ("size", "large"), ("size", "large"), ("drink", "latte")), 1, 1),
        (frame("order", ("drink", "Latte"), ("size", " large"), ("size", "large")), 1, 1),  # order, case, blanks
        (frame("order", ("size", "large"), ("drink", "latte")), 0, 0),  # one of two equal slots is missing
        (frame("order", ("size", "large"), ("size", "large"), ("drink", "latte"), ("milk", "oat")), 0, 1),  # one extra
        (frame("order", ("size", "large"), ("size", "small"), ("drink", "latte")), 0, 0),  # one is wrong
        (frame("cancel", ("size", "large"), ("size", "large"), ("drink", "latte")), 0, 0),  # the intent is wrong
        (None, 0, 0),  # could not be parsed
    ],
)
def test_exact_match_and_command_acceptance(answer: Frame | None, exact: int, accepted: int):
    label = frame("order", ("size", "large"), ("size", "large"), ("drink", "latte"))
    assert value("exact_match", (label, answer)) == exact
    assert value("command_acceptance", (label, answer)) == accepted


def test_extra_slots_by_hand():
    label = frame("order", ("size", "large"))
    two_extra = frame("order", ("size", "large"), ("size", "large"), ("drink", "tea"))
    none_extra = frame("order")
    assert value("extra_slots", (label, two_extra), (label, none_extra)) == 1.0
    assert plugins.load("metrics", "extra_slots").count(Reading(label), Reading(None)) is None


@pytest.mark.parametrize("name", ["intent_accuracy", "entity_f1", "slu_f1", "exact_match", "command_acceptance"])
def test_an_answer_that_cannot_be_parsed_is_wrong(name: str):
    """In every metric: as bad as the worst answer, and worse than the right one among others."""
    label = frame("order", ("size", "large"))
    assert value(name, (label, None)) == 0
    assert value(name, (label, label), (label, None)) < value(name, (label, label), (label, label)) == 1


@pytest.mark.parametrize("name", plugins.names("metrics"))
def test_reduce_works_on_one_sum_and_on_many(name: str):
    """Intervals hand in [resamples, num_counts]: the same values as one by one."""
    metric = plugins.load("metrics", name)
    reference = Reading(frame("a", ("b", "c d")), "one two", ("one two",), asks=False)
    rows = [
        metric.count(reference, Reading(answer, "one too", ("one",), asks))
        for answer, asks in ((frame("a", ("b", "c")), False), (frame("x"), True))
    ]
    many = np.array(rows, dtype=float)
    assert np.allclose(metric.reduce(many), [float(metric.reduce(row)) for row in many], equal_nan=True)
