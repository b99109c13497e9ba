"""The layers of a model: what is sharded, or computed again, one at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from lalm.contracts import Model

HEARING = ("audio_encoder", "connector")


def layer_names(module: nn.Module) -> list[str]:
    """Names of the layers of a module in order: the outermost members of its module lists."""
    names: list[str] = []
    for name, part in module.named_modules():
        if isinstance(part, nn.ModuleList) and not any(f"{name}.".startswith(f"{outer}.") for outer in names):
            names += [f"{name}.{child}" for child, _ in part.named_children()]
    return names


def language_layers(model: Model) -> list[str]:
    """Names of the language model's layers, in order."""
    parts = [part for group, names in model.groups().items() if group.startswith("llm.") for part in names]
    return [name for name in layer_names(model.module) if any(part.startswith(f"{name}.") for part in parts)]


def of_groups(names: Sequence[str], known: Mapping[str, Sequence[str]], groups: Sequence[str]) -> list[str]:
    """Those parameters that belong to one of the groups."""
    parts = [f"{part}." for group in groups for part in known.get(group, ())]
    return [name for name in names if any(f"{name}.".startswith(part) for part in parts)]
