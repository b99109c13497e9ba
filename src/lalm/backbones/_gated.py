"""Gated MLPs of Llama-like layers, `down(act(gate) * up)`, that keep less for the way back.

Of gate, up and what they make, autograd keeps act(gate) as well, a quarter of what an MLP keeps. It is computed again here
(as Megatron-LM and Liger Kernel, arXiv 2410.10989, section 3.2, do for SwiGLU); the products before and after it are not.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def keep_less(mlp: Any) -> None:
    """Make an MLP with `gate_proj`, `up_proj`, `down_proj` and `act_fn` one of these; its weights and their names stay."""
    plain = type(mlp)
    if plain not in _CLASSES:
        _CLASSES[plain] = _keeping_less(plain)
    mlp.__class__ = _CLASSES[plain]


_CLASSES: dict[type, type] = {}


def _keeping_less(plain: type) -> type:
    """The class of MLPs with a `forward` that keeps less."""

    def forward(self: Any, x: Tensor) -> Tensor:
        found: Tensor = self.down_proj(_Gated.apply(self.gate_proj(x), self.up_proj(x), self.act_fn))
        return found

    return type(plain.__name__, (plain,), {"forward": forward, "__module__": plain.__module__})


class _Gated(torch.autograd.Function):
    """act(gate) * up."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, act: Any) -> Tensor:
        ctx.save_for_backward(gate, up)
        ctx.act = act
        product: Tensor = act(gate) * up
        return product

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        gate, up = ctx.saved_tensors
        with torch.enable_grad():
            given = gate.detach().requires_grad_()
            opened = ctx.act(given)
        (to_gate,) = torch.autograd.grad(opened, given, grad * up)
        return to_gate, grad * opened.detach(), None
