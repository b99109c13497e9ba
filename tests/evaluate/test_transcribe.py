"""`lalm transcribe`: mistakes are named before a model is loaded; the real model hears a recording."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lalm.cli import main
from lalm.evaluate.transcribe import transcribe

BARISTA = Path(__file__).parents[3] / "shared" / "data" / "barista"


def test_every_bad_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LALM_HOME", str(tmp_path / "home"))
    (tmp_path / "notes.txt").write_text("not a recording")
    (tmp_path / "empty.wav").write_bytes(b"")
    soundfile.write(tmp_path / "fine.wav", np.zeros(1600), 16_000)
    names = ["missing.wav", "notes.txt", "empty.wav"]
    assert main(["transcribe", *(str(tmp_path / name) for name in [*names, "fine.wav"])]) == 2
    message = capsys.readouterr().err
    assert all(name in message for name in names)
    assert "fine.wav" not in message
    assert "3 of 4" in message
    assert not (tmp_path / "home").exists(), "nothing was fetched"


def test_a_connector_must_hear_words(capsys: pytest.CaptureFixture[str]):
    assert main(["transcribe", "a.wav", "--connector", "mlp"]) == 2
    message = capsys.readouterr().err
    assert "hands on vectors, not words" in message
    assert "ctc, hybrid" in message
    assert main(["transcribe", "a.wav", "--connector", "ctcc"]) == 2
    assert "Did you mean 'ctc'?" in capsys.readouterr().err


def test_the_real_model_hears_orders(smol_folder: Path, capsys: pytest.CaptureFixture[str]):
    """Whisper's own decoder: nearly all of the words that the labels name."""
    if not BARISTA.is_dir():
        pytest.skip(f"recordings of coffee orders are not in {BARISTA}")
    lines = (BARISTA / "recordings.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines[::60]]
    files = [str(BARISTA / row["audio"]) for row in rows]
    assert main(["transcribe", *files, "--connector", "cascade", "--json"]) == 0
    heard = json.loads(capsys.readouterr().out)
    assert [row["file"] for row in heard] == files
    values = [
        (value, row["text"])
        for value, row in ((v, h) for r, h in zip(rows, heard, strict=True) for v in r["slots"].values())
    ]
    found = [value.lower() in text for value, text in values]
    assert sum(found) / len(found) > 0.7, values
    assert transcribe([Path(files[0])], "cascade") == [heard[0]["text"]], "alone and among others alike"
