"""Gated MLPs of Llama-like layers, `down(act(gate) * up)`, that keep less for the way back.

Of gate, up and what they make, autograd keeps act(gate) and its product with up as well, a half of what an MLP keeps. Both are
computed again here from gate and up (as Megatron-LM and Liger Kernel, arXiv 2410.10989, section 3.2, do for act(gate)); the
matrix products are not. The product is what adapters of `down_proj` need, so it is made when they ask for it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

from lalm.backbones._swapped import swap


def keep_less(mlp: Any) -> None:
    """Make an MLP with `gate_proj`, `up_proj`, `down_proj` and `act_fn` one of these; its weights and their names stay."""
    swap(mlp, _keeping_less)


_SILU = (nn.SiLU, type(ACT2FN["silu"]))


def _keeping_less(plain: Any) -> Callable[..., Any]:
    """The `forward` of MLPs that keeps less."""

    def forward(self: Any, x: Tensor) -> Tensor:
        product = _Gated.apply(self.gate_proj(x), self.up_proj(x), self.act_fn)
        with _made_again(product):
            found: Tensor = self.down_proj(product)
        return found

    return forward


class _Gated(torch.autograd.Function):
    """act(gate) * up."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, act: Any) -> Tensor:
        ctx.save_for_backward(gate, up)
        ctx.act, ctx.ready = act, None
        product: Tensor = act(gate) * up
        return product

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        gate, opened, up = ctx.ready or _open(ctx)
        ctx.ready = None
        if (
            type(ctx.act) in _SILU
        ):  # its gradient is one operation; a graph of its own is several, and a call of the engine
            return torch.ops.aten.silu_backward(grad * up, gate), grad * opened, None
        (to_gate,) = torch.autograd.grad(opened, gate, grad * up)
        return to_gate, grad * opened.detach(), None


def _open(node: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Gate, act(gate), with a graph that leads back to it where that is needed, and up."""
    gate, up = node.saved_tensors
    if type(node.act) in _SILU:
        return gate, nn.functional.silu(gate), up
    with torch.enable_grad():
        given = gate.detach().requires_grad_()
        return given, node.act(given), up


def _made_again(product: Tensor) -> AbstractContextManager[Any]:
    """While this is open, `product` of `_Gated` is not kept for the way back, but the node of the graph that made it.

    What it is made of is read from the node once for both of them: under gradient checkpointing it cannot be read twice.
    """
    node: Any = product.grad_fn
    if node is None:
        return nullcontext()
    place, size = product.data_ptr(), product.numel()

    def pack(one: Tensor) -> Tensor | torch.Size:
        same = one.data_ptr() == place and one.numel() == size and one.is_contiguous()
        return one.shape if same else one

    def unpack(kept: Tensor | torch.Size) -> Tensor:
        if isinstance(kept, Tensor):
            return kept
        node.ready = node.ready or _open(node)
        _, opened, up = node.ready
        return (opened.detach() * up).view(kept)

    return torch.autograd.graph.saved_tensors_hooks(pack, unpack)
