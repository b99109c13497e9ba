"""Root mean square norms of Llama-like layers in one kernel on a GPU, where the classes of `transformers` take six.

The same function: the mean square and the product are computed in float32, and rounded once at the end instead of before the
weight, too. On a processor, which has no such kernel, the class's own way is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lalm.backbones._swapped import swap

WITHOUT_KERNEL = ("cpu", "meta")
PLAIN = ("LlamaRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm")  # weight * x / rms(x), with `weight` and `variance_epsilon`


def fuse_norms(module: nn.Module) -> None:
    """Make the norms of these classes within a module ones that ask for the kernel; weights and their names stay."""
    for part in module.modules():
        if type(part).__name__ in PLAIN:
            swap(part, _fused)


def _fused(plain: Any) -> Callable[..., Any]:
    """The `forward` of norms that is one kernel where there is one."""

    def forward(self: Any, hidden_states: Tensor) -> Tensor:
        if hidden_states.device.type in WITHOUT_KERNEL or hidden_states.dtype != self.weight.dtype:
            found: Tensor = plain.forward(self, hidden_states)
            return found
        with torch.autocast(hidden_states.device.type, enabled=False):  # it would make float32 of what comes out
            return nn.functional.rms_norm(hidden_states, self.weight.shape, self.weight, self.variance_epsilon)

    return forward
