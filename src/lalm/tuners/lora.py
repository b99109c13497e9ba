"""LoRA: low-rank updates beside frozen weights (on peft).

Source: Hu et al. 2021 (arXiv 2106.09685). Targets are the groups that the backbone names, so nothing else is hit;
a group without linear layers (norms, embeddings) cannot be tuned this way and is an error.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

from peft import LoraConfig, PeftModel, get_peft_model
from pydantic import Field, PositiveFloat, PositiveInt
from torch import nn

from lalm.contracts import Model
from lalm.errors import ConfigError, nearest
from lalm.plugins import PluginConfig


class Config(PluginConfig):
    """Options of LoRA; names as in peft's LoraConfig."""

    r: PositiveInt = Field(16, description="rank of the update")
    lora_alpha: PositiveFloat = Field(32.0, description="the update is scaled by lora_alpha / r")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="share of the update's inputs that is dropped in training")
    last_layers: PositiveInt | None = Field(
        None, description="only the last so many layers of the language model are updated (none: all)"
    )
    use_rslora: bool = Field(False, description="scale by lora_alpha / sqrt(r) instead")
    init_lora_weights: Literal["default", "gaussian"] = Field("default", description="how A is drawn; B starts at zero")


def attach(model: Model, groups: Sequence[str], cfg: Config) -> list[str]:
    """Wrap the linear layers of `groups`; the names of the trainable parameters.

    Raises ConfigError for an unknown group or one that holds no linear layer.
    """
    known = model.groups()
    modules = dict(model.module.named_modules())
    targets: list[str] = []
    for group in groups:
        if group not in known:
            raise ConfigError(f"train.groups: unknown group '{group}'.{nearest(group, known)}")
        linear = [
            f"{name}.{inner}".rstrip(".")
            for name in known[group]
            for inner, part in modules[name].named_modules()
            if isinstance(part, nn.Linear)
        ]
        if not linear:
            raise ConfigError(f"train.groups: '{group}' holds no linear layer, so LoRA has nothing to attach to. Use the tuner 'full' for it.")
        targets += linear
    if cfg.last_layers is not None:
        targets = _of_last_layers(targets, cfg.last_layers)
    config = LoraConfig(
        r=cfg.r,
        lora_alpha=cfg.lora_alpha,
        lora_dropout=cfg.lora_dropout,
        use_rslora=cfg.use_rslora,
        init_lora_weights=True if cfg.init_lora_weights == "default" else cfg.init_lora_weights,
        target_modules=targets,
    )
    wrapped = get_peft_model(model.module, config)
    model.peft = wrapped
    return [name for name, parameter in model.module.named_parameters() if parameter.requires_grad]


def _of_last_layers(targets: Sequence[str], last_layers: int) -> list[str]:
    """Targets without a layer number, and those of the last layers."""
    numbers = {name: int(found[1]) for name in targets if (found := re.search(r"\.layers\.(\d+)\.", name))}
    first = max(numbers.values(), default=0) - last_layers + 1
    return [name for name in targets if numbers.get(name, first) >= first]


def merge(model: Any) -> None:
    """Fold the updates into the plain weights; the model answers as before."""
    wrapped = model.peft
    if isinstance(wrapped, PeftModel):
        model.module = wrapped.merge_and_unload()
        model.peft = None
