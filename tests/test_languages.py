"""Language codes: one way to write them, the nearest known one, and errors that name field and value."""

from __future__ import annotations

import json

import pytest

from lalm import languages, plugins
from lalm.connectors._plain import plain_words
from lalm.data.manifest import read_manifest
from lalm.data.row_checks import plain
from lalm.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("tag", "code"),
    [
        ("fr", "fr"),
        ("fr-FR", "fr"),
        ("fr_CA", "fr"),
        ("zh-TW", "zh"),
        ("zh-CN", "zh"),
        ("EN", "en"),
        ("iw", "he"),
        ("jw", "jv"),
    ],
)
def test_tags_become_base_codes(tag, code):
    assert languages.base(tag) == code


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("french", "fr"), ("frnch", "fr"), ("jp", "ja"), ("fra", "fr"), ("fx", "fr"), ("Spanisch", "es"), ("ger", "de")],
)
def test_unknown_ones_are_answered_with_the_nearest(wrong, near):
    with pytest.raises(ValueError, match=rf"'{wrong}' is no known language\. Did you mean '{near}'"):
        languages.base(wrong)


@pytest.mark.parametrize(
    ("text", "kept", "words"),
    [
        ("मुझे सुबह सात बजे जगाओ।", "'", "मुझे सुबह सात बजे जगाओ"),
        ("ปลุกฉันตอนเจ็ดโมง", "'", "ปลุกฉันตอนเจ็ดโมง"),
        ("காலை 7 மணிக்கு!", "'", "காலை 7 மணிக்கு"),
        ("میروم، خانه", "'", "میروم خانه"),
        ("don't — co\u00adop_s", "'", "don't coop s"),
        ("don't", "", "don t"),
    ],
)
def test_words_keep_their_marks(text, kept, words):
    assert languages.only_words(text, kept) == words
    assert plain_words(text, "hi") == languages.only_words(text), "as the connectors write it"


def test_small_letters_are_those_of_the_language():
    assert languages.lower_case("İSTANBUL IŞIK", "tr") == "istanbul ışık"
    assert languages.lower_case("İstanbul IT", "en") == "istanbul it"


def test_two_sentences_that_differ_in_a_vowel_sign_are_two():
    assert plain("की") != plain("का")
    assert plain("Où es-tu ?") == plain("où es tu")


def test_no_nearest_where_nothing_is_near():
    with pytest.raises(ValueError, match=r"is no known language\. A language is a code") as error:
        languages.base("klingon")
    assert "Did you mean" not in str(error.value)


def test_whispers_languages_are_those_of_transformers_and_have_names():
    """The list of transformers, whose Cantonese came with large-v3 and whose Javanese has its old code."""
    theirs = pytest.importorskip("transformers.models.whisper.tokenization_whisper").LANGUAGES
    assert {languages.base(code) for code in theirs} - {"yue"} == set(languages.WHISPER)
    for code, name in theirs.items():
        ours = languages.name(languages.base(code)).lower()
        assert ours == name or {ours, name} in ({"haitian", "haitian creole"}, {"burmese", "myanmar"})
    assert languages.heard_by_whisper("nb")
    assert not languages.heard_by_whisper("ga")


def test_every_language_of_massive_and_speech_massive_is_known():
    massive, speech = plugins.load("corpora", "massive"), plugins.load("corpora", "speech_massive")
    assert len(set(massive.LOCALES)) == 52
    assert len({languages.base(locale) for locale in massive.LOCALES}) == 51  # zh-CN and zh-TW are both zh
    assert set(speech.LOCALES) < set(massive.LOCALES)
    assert len(speech.LOCALES) == 12


def test_manifests_name_the_bad_row_and_keep_base_codes(tmp_path):
    path = tmp_path / "m.jsonl"
    rows = [{"id": "a", "text": "bonjour", "language": "fr-FR"}, {"id": "b", "text": "hallo", "language": "ger"}]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.raises(
        DataError, match=r"line 2: field 'language': 'ger' is no known language. Did you mean 'de' \(German\)\?"
    ):
        read_manifest(path)
    path.write_text(json.dumps(rows[0]), encoding="utf-8")
    assert [row.language for row in read_manifest(path)] == ["fr"]


@pytest.mark.parametrize(
    ("corpus", "option"), [("slurp", "language"), ("csv", "language"), ("massive", "locale"), ("minds14", "language")]
)
def test_options_of_corpora_name_the_nearest_language(corpus, option):
    with pytest.raises(ConfigError, match=rf"data\.corpus\.{option}: 'jp' is no known language\. Did you mean 'ja'"):
        plugins.configure(plugins.load("corpora", corpus), {option: "jp"}, "data.corpus")


def test_a_table_with_a_wrong_code_is_refused_by_column(tmp_path):
    (tmp_path / "t.csv").write_text("text,intent,lang\nbonjour,greet,fr-FR\nhola,greet,sp\n", encoding="utf-8")
    module = plugins.load("corpora", "csv")
    cfg = module.Config(language_column="lang")
    with pytest.raises(DataError, match=r"column 'lang': 'sp' is no known language"):
        list(module.read(tmp_path / "t.csv", "train", cfg))


def test_speech_massive_says_which_languages_and_which_subsets_there_are(tmp_path):
    module = plugins.load("corpora", "speech_massive")
    (tmp_path / "es-ES").mkdir()
    with pytest.raises(DataError, match="in fr-FR and de-DE alone; of es-ES there are 115"):
        list(module.read(tmp_path, "train", module.Config(locale="es-ES", train="train")))
    with pytest.raises(DataError, match=r"Did you mean '\w\w-\w\w'\? Allowed: ar-SA, de-DE"):
        list(module.read(tmp_path, "train", module.Config(locale="es-MX")))
