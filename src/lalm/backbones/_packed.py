"""Attention in one call of FlashAttention's kernel for sequences of many lengths (Dao 2023, arXiv 2307.08691): on GPUs, in bfloat16.

The beginning and each row are segments of one sequence of queries, as it is. A segment's keys are those of the beginning and
its own, so of the whole sequence those of the beginning are copied to each row; queries stand at the end of their keys, where
the kernel aligns its causal mask. Nothing is padded, and the copies are made again for the way back instead of kept.

Around it the attention of Llama-like layers in as few operations as may be: heads stay where the projections put them, and
rotary positions are two fused products. A step of a large model on a fast card is short of a processor that asks for operations,
not of arithmetic.

Shapes: N positions of the beginning and all rows, K keys of all segments, H heads, whose keys are shared in G groups, w their width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lalm.backbones._swapped import swap

if TYPE_CHECKING:
    from lalm.backbones._attention import Layout

CAPABLE = (8, 0)  # what the kernel asks of a card: Ampere or later
LARGEST_WIDTH = 256
PLAIN = ("LlamaAttention", "Qwen2Attention", "Qwen3Attention")


def use_packed(attention: Any) -> None:
    """Make attention of these classes one that does so where it can; its weights and their names stay."""
    if type(attention).__name__ in PLAIN:
        swap(attention, _packed)


def _packed(plain: Any) -> Callable[..., Any]:
    """The `forward` of attention for rows in one sequence (`_attention.Layout`) on a GPU."""

    def forward(self: Any, hidden_states: Tensor, *args: Any, **given: Any) -> Any:
        layout = given.get("layout")
        if layout is None or layout.window is not None or not has_kernel(hidden_states, self.head_dim):
            return plain.forward(self, hidden_states, *args, **given)
        value = self.v_proj(hidden_states)
        heads = (*hidden_states.shape[1:-1], -1, self.head_dim)
        query, key = self.q_proj(hidden_states).view(heads), self.k_proj(hidden_states).view(heads)
        if hasattr(self, "q_norm"):
            query, key = self.q_norm(query), self.k_norm(key)
        cosines, sines = (one[0, :, None] for one in given["position_embeddings"])
        turned = [_Turned.apply(one.to(cosines.dtype), cosines, sines).to(value.dtype) for one in (query, key)]
        found = _Packed.apply(*turned, value.view(heads), self.scaling, layout)
        return self.o_proj(found.reshape(1, len(found), -1)), None

    return forward


def has_kernel(states: Tensor, width: int) -> bool:
    """Whether there is one for heads of this width where the states are, in the numbers that are computed in."""
    if states.device.type != "cuda" or not torch.backends.cuda.flash_sdp_enabled():
        return False
    numbers = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else states.dtype
    fits = width % 8 == 0 and width <= LARGEST_WIDTH
    return fits and numbers == torch.bfloat16 and torch.cuda.get_device_capability(states.device) >= CAPABLE


class _Turned(torch.autograd.Function):
    """Rotary positions, x * cos + rotate_half(x) * sin, of x [N, heads, w] with cos and sin [N, 1, w], whose halves are alike."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        ctx.save_for_backward(cosines, sines)
        return _turn(x, cosines, sines, -1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        cosines, sines = ctx.saved_tensors
        return _turn(grad, cosines, sines, 1), None, None


def _turn(x: Tensor, cosines: Tensor, sines: Tensor, sign: int) -> Tensor:
    """Turned forward (-1), or back by the same angle (1)."""
    half = x.shape[-1] // 2
    found = x * cosines
    found[..., :half].addcmul_(x[..., half:], sines[..., :half], value=sign)
    found[..., half:].addcmul_(x[..., :half], sines[..., half:], value=-sign)
    return found


class _Packed(torch.autograd.Function):
    """Attention [N, H, w] of query [N, H, w] to key, value [N, G, w]."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scaling: float, layout: Layout) -> Tensor:
        places = layout.segments(query.device)
        seen = [places.copied(one) for one in (key, value)]
        found, *kept = kernel(query, seen[0], seen[1], places, scaling)
        ctx.save_for_backward(query, key, value, found, *kept)
        ctx.scaling, ctx.layout = scaling, layout
        return found

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, found, *kept = ctx.saved_tensors
        places = ctx.layout.segments(query.device)
        seen = [places.copied(one) for one in (key, value)]
        to_query, *to_seen = kernel_back(grad.contiguous(), query, seen[0], seen[1], found, kept, places, ctx.scaling)
        return to_query, *(places.summed(one) for one in to_seen), None, None


def kernel(query: Tensor, key: Tensor, value: Tensor, places: Segments, scaling: float) -> tuple[Tensor, ...]:
    """Attention [N, H, w] to keys and values [K, G, w], and what the way back needs."""
    found, totals, state, unused, _ = torch.ops.aten._flash_attention_forward(
        query, key, value, *places.bounds, *places.longest, 0.0, True, False, scale=scaling
    )
    return found, totals, state, unused


def kernel_back(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    found: Tensor,
    kept: list[Tensor],
    places: Segments,
    scaling: float,
) -> tuple[Tensor, ...]:
    """Gradients of query, key and value."""
    totals, *state = kept
    back: tuple[Tensor, ...] = torch.ops.aten._flash_attention_backward(
        grad, query, key, value, found, totals, *places.bounds, *places.longest, 0.0, True, *state, scale=scaling
    )
    return back


class Segments:
    """Where the segments of a sequence stand: a beginning of `start` positions, if there is one, and rows of `lengths`.

    `bounds` are the segments' bounds among queries and among keys [segments + 1], `longest` the most of each.
    """

    def __init__(self, start: int, lengths: tuple[int, ...], device: torch.device) -> None:
        rows = torch.tensor(lengths)
        asking = torch.cat([torch.tensor([start] if start else [], dtype=torch.long), rows])
        seen = asking.clone()
        seen[1 if start else 0 :] += start
        self.bounds = tuple(
            torch.nn.functional.pad(each.cumsum(0), (1, 0)).to(device, torch.int32) for each in (asking, seen)
        )
        self.longest = (int(asking.max()), int(seen.max()))
        self._start, self._num_rows = start, len(lengths)
        if start:
            beginning = torch.arange(start)
            ends = seen.cumsum(0)[1:]
            firsts = start + rows.cumsum(0) - rows
            each = [
                torch.cat([beginning, first + torch.arange(length)])
                for first, length in zip(firsts, lengths, strict=True)
            ]
            self._taken = torch.cat([beginning, *each]).to(device)
            own = [end - length + torch.arange(length) for end, length in zip(ends, lengths, strict=True)]
            self._own = torch.cat([beginning, *own]).to(device)
            copies = [end - length - start + beginning for end, length in zip(ends, lengths, strict=True)]
            self._copies = torch.cat(copies).to(device)

    def copied(self, sequence: Tensor) -> Tensor:
        """Keys or values [K, G, w] of all segments, of a sequence [N, G, w]."""
        return sequence.index_select(0, self._taken) if self._start else sequence

    def summed(self, grad: Tensor) -> Tensor:
        """Gradients [N, G, w] of a sequence from those of all segments' keys or values [K, G, w]."""
        if not self._start:
            return grad
        found = grad.index_select(0, self._own)
        copies = grad.index_select(0, self._copies).unflatten(0, (self._num_rows, self._start))
        found[: self._start] += copies.sum(0)
        return found
