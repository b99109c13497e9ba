"""Recorded prompts: which of them are taken, and how what was heard is counted."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from lalm.errors import DataError
from lalm.evaluate.prompts import compared, main, read_prompts

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


def test_words_are_compared_as_they_sound():
    gold = ["Contraseña: 9, ¡por favor!", "una llamada perdida"]
    result = compared(
        gold, {"ctc": ["contrasena nueve por", "una llamada perdida"], "whisper_decoder": ["x", "una"]}, "es"
    )
    assert result["ctc"]["wer"] == pytest.approx(1 / 7)  # "favor" is missing, accents and digits do not count
    assert result["whisper_decoder"]["wer"] == pytest.approx(6 / 7)
    assert result["ctc"]["words"] == 7
    assert result["ratio"] == pytest.approx(1 / 6)
    assert result["ctc"]["low"] <= 1 / 7 <= result["ctc"]["high"]
