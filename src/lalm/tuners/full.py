"""Full: the weights of the chosen groups themselves are trained.

As in the study (arXiv 2509.15389), which tunes the whole language model without LoRA. Tied weights (an embedding that
is also the output layer) are trained once, together.
"""

from __future__ import annotations

from collections.abc import Sequence

from lalm.contracts import Model
from lalm.errors import ConfigError, nearest
from lalm.plugins import PluginConfig


class Config(PluginConfig):
    """Full tuning has no options; what is trained is `train.groups`."""


def attach(model: Model, groups: Sequence[str], cfg: Config) -> list[str]:
    """Make the parameters of `groups` trainable and nothing else; their names.

    Raises ConfigError for an unknown group, or one that holds nothing that could learn in this model.
    """
    known = model.groups()
    for parameter in model.module.parameters():
        parameter.requires_grad_(False)
    for group in groups:
        if group not in known:
            raise ConfigError(f"train.groups: unknown group '{group}'.{nearest(group, known)}")
        parts = [model.module.get_submodule(name) for name in known[group]]
        if not any(True for part in parts for _ in part.parameters()):
            raise ConfigError(f"train.groups: '{group}' holds nothing that could learn in this model.")
        for part in parts:
            part.requires_grad_(True)
    if not groups:
        raise ConfigError("train.groups is empty: nothing would be trained.")
    return [name for name, parameter in model.module.named_parameters() if parameter.requires_grad]


def merge(model: Model) -> None:
    """Nothing to fold: the weights are the plain ones already."""
