"""Attention of rows to a common beginning and to themselves by torch's own kernels: on GPUs, in float32 or with windows.

Rows lie side by side, each padded at its end to the longest and with a copy of the beginning's keys and values before its own, so
that one call does all of them, with one mask for all. Padding stands behind a row, and no real position sees it. Copies are not
kept for the way back: they are made again, and attention with them.

Shapes: N positions of all rows together, P of the beginning, B rows, L of the longest, H heads, whose keys are shared in G groups,
w their width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

if TYPE_CHECKING:
    from lalm.backbones._attention import Layout


class SideBySide(torch.autograd.Function):
    """Attention [1, N, H, w] of `given`: query [1, H, N, w], key, value [1, G, N, w], and those two of the beginning [1, G, P, w]."""

    @staticmethod
    def forward(ctx: Any, scaling: float, layout: Layout, *given: Tensor) -> Tensor:
        ctx.save_for_backward(*given)
        ctx.scaling, ctx.layout = scaling, layout
        found = _attention(given, scaling, layout)
        return found.transpose(1, 2).flatten(0, 1).index_select(0, layout.places(found.device))[None]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        with torch.enable_grad():
            given = [one.detach().requires_grad_() for one in ctx.saved_tensors]
            found = _attention(given, ctx.scaling, ctx.layout)
        back = _padded(grad[0], ctx.layout).transpose(1, 2)
        return None, None, *torch.autograd.grad(found, given, back)


def _attention(given: Sequence[Tensor], scaling: float, layout: Layout) -> Tensor:
    """Attention [B, H, L, w] with the rows side by side."""
    query, *own = (_padded(one[0].transpose(0, 1), layout).transpose(1, 2) for one in given[:3])
    num_rows, num_heads, length, _ = query.shape
    pairs = zip(given[3:], own, strict=True)
    key, value = (torch.cat([before.expand(num_rows, -1, -1, -1), one], dim=2) for before, one in pairs)
    if (sharing := num_heads // key.shape[1]) > 1:
        key, value = (one.repeat_interleave(sharing, dim=1) for one in (key, value))
    mask = layout.seen(length).to(query.device)
    return scaled_dot_product_attention(query, key, value, mask, scale=scaling)


def _padded(sequence: Tensor, layout: Layout) -> Tensor:
    """A sequence [N, heads, w] as [B, L, heads, w]; padding is zero."""
    num_rows, longest = len(layout.lengths), max(layout.lengths)
    empty = sequence.new_zeros(num_rows * longest, *sequence.shape[1:])
    return empty.index_copy(0, layout.places(sequence.device), sequence).unflatten(0, (num_rows, longest))
