"""A small manifest with text and speech, and imports and exports as the command line makes them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lalm.cli import main
from lalm.data.manifest import read_manifest, write_manifest
from lalm.records import Frame, Slot, Utterance

FRAMES = (
    ("turn on the light in the hall", Frame("light_on", (Slot("room", "hall"),))),
    ("wake me at seven in the morning", Frame("alarm_set", (Slot("time", "seven"), Slot("part", "morning")))),
    ("play some jazz", Frame("music_play", (Slot("genre", "jazz"),))),
    ("good night", Frame("good_night")),
)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Four sentences, and each of them spoken (noise): WAV and FLAC, 16 and 8 kHz, one and two channels."""
    root = tmp_path / "ours"
    (root / "audio").mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for index, (text, frame) in enumerate(FRAMES):
        split = "test" if index == 3 else "train"
        rows.append(Utterance(f"t{index}", text, None, frame, "en", split=split))
        path = root / "audio" / f"r{index}.{'flac' if index == 1 else 'wav'}"
        rate = 8_000 if index == 2 else 16_000
        shape = (4000, 2) if index == 0 else 4000
        soundfile.write(path, 0.1 * rng.standard_normal(shape), rate)
        spoken = Utterance(f"s{index}", text, path, frame, "en", duration_s=4000 / rate, split=split, source="recorded")
        rows.append(replace(spoken, speaker=f"speaker-{index}"))
    write_manifest(root / "manifest.jsonl", rows)
    return root / "manifest.jsonl"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):
    """Runs `lalm data ...`; what it printed. The exit code must be 0."""

    def call(*arguments: object) -> str:
        code = main(["data", *map(str, arguments)])
        out, err = capsys.readouterr()
        assert code == 0, err
        return out

    return call


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]):
    """Runs `lalm data ...`, which must be refused in a paragraph with exit code 2; what was said."""

    def call(*arguments: object) -> str:
        code = main(["data", *map(str, arguments)])
        out, err = capsys.readouterr()
        assert code == 2, out + err
        assert out == ""
        assert err.startswith("lalm: ")
        assert "Traceback" not in err
        return err

    return call


@pytest.fixture
def rows_of():
    """The rows of an import, by id."""

    def read(out: Path) -> dict[str, Utterance]:
        return {row.id: row for row in read_manifest(out / "manifest.jsonl", allow_outside=True)}

    return read


@pytest.fixture
def lines():
    """Writes JSON lines; a string is written as it is."""

    def write(path: Path, *values: object) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = [one if isinstance(one, str) else json.dumps(one, ensure_ascii=False) for one in values]
        path.write_text("\n".join(text) + "\n", encoding="utf-8")
        return path

    return write
