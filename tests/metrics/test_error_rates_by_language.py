"""Error rates by language: units, normalisation, and edits against another program or the plain recursion."""

from __future__ import annotations

import functools
from random import Random

import numpy as np
import pytest

from lalm import plugins
from lalm.connectors._plain import plain_words
from lalm.metrics._text import normalised, orthographic, units
from lalm.records import Reading


def counts(metric: str, gold: str, heard: str, language: str) -> tuple[float, ...] | None:
    module = plugins.load("metrics", metric)
    return module.count(Reading(None, gold, language=language), Reading(None, heard, language=language))


def plain_edits(first: tuple, second: tuple) -> int:
    @functools.cache
    def distance(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        return min(
            1 + distance(i - 1, j),
            1 + distance(i, j - 1),
            distance(i - 1, j - 1) + (first[i - 1] != second[j - 1]),
        )

    return distance(len(first), len(second))


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("hi", "मुझे सुबह सात बजे जगाओ"),
        ("th", "ปลุกฉันตอนเจ็ดโมง"),
        ("ta", "காலை ஏழு மணிக்கு"),
        ("tr", "İstanbul'da IŞIK"),
        ("fa", "می\u200cروم"),
    ],
)
def test_what_a_connector_writes_of_a_right_transcript_is_right(language, said):
    heard = plain_words(said, language)
    for metric in ("wer", "cer"):
        assert counts(metric, said, heard, language)[0] == 0


def test_quotes_and_what_is_not_seen_do_not_count():
    assert normalised("he said 'hi', don't!", "en") == "he said hi don't"
    assert normalised("co\u00adop", "en") == "coop"


def test_words_of_french_and_characters_of_chinese_by_hand():
    # l | heure | du | train: "lheure" for two words is one replaced and one missing
    assert counts("wer", "L'heure du train !", "lheure du train", "fr") == (2.0, 4.0)
    # six characters, one replaced; blanks and full-width punctuation do not count
    assert counts("wer", "明天早上七点。", "明天 早上八点", "zh") == (1.0, 6.0)
    assert counts("cer", "明天早上七点。", "明天 早上八点", "zh") == (1.0, 6.0)
    assert counts("wer", "明天早上七点。", "明天 早上八点", "en") == (2.0, 1.0)  # what words would have made of it
    assert counts("cer", "the cat", "the cats", "en") == (1.0, 7.0)


def test_orthographic_counts_what_normalising_forgives():
    gold, heard = "Réveille-moi à 7 heures, s'il te plaît.", "réveille-moi à 7 heures s'il te plaît"
    assert counts("wer", gold, heard, "fr") == (0.0, 9.0)
    assert counts("wer_orthographic", gold, heard, "fr") == (3.0, 7.0)  # capital, comma, full stop
    assert counts("wer_orthographic", "明天见。", "明天见", "zh") == (1.0, 4.0)


@pytest.mark.parametrize(
    ("language", "one", "other"),
    [
        ("hi", "नमस्ते दुनिया।", "नमस्ते दुनिया"),  # vowel signs are no punctuation
        ("th", "ปลุกฉันตอนเจ็ดโมง", "ปลุก ฉัน ตอน เจ็ด โมง"),
        ("ja", "ﾃﾚﾋﾞをつけて", "テレビをつけて"),
        ("ar", "مَرْحَبًا", "مرحبا"),
        ("he", "שָׁלוֹם", "שלום"),
        ("tr", "IŞIĞI AÇ", "ışığı aç"),
        ("de", "Straße", "straße"),
        ("en", "Don’t stop", "don't stop"),
        ("en", "e\u0301t\u00e9", "été"),
    ],
)
def test_writings_of_the_same_words_are_the_same(language, one, other):
    assert units(normalised(one, language), language) == units(normalised(other, language), language)


def test_vowels_are_kept_and_different_words_stay_different():
    assert counts("wer", "की", "का", "hi") == (1.0, 1.0)
    assert counts("wer", "très", "tres", "fr") == (1.0, 1.0)
    assert normalised("नमस्ते", "hi") == "नमस्ते"
    assert orthographic(" A\u00a0 b\n") == "A b"


def test_edits_are_those_of_jiwer_or_of_the_plain_recursion():
    """Twenty pairs of spoiled sentences; `jiwer` where it is installed, else Levenshtein's recursion."""
    rng = Random(0)
    words = "il fait beau ce matin à la plage et demain aussi".split()  # noqa: SIM905
    try:
        import jiwer
    except ImportError:
        jiwer = None
    for _ in range(20):
        gold = [rng.choice(words) for _ in range(rng.randint(1, 8))]
        heard = [rng.choice(words) if rng.random() < 0.3 else word for word in gold if rng.random() > 0.15] or ["et"]
        said, got = " ".join(gold), " ".join(heard)
        for metric, sides in (("wer", (gold, heard)), ("cer", (said, got))):
            edits, length = counts(metric, said, got, "fr")  # type: ignore[misc]
            if jiwer is None:
                assert (edits, length) == (plain_edits(tuple(sides[0]), tuple(sides[1])), len(sides[0]))
            else:
                assert edits / length == pytest.approx(getattr(jiwer, metric)(said, got))


@pytest.mark.parametrize("metric", ["wer", "wer_orthographic", "cer"])
def test_nothing_is_counted_without_words_on_both_sides(metric):
    module = plugins.load("metrics", metric)
    assert module.count(Reading(None, None), Reading(None, "a")) is None
    assert module.count(Reading(None, "a"), Reading(None, None)) is None
    assert module.count(Reading(None, " "), Reading(None, "a")) is None
    assert module.HIGHER_IS_BETTER is False
    assert float(module.reduce(np.array([1.0, 4.0]))) == 0.25
