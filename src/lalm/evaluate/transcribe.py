"""What an embedded model hears, as text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lalm import plugins
from lalm.data import audio
from lalm.errors import ConfigError, nearest

EMBEDDED = ("smol", "gemma")


def transcribe(
    files: Sequence[Path], connector: str | None = None, backbone: str = "smol", language: str | None = None
) -> list[str]:
    """One text a file, by an embedded model with a connector (none: its default).

    `language` is what the connector is told to expect (none: its default, which `gemma` takes from what it hears). Raises
    ConfigError for a connector that hears no words, and DataError that lists every file that cannot be read, both before any
    model is loaded.
    """
    if backbone not in EMBEDDED:
        raise ConfigError(f"--backbone {backbone}: is no embedded model.{nearest(backbone, EMBEDDED)}")
    if connector is not None:
        _check_words(connector)
    audio.check(files)
    module = plugins.load("backbones", backbone)
    choice = {"name": connector or module.Config().connector.name, **({"language": language} if language else {})}
    options: dict[str, Any] = {} if connector is None and language is None else {"connector": choice}
    model = module.load(plugins.configure(module, options, "backbone"))
    model.prepared(list(files))  # several at a time
    return [" / ".join(model.transcript(file).split("\n")) for file in files]


def _check_words(connector: str) -> None:
    if not getattr(plugins.load("connectors", connector), "HEARS_WORDS", False):
        every = {name: plugins.load("connectors", name) for name in plugins.names("connectors")}
        able = [name for name, module in every.items() if getattr(module, "HEARS_WORDS", False)]
        raise ConfigError(f"--connector {connector}: hands on vectors, not words.{nearest(connector, able)}")
