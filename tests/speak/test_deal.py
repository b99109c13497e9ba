"""Voices apart between splits, and sentences dealt out among engines and voices."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lalm.errors import UserError
from lalm.speak.deal import Dealer, check_enough, deal_voices

SPLITS = ("train", "dev", "test")


@settings(max_examples=200, deadline=None)
@given(
    engines=st.dictionaries(st.sampled_from("abcd"), st.integers(1, 12), min_size=1),
    sizes=st.dictionaries(st.sampled_from(SPLITS), st.integers(1, 1000), min_size=1),
    seed=st.integers(0, 5),
)
def test_every_voice_speaks_for_one_split_and_every_split_that_can_have_one_has_one(engines, sizes, seed):
    voices = {name: [f"v{i}" for i in range(number)] for name, number in engines.items()}
    dealt = deal_voices(voices, sizes, {}, seed)
    assert set(dealt) == {(name, voice) for name, own in voices.items() for voice in own}
    assert set(dealt.values()) <= set(sizes)
    assert len(set(dealt.values())) == min(len(sizes), len(dealt))
    assert dealt == deal_voices(voices, sizes, {}, seed)
    if len(dealt) < len(sizes):
        largest = max(sizes, key=lambda split: sizes[split])
        assert sizes[largest] in {sizes[split] for split in dealt.values()}
        with pytest.raises(UserError, match="none is left for"):
            check_enough(dealt, sizes, list(sizes), "en")
    else:
        check_enough(dealt, sizes, list(sizes), "en")


def test_voices_follow_the_sizes_of_the_splits():
    voices = {"many": [f"v{i}" for i in range(100)], "few": ["a", "b", "c", "d"], "one": ["x"]}
    dealt = deal_voices(voices, {"train": 800, "dev": 100, "test": 100}, {}, seed=0)
    count = Counter((engine, split) for (engine, _), split in dealt.items())
    assert count["many", "train"] == pytest.approx(80, abs=2)
    assert count["many", "dev"] == pytest.approx(10, abs=2)
    assert dealt["one", "x"] == "train"
    assert deal_voices(voices, {"train": 800, "dev": 100, "test": 100}, {}, seed=1) != dealt


def test_a_voice_of_several_languages_stays_with_its_split():
    english = deal_voices({"e": ["a", "b", "c"]}, {"train": 9, "test": 1}, {}, seed=0)
    french = deal_voices({"e": ["a", "b", "c", "d"]}, {"train": 1, "test": 50}, english, seed=0)
    assert {voice: french[voice] for voice in english} == english


def test_the_error_says_what_can_be_done():
    dealt = deal_voices({"e": ["a", "b"]}, {"train": 8, "dev": 1, "test": 2}, {}, seed=0)
    with pytest.raises(
        UserError, match=r"2 voices of 'en' for sentences of 3 splits .* left for dev.* --engine; --list .* \(--split\)"
    ):
        check_enough(dealt, {"train": 8, "dev": 1, "test": 2}, SPLITS, "en")
    check_enough(dealt, {"train": 8, "dev": 1, "test": 2}, ["train", "test"], "en")


def test_sentences_are_dealt_evenly_and_stay_when_others_follow():
    voices = {"a": ["1", "2", "3"], "b": ["4"]}
    dealer = Dealer(voices, "0/en/train")
    first = [dealer.next(1)[0] for _ in range(60)]
    assert Counter(engine for engine, _ in first) == {"a": 30, "b": 30}
    assert Counter(voice for _, voice in first) == {"1": 10, "2": 10, "3": 10, "4": 30}
    again = Dealer(voices, "0/en/train")
    assert [again.next(1)[0] for _ in range(80)][:60] == first


def test_no_regularity_of_the_rows_meets_one_of_the_voices():
    """Every second row has the other intent: both engines must speak both."""
    dealer = Dealer({"a": ["1"], "b": ["2"]}, "0")
    even = Counter(dealer.next(1)[0][0] for index in range(400) if index % 2 == 0 or not dealer.next(1))
    assert min(even["a"], even["b"]) > 60


def test_copies_of_a_sentence_have_different_voices_while_there_are_any():
    voices = {"a": ["1", "2", "3"], "b": ["4", "5", "6"]}
    dealer = Dealer(voices, "0")
    for _ in range(50):
        copies = dealer.next(6)
        assert len(set(copies)) == 6
        assert Counter(engine for engine, _ in copies[:2]) == {"a": 1, "b": 1}
