"""Recordings are heard ahead of use, several at once, and what cannot be read is left to who makes the rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from lalm.backbones import smol
from lalm.data.cache import PreparedCache
from lalm.errors import DataError
from lalm.records import Example
from lalm.train import hearing
from lalm.train.hearing import hear_ahead
from lalm.tuners import full


@pytest.fixture
def rows(tmp_path: Path) -> list[Example]:
    """Nine recordings, one of them twice, in two languages; one row is written."""
    made = [Example("t", "do", "{}", text="go")]
    for number in range(9):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, 0.1 * np.random.default_rng(number).standard_normal(4000 + 400 * number), 16_000)
        made.append(Example(f"s{number}", "do", "{}", audio=path, language="fr" if number > 6 else "en"))
    return [*made, Example("again", "do", "[]", audio=made[1].audio)]


@pytest.fixture
def model(tmp_path: Path):
    made = smol.load(smol.Config(connector={"name": "mlp"}, tiny=True))
    made._cache = PreparedCache(tmp_path / "heard")
    return made


def test_every_recording_is_heard_once_and_rows_find_it(model, rows, capsys, monkeypatch):
    calls = []
    inner = model.prepared
    monkeypatch.setattr(
        model, "prepared", lambda paths, language: calls.append((len(paths), language)) or inner(paths, language)
    )
    monkeypatch.setattr(hearing, "QUIET_S", -1.0)
    hear_ahead(model, rows)
    assert calls == [(7, "en"), (2, "fr")]
    assert "[hear] 9/9 recordings" in capsys.readouterr().err
    monkeypatch.setattr(model, "prepared", inner)
    model.module.audio_encoder.forward = None  # what is not kept would have to be encoded
    assert len({model.num_tokens(row) for row in rows}) > 3


def test_what_was_heard_ahead_does_not_depend_on_its_neighbours(model, rows, tmp_path):
    hear_ahead(model, rows, quiet=True)
    together = [model.content(row) for row in rows]
    alone = smol.load(smol.Config(connector={"name": "mlp"}, tiny=True))
    alone._cache = PreparedCache(None)
    assert [alone.content(row) for row in rows] == together


def test_a_broken_recording_is_left_to_who_makes_the_rows(model, rows, tmp_path):
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF")
    hear_ahead(model, [*rows, Example("b", "do", "{}", audio=broken)], quiet=True)
    with pytest.raises(DataError, match="Row 'b'"):
        model.num_tokens(Example("b", "do", "{}", audio=broken))
    assert model.num_tokens(rows[1]) > 0


def test_an_encoder_that_learns_hears_nothing_ahead(model, rows, tmp_path):
    full.attach(model, ("audio_encoder",), full.Config())
    hear_ahead(model, rows, quiet=True)
    assert not list((tmp_path / "heard").rglob("*.safetensors"))
