"""Material of several languages: every source speaks its own, and the labels are asked for language by language."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lalm import plugins
from lalm.config import read_yaml
from lalm.errors import ConfigError
from lalm.train.align import _answers
from lalm.train.align_recipe import AlignRecipe, TextSource, load_align_recipe, sentences
from lalm.train.material import Clip, plan_clips

RECIPES = Path(__file__).parents[2] / "recipes"
WORDS = {"en": ["the", "light", "of", "kitchen"], "fr": ["l'", "à", "lumière", "cuisine", "qc", "où"]}


def test_sentences_are_of_their_language():
    source = TextSource(kind="patterns", patterns=("mets {number} {word} s'il vous plaît", "l'{word}"))
    found = sentences(source, 30, WORDS["fr"], "seed", "fr")
    assert len(set(found)) == 30
    words = {word for text in found for word in text.replace("l'", "").split()}
    assert {"lumière", "cuisine", "plaît"} <= words
    assert "qc" not in words
    assert not any(digit in text for text in found for digit in "0123456789-")


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs the program espeak-ng")
def test_each_source_speaks_its_language(tmp_path: Path):
    recipe = plugins.parse(
        AlignRecipe,
        {
            "title": "two",
            "connector": {"name": "ctc", "phones": "multilingual"},
            "language": "en",
            "texts": {"words": {"kind": "words", "num_words": [1, 2]}},
            "speech": [
                {"engine": "espeak_ng", "texts": {"words": 3}, "voices": ["en-us+m1"]},
                {"engine": "espeak_ng", "language": "fr-FR", "texts": {"words": 4}, "voices": ["fr+f2"], "dev": True},
            ],
        },
        "recipe",
    )
    clips = plan_clips(recipe, WORDS.__getitem__)
    assert sorted((clip.language, clip.voice, clip.dev) for clip in clips) == (
        [("en", "en-us+m1", False)] * 3 + [("fr", "fr+f2", True)] * 4
    )
    for clip in clips:
        assert set(clip.text.split()) <= set(WORDS[clip.language])


def test_labels_come_back_to_their_clips():
    clips = [
        Clip(str(number), f"text {number}", "flite", "slt", 1.0, language, 1, False)
        for number, language in enumerate(["fr", "en", "it", "fr", "en"])
    ]

    def labels(texts: list[str], language: str) -> list[str | None]:
        return [None if text.endswith("3") else f"{language} {text}" for text in texts]

    answers = _answers(clips, labels)
    assert list(answers) == clips
    assert list(answers.values()) == ["fr text 0", "en text 1", "it text 2", None, "en text 4"]


def test_the_recipe_keeps_test_voices_apart_and_takes_no_sentence_of_a_corpus_that_is_tested_on():
    raw = read_yaml(RECIPES / "align_gemma.yaml")
    recipe = plugins.parse(AlignRecipe, raw, "recipe")
    assert {source.language for source in recipe.speech} == {"en", "fr", "es", "it"}
    trained = {(s.engine, s.language, voice) for s in recipe.speech if not s.dev for voice in s.voices or ("all",)}
    held_out = {(s.engine, s.language, voice) for s in recipe.speech if s.dev for voice in s.voices or ("all",)}
    assert not trained & held_out
    assert {language for _, language, _ in held_out} == {"en", "fr", "es", "it"}
    files = [str(text.file) for text in recipe.texts.values() if text.file is not None]
    assert files == ["../../shared/data/slurp/lm.txt"]
    for engine, language in {(engine, language) for engine, language, _ in trained | held_out}:
        if engine in ("kokoro", "espeak_ng") and shutil.which("espeak-ng"):
            module = plugins.load("synth", engine)
            known = module.voices(language, module.Config())
            assert {v for e, other, v in trained | held_out if (e, other) == (engine, language)} <= set(known)


def test_an_unknown_language_is_named(tmp_path: Path):
    (tmp_path / "recipe.yaml").write_text(
        "title: x\nconnector: ctc\ntexts: {words: {kind: words}}\n"
        "speech: [{engine: flite, language: xx, texts: {words: 1}}]\n"
    )
    with pytest.raises(ConfigError, match="xx"):
        load_align_recipe(tmp_path / "recipe.yaml")
