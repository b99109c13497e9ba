"""LoRA: low-rank updates beside frozen weights (on peft).

Source: Hu et al. 2021 (arXiv 2106.09685). Targets are the groups that the backbone names, so nothing else is hit;
a group with parts that have no linear layer (norms, embeddings) cannot be tuned this way and is an error.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt

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

    Raises ConfigError for an unknown group or one that cannot be tuned this way.
    """
    from peft import LoraConfig, get_peft_model  # torch: not needed to check a recipe

    from lalm.tuners._lean_lora import make_lean

    targets = [target for group in groups for target in _targets(model, group, cfg)]
    if not targets:
        raise ConfigError("train.groups is empty: nothing would be trained.")
    config = LoraConfig(
        r=cfg.r,
        lora_alpha=cfg.lora_alpha,  # type: ignore[arg-type]  # peft computes with any number
        lora_dropout=cfg.lora_dropout,
        use_rslora=cfg.use_rslora,
        init_lora_weights=True if cfg.init_lora_weights == "default" else cfg.init_lora_weights,
        target_modules=targets,
    )
    wrapped = get_peft_model(model.module, config)
    make_lean(wrapped)
    model.peft = wrapped
    return [name for name, parameter in model.module.named_parameters() if parameter.requires_grad]


def _targets(model: Model, group: str, cfg: Config) -> list[str]:
    """The linear layers of a group. Raises ConfigError if it is unknown or cannot be tuned this way."""
    from torch import nn

    known = model.groups()
    if group not in known:
        raise ConfigError(f"train.groups: unknown group '{group}'.{nearest(group, known)}")
    if not known[group]:
        raise ConfigError(f"train.groups: '{group}' holds nothing that could learn in this model.")
    linear = []
    for name in known[group]:
        parts = model.module.get_submodule(name).named_modules()
        found = [f"{name}.{inner}".rstrip(".") for inner, part in parts if isinstance(part, nn.Linear)]
        if not found:  # an output layer may be one tensor with embeddings: it is not tuned without them
            raise ConfigError(
                f"train.groups: '{group}' holds {name}, which has no linear layer for LoRA. Use the tuner 'full' for it."
            )
        linear += found
    if cfg.last_layers is None or not group.startswith("llm."):
        return linear
    return _of_last_layers(linear, cfg.last_layers)


def _of_last_layers(targets: Sequence[str], last_layers: int) -> list[str]:
    """Those of the last layers of the language model."""
    numbers = {name: int(found[1]) for name in targets if (found := re.search(r"\.layers\.(\d+)\.", name))}
    first = max(numbers.values(), default=0) - last_layers + 1
    return [name for name in targets if numbers.get(name, first) >= first]


def merge(model: Any) -> None:
    """Fold the updates into the plain weights; the model answers as before."""
    wrapped = model.peft
    if wrapped is not None:
        model.module = wrapped.merge_and_unload()
        model.peft = None
