"""Languages that a model cannot hear are warned about once, with what that means; without loading a weight."""

from __future__ import annotations

from pathlib import Path

import pytest

from lalm import plugins
from lalm.config import parse_recipe
from lalm.errors import ConfigError
from lalm.records import Utterance
from lalm.train import unheard


def spoken(language: str) -> Utterance:
    return Utterance(language, "x", Path("a.wav"), language=language, source="recorded")


def recipe(tmp_path: Path, **connector):
    backbone = {"name": "smol", "connector": connector or {"name": "hybrid"}}
    return parse_recipe({"data": {"corpus": "jsonl"}, "backbone": backbone}, tmp_path)


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch):
    monkeypatch.setattr(unheard, "_said", set())


def test_it_is_said_once_with_what_it_means(tmp_path, capsys):
    rows = [spoken("en"), spoken("fr"), spoken("fr"), Utterance("t", "texte", language="de")]
    unheard.warn_of_unheard(recipe(tmp_path), rows)
    unheard.warn_of_unheard(recipe(tmp_path), rows)
    said = capsys.readouterr().err
    assert said.count("recordings in French (fr)") == 1
    assert "told to expect 'en'" in said
    assert "trained on English alone" in said
    assert "German" not in said, "nothing of it is heard"


def test_what_the_recipe_tells_the_decoder_is_known(tmp_path, capsys):
    unheard.warn_of_unheard(recipe(tmp_path, name="cascade", language="fr-FR"), [spoken("fr")])
    assert capsys.readouterr().err == ""
    unheard.warn_of_unheard(recipe(tmp_path, name="cascade", language="fr"), [spoken("en"), spoken("ga")])
    said = capsys.readouterr().err
    assert "English (en): Whisper's decoder is told to expect 'fr'" in said
    assert "Irish (ga): the encoder, Whisper base, was not trained to hear it" in said


def test_a_decoder_is_told_no_language_that_it_does_not_know():
    cascade = plugins.load("connectors", "cascade")
    assert plugins.configure(cascade, {"language": "nb-NO"}, "").language == "no"
    assert plugins.configure(cascade, {"language": "jw"}, "").language == "jw"
    with pytest.raises(ConfigError, match=r"'ga' \(Irish\) is none of the languages that Whisper was trained on"):
        plugins.configure(cascade, {"language": "ga"}, "c")
    with pytest.raises(ConfigError, match="Did you mean 'fr'"):
        plugins.configure(cascade, {"language": "french"}, "c")
