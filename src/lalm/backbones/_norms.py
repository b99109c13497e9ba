"""Root mean square norms of Llama-like layers in one kernel on a GPU, where the classes of `transformers` take six.

The same function: the mean square and the product are computed in float32, and rounded once at the end instead of before the
weight, too. On a processor, which has no such kernel, the class's own way is kept.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

WITHOUT_KERNEL = ("cpu", "meta")
PLAIN = ("LlamaRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm")  # weight * x / rms(x), with `weight` and `variance_epsilon`


def fuse_norms(module: nn.Module) -> None:
    """Make the norms of these classes within a module ones that ask for the kernel; weights and their names stay."""
    for part in module.modules():
        plain = type(part)
        if plain.__name__ in PLAIN:
            if plain not in _CLASSES:
                _CLASSES[plain] = _fused(plain)
            part.__class__ = _CLASSES[plain]


_CLASSES: dict[type, type] = {}


def _fused(plain: Any) -> type:
    """The class of norms with a `forward` that is one kernel where there is one."""

    def forward(self: Any, hidden_states: Tensor) -> Tensor:
        if hidden_states.device.type in WITHOUT_KERNEL or hidden_states.dtype != self.weight.dtype:
            found: Tensor = plain.forward(self, hidden_states)
            return found
        with torch.autocast(hidden_states.device.type, enabled=False):  # it would make float32 of what comes out
            return nn.functional.rms_norm(hidden_states, self.weight.shape, self.weight, self.variance_epsilon)

    return type(plain.__name__, (plain,), {"forward": forward, "plain_class": plain, "__module__": plain.__module__})
