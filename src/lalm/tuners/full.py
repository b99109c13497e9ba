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

    Raises ConfigError for an unknown group, or groups without a single parameter.
    """
    known = model.groups()
    for parameter in model.module.parameters():
        parameter.requires_grad_(False)
    for group in groups:
        if group not in known:
            raise ConfigError(f"train.groups: unknown group '{group}'.{nearest(group, known)}")
        for name in known[group]:
            model.module.get_submodule(name).requires_grad_(True)
    names = [name for name, parameter in model.module.named_parameters() if parameter.requires_grad]
    if not names:
        raise ConfigError(f"train.groups {', '.join(groups) or '(none)'}: nothing would be trained in this model.")
    return names


def merge(model: Model) -> None:
    """Nothing to fold: the weights are the plain ones already."""
