"""Models of one `transformers` class as plain folders: nothing of lalm is needed to load them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lalm import plugins
from lalm.backbones._native import NativeModel
from lalm.config import Recipe
from lalm.export.folder import copy_adapter, on_accelerator
from lalm.records import Example

BASE = "base"


class NativeFormat:
    """`Format` of models of one class."""

    def __init__(self, model: NativeModel, recipe: Recipe) -> None:
        self._recipe = recipe
        self._class, self._processor_class = type(model.module).__name__, type(model.processor).__name__
        self._source, self._revision = str(model.identity["model"]), model.identity.get("revision")
        self._tiny = self._source == "tiny"
        self._turns = model.prompts.messages("INSTRUCTION", None)

    def as_given(self, model: Any, row: Example) -> Example:
        """As it is."""
        return row

    def write_merged(self, model: Any, folder: Path) -> None:
        """`save_pretrained` of model and processor."""
        model.module.save_pretrained(folder)
        model.processor.save_pretrained(folder)

    def write_adapter(self, base: Any, adapter: Path, folder: Path) -> None:
        """The adapter and the processor; a model that is neither on the hub nor in a folder comes along in `base/`."""
        changes = {
            "base_model_name_or_path": BASE if self._tiny else self._source,
            "revision": self._revision,
            "auto_mapping": {"base_model_class": self._class, "parent_library": type(base.module).__module__},
        }
        copy_adapter(adapter, folder, changes)
        base.processor.save_pretrained(folder)
        if self._tiny:
            self.write_merged(base, folder / BASE)

    def reopen(self, folder: Path, merged: bool) -> Callable[[Example], str]:
        """The backbone on the folder's files and, for an adapter, peft."""
        backbone = plugins.load("backbones", self._recipe.backbone.name)
        options = {**self._recipe.backbone.options}
        if merged or self._tiny:
            options |= {"model": str(folder if merged else folder / BASE), "revision": None, "tiny": False}
        model = backbone.load(plugins.configure(backbone, options, "backbone"))
        if not merged:
            from peft import PeftModel

            PeftModel.from_pretrained(model.module, str(folder))  # its layers go into the module itself
        on_accelerator(model.module).eval()
        cfg = self._recipe.evaluate
        return lambda row: str(model.generate([row], cfg.max_new_tokens, cfg.num_beams)[0])

    def usage(self, merged: bool) -> str:
        """For the card."""
        loading = (
            f'model = {self._class}.from_pretrained("FOLDER")'
            if merged
            else f'model = {self._class}.from_pretrained("{self._source if not self._tiny else "FOLDER/base"}")\n'
            'model = PeftModel.from_pretrained(model, "FOLDER")'
        )
        return (
            ("" if merged else "from peft import PeftModel\n")
            + f"from transformers import {self._class}, {self._processor_class}\n\n"
            + f'processor = {self._processor_class}.from_pretrained("FOLDER")\n'
            + loading
            + "\n# the processor's chat template over these turns, the recording at 16 kHz; search without sampling\n"
            + f"turns = {json.dumps(self._turns)}"
        )
