"""What a folder holds for each make of model, and how it is opened again as others would."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from lalm.contracts import Model
from lalm.records import Example
from lalm.rundir import read_json

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


class Format(Protocol):
    """Made for one model of a run."""

    def as_given(self, model: Model, row: Example) -> Example:
        """A row as the exported model is asked: with the words that the run's model was given for it."""

    def write_merged(self, model: Model, folder: Path) -> None:
        """The whole model, whose adapter is folded in."""

    def write_adapter(self, base: Model, adapter: Path, folder: Path) -> None:
        """The files of `adapter` and what belongs beside them; `base` is the model before training."""

    def reopen(self, folder: Path, merged: bool) -> Callable[[Example], str]:
        """What the folder holds, loaded anew, as a function from a row to its answer."""

    def usage(self, merged: bool) -> str:
        """Python that loads the folder and answers a recording, for the model card."""


def copy_adapter(adapter: Path, folder: Path, changes: dict[str, Any]) -> None:
    """The files that peft reads, with `changes` in their configuration."""
    shutil.copy(adapter / ADAPTER_FILES[1], folder / ADAPTER_FILES[1])
    config = {**read_json(adapter / ADAPTER_FILES[0]), "inference_mode": True, **changes}
    (folder / ADAPTER_FILES[0]).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def on_accelerator(module: Any) -> Any:
    """The module on the accelerator if there is one."""
    import torch

    return module.to("cuda") if torch.cuda.is_available() else module
