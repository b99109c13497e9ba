"""What the embedded model hears, as text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lalm import plugins
from lalm.data import audio
from lalm.errors import ConfigError, nearest


def transcribe(files: Sequence[Path], connector: str | None = None) -> list[str]:
    """One text a file, by the embedded model with a connector (none: its default).

    Raises ConfigError for a connector that hears no words, and DataError that lists every file that cannot be read,
    both before any model is loaded.
    """
    if connector is not None:
        _check_words(connector)
    audio.check(files)
    backbone = plugins.load("backbones", "smol")
    options: dict[str, Any] = {} if connector is None else {"connector": {"name": connector}}
    model = backbone.load(plugins.configure(backbone, options, "backbone"))
    model.prepared(list(files))  # several at a time
    return [" / ".join(model.transcript(file).split("\n")) for file in files]


def _check_words(connector: str) -> None:
    if not getattr(plugins.load("connectors", connector), "HEARS_WORDS", False):
        every = {name: plugins.load("connectors", name) for name in plugins.names("connectors")}
        able = [name for name, module in every.items() if getattr(module, "HEARS_WORDS", False)]
        raise ConfigError(f"--connector {connector}: hands on vectors, not words.{nearest(connector, able)}")
