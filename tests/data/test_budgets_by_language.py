"""Budgets by language: nested, seeded, text and speech of the same sentences, other languages left out, mistakes named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lalm import plugins
from lalm.config import DataSection
from lalm.data.pools import LoadedPools, load_pools
from lalm.errors import ConfigError, DataError

INTENTS = ("on", "off", "up", "down")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    """English: 40 sentences, all spoken. French: 30, all spoken. German: 20, written alone. Some words are the same in all."""
    folder = tmp_path_factory.mktemp("languages")
    soundfile.write(folder / "a.wav", 0.1 * np.random.default_rng(0).standard_normal(8000), 16_000)
    rows = []
    for language, number in (("en", 40), ("fr", 30), ("de", 20)):
        for index in range(number):
            said = {"text": f"stop {index}", "intent": INTENTS[index % 4], "language": language}
            rows.append({"id": f"{language}-{index}", **said})
            if language != "de":
                rows.append({"id": f"{language}-s{index}", "audio": "a.wav", "duration_s": 0.5, **said})
    (folder / "m.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return folder / "m.jsonl"


def pools(manifest: Path, languages: dict, **more) -> LoadedPools:
    return load_pools(DataSection.model_validate({"corpus": "jsonl", "root": manifest, "languages": languages, **more}))


def words(rows, language):
    return {row.text for row in rows if row.language == language}


def test_shots_are_the_same_sentences_written_and_spoken_and_more_text_holds_them(manifest):
    t = pools(manifest, {"fr": {"num_text": 8, "speech_items": 0}})
    t_s = pools(manifest, {"fr": {"num_text": 8, "speech_items": 8}})
    t_s_m = pools(manifest, {"fr": {"num_text": 20, "speech_items": 8}})
    assert (len(t.text), len(t.speech)) == (8, 0)
    assert words(t.text, "fr") == words(t_s.text, "fr") == words(t_s.speech, "fr")
    assert len(t_s_m.text) == 20
    assert words(t_s_m.speech, "fr") == words(t_s.speech, "fr") < words(t_s_m.text, "fr")
    assert {row.frame.intent for row in t_s.speech} == set(INTENTS)


def test_each_language_has_its_own_budget_and_the_sections_where_it_states_none(manifest):
    found = pools(
        manifest, {"en": {}, "fr": {"speech_items": 3, "num_text": 0}, "de": {"num_text": 5}}, speech_share=0.5
    )
    assert {language: len(words(found.speech, language)) for language in ("en", "fr", "de")} == {
        "en": 20,
        "fr": 3,
        "de": 0,
    }
    assert {language: len(words(found.text, language)) for language in ("en", "fr", "de")} == {
        "en": 40,
        "fr": 0,
        "de": 5,
    }
    assert found.num_pool_speech == 70
    assert words(pools(manifest, {"fr": {}}).text, "en") == set()


def test_budgets_are_nested_and_seeded_and_do_not_depend_on_the_other_languages(manifest):
    small, large = (pools(manifest, {"en": {"speech_share": share}, "fr": {"speech_items": 2}}) for share in (0.1, 0.5))
    assert words(small.speech, "en") < words(large.speech, "en")
    assert (
        words(small.speech, "fr")
        == words(large.speech, "fr")
        == words(pools(manifest, {"fr": {"speech_items": 2}}).speech, "fr")
    )
    other = pools(manifest, {"fr": {"speech_items": 8}}, budget_seed=3)
    assert words(other.speech, "fr") != words(pools(manifest, {"fr": {"speech_items": 8}}).speech, "fr")


def test_the_same_words_in_two_languages_are_two_text_rows(manifest):
    rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    spoken = manifest.with_name("spoken.jsonl")
    spoken.write_text("\n".join(json.dumps(row) for row in rows if "audio" in row), encoding="utf-8")
    found = load_pools(DataSection.model_validate({"corpus": "jsonl", "root": spoken}))
    assert {language: len(words(found.text, language)) for language in ("en", "fr")} == {"en": 40, "fr": 30}


def test_synthetic_speech_is_drawn_from_where_the_recipe_says_so(manifest):
    rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    made = manifest.with_name("made.jsonl")
    made.write_text(
        "\n".join(json.dumps({**row, **({"source": "synthetic"} if "audio" in row else {})}) for row in rows),
        encoding="utf-8",
    )
    budget = {"en": {"speech_share": 0.1}, "fr": {"speech_items": 4}}
    with pytest.raises(DataError, match=r"data\.languages\.fr: .*has no recordings"):
        pools(made, {"fr": {"speech_items": 4}})
    found = pools(made, budget, budget_sources=["synthetic"])
    assert (len(found.speech), len(found.synthetic), found.num_pool_speech) == (8, 0, 70)
    beside = pools(made, {"en": {}, "fr": {}})
    assert (len(beside.speech), len(beside.synthetic)) == (0, 70)


@pytest.mark.parametrize(
    ("languages", "message"),
    [
        ({"it": {}}, r"data\.languages\.it: .* no training rows in Italian\. Allowed: de, en, fr\."),
        ({"fr": {"speech_items": 31}}, r"data\.languages\.fr: .*31 recordings are asked for and the pool has 30"),
        ({"fr": {"num_text": 31}}, r"data\.languages\.fr: .*31 text rows are asked for and there are 30"),
        ({"de": {"speech_items": 1}}, r"data\.languages\.de: .*has no recordings"),
    ],
)
def test_budgets_that_cannot_be_met_name_the_language(manifest, languages, message):
    with pytest.raises(DataError, match=message):
        pools(manifest, languages)


@pytest.mark.parametrize(
    ("languages", "message"),
    [
        ({"jp": {}}, "'jp' is no known language. Did you mean 'ja'"),
        ({"fr": {}, "fr-FR": {}}, "fr and fr-FR are one language here"),
        ({}, "names no language"),
        ({"fr": {"num_txt": 3}}, "Did you mean 'num_text'"),
        ({"fr": {"speech_share": 0.1, "speech_items": 1}}, "give one speech budget"),
    ],
)
def test_mistakes_in_the_recipe_are_named(languages, message):
    with pytest.raises(ConfigError, match=message):
        plugins.parse(DataSection, {"corpus": "jsonl", "languages": languages}, "data")
