"""What the embedded model hears, as text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lalm import plugins
from lalm.data import audio
from lalm.errors import ConfigError, DataError


def transcribe(files: Sequence[Path], connector: str | None = None) -> list[str]:
    """One text a file, by the embedded model with a connector (none: its default).

    Raises DataError that lists every file that cannot be read, before any model is loaded.
    """
    problems = []
    for file in files:
        try:
            audio.load(file)
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError(f"{len(problems)} of {len(files)} files cannot be read.", problems)
    backbone = plugins.load("backbones", "smol")
    options: dict[str, Any] = {} if connector is None else {"connector": {"name": connector}}
    if connector is not None:
        module = plugins.load("connectors", connector)
        if not getattr(module, "HEARS_WORDS", False):
            able = [
                name
                for name in plugins.names("connectors")
                if getattr(plugins.load("connectors", name), "HEARS_WORDS", False)
            ]
            raise ConfigError(f"--connector {connector}: hands on vectors, not words. Allowed: {', '.join(able)}.")
    model = backbone.load(plugins.configure(backbone, options, "backbone"))
    return [" / ".join(model.module.connector.transcripts(model.prepared([file]))[0].split("\n")) for file in files]
