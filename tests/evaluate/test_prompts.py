"""Recorded prompts: which of them are taken, and how what was heard is counted."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from lalm import plugins
from lalm.errors import ConfigError, DataError
from lalm.evaluate.prompts import compared, main, read_prompts, spoken_by

TEXTS = """; Core sounds
vm-hello: Bonjour à tous
gone: Il n'y a rien
beep: [this is a tone]
one: Un
long: un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze
sub/two: Deux mots, 9 fois
"""


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    for name in ("vm-hello", "beep", "one", "long", "sub/two"):
        (tmp_path / f"{name}.wav").write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize("packed", [False, True])
def test_prompts_of_a_few_words_with_a_recording_are_taken(sounds: Path, packed: bool):
    texts = sounds / "texts.txt"
    content = ("\ufeff" + TEXTS).encode()
    texts.write_bytes(gzip.compress(content) if packed else content)
    assert read_prompts(sounds, texts) == [
        (sounds / "sub" / "two.wav", "Deux mots, 9 fois"),
        (sounds / "vm-hello.wav", "Bonjour à tous"),
    ]


def test_nothing_to_measure_is_a_user_error(sounds: Path, capsys):
    (sounds / "texts.txt").write_text("other: quite another prompt\n")
    with pytest.raises(DataError, match=r"holds no \.wav"):
        read_prompts(sounds, sounds / "texts.txt")
    assert main([str(sounds), str(sounds / "none.txt"), "--language", "fr"]) == 2
    assert "none.txt" in capsys.readouterr().err


def test_the_same_texts_can_be_spoken_by_an_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(plugins, "_user_roots", [*plugins._user_roots])
    plugins.add_roots([Path(__file__).parents[1] / "speak" / "plugins"])
    files = spoken_by("tones", ["un mot", "deux mots", "trois"], "fr", tmp_path)
    assert [path.is_file() for path in files] == [True] * 3
    assert len(set(files)) == 3
    with pytest.raises(ConfigError, match=r"tones has no voice of 'it'; it speaks en, fr"):
        spoken_by("tones", ["due parole"], "it", tmp_path)


def test_words_are_compared_as_they_sound():
    gold = ["Contraseña: 9, ¡por favor!", "una llamada perdida"]
    result = compared(
        gold, {"ctc": ["contrasena nueve por", "una llamada perdida"], "whisper_decoder": ["x", "una"]}, "es"
    )
    assert result["ctc"]["wer"] == pytest.approx(1 / 7)  # "favor" is missing, accents and digits do not count
    assert result["whisper_decoder"]["wer"] == pytest.approx(6 / 7)
    assert result["ctc"]["words"] == 7
    assert result["ratio"]["value"] == pytest.approx(1 / 6)
    # of four draws one has the first prompt alone, one the second alone: 1 of 4 words beside 4, 0 of 3 beside 2
    assert 0 == result["ratio"]["low"] < result["ratio"]["high"] == pytest.approx(1 / 4)
    assert result["ctc"]["low"] <= 1 / 7 <= result["ctc"]["high"]
