"""The language model within a class of `transformers`, as `_stack` asks for one."""

from __future__ import annotations

from typing import Any

import torch


class InnerLanguageModel:
    """Layers, norm, embeddings and configuration of the part `name` of a module, whatever has been wrapped around them."""

    def __init__(self, module: Any, name: str) -> None:
        self._module, self._name = module, name

    @property
    def model(self) -> Any:
        """The language model without its output layer."""
        return self._module.get_submodule(self._name)

    @property
    def config(self) -> Any:
        """That of the layers."""
        return self.model.config

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.model.parameters()).device

    def get_input_embeddings(self) -> Any:
        """The table of the tokens."""
        return self._module.get_input_embeddings()
