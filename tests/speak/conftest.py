"""Engines of tones, and manifests of sentences."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from lalm import plugins

ENGINES = Path(__file__).parent / "plugins"


@pytest.fixture(autouse=True)
def engines() -> Iterator[Path]:
    """The folder of the engines of tones, known while a test runs."""
    before = list(plugins._user_roots)
    plugins.add_roots([ENGINES])
    yield ENGINES
    plugins._user_roots[:] = before


@pytest.fixture
def manifest(tmp_path: Path) -> Callable[..., Path]:
    """Writes rows; a number of them is that many labelled sentences for training."""

    def write(rows: Sequence[dict] | int, name: str = "text.jsonl") -> Path:
        if isinstance(rows, int):
            rows = [{"id": f"s{i}", "text": f"say {'abcdefgh'[i % 8]} {i * 'x'}", "intent": "say"} for i in range(rows)]
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write
