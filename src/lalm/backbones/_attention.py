"""Attention of rows to a beginning that they have in common, and to themselves: no row holds a copy of the beginning.

Split so in inference by Hydragen (Juravsky et al. 2024, arXiv 2402.05099, section 3): the queries of all rows look at the
common keys with one matrix product a head. Here gradients flow back to the beginning, too, and the attention weights are not
kept for it but computed again, a portion of the rows at a time, as FlashAttention does (Dao et al. 2022, arXiv 2205.14135,
section 3.1). Unlike Hydragen, which joins two softmaxes by their sums, there is one softmax over both parts.

Shapes: B rows, L positions of a row that ask, S that are seen, P of the beginning; heads share keys in G groups.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "lalm_shared_prefix"  # as `_attn_implementation` of a language model
PORTION = 2**20  # attention weights at once: 4 MB of them, which stay in a processor's cache (LOG.md)
MAX_ROW = 2**22  # of a single row; long rows are left to torch's kernels, which pass over what comes later

Beginning = tuple[
    Tensor, Tensor, Tensor | None
]  # keys, values [1, G, P, width]; seen of them [B or 1, 1, L, P], None: all


def attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, scaling: float, **given: Any
) -> tuple[Tensor, None]:
    """Attention [B, L, heads, width] of queries [B, heads, L, width] to key, value [B, G, S, width]; no dropout.

    attention_mask [B or 1, 1, L, S] (True = seen). `prefix`: the rows' beginning (`Beginning`), or None if they have none in
    common; not given, this is the attention of `transformers` through torch's kernels.
    """
    if "prefix" not in given:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **given)
    before: Beginning | None = given["prefix"]
    query, key = query.to(value.dtype), key.to(value.dtype)
    if before is not None:
        before = (before[0].to(value.dtype), before[1].to(value.dtype), before[2])
    if query.shape[1] * query.shape[2] * _num_seen(key, before) > MAX_ROW:
        return _by_kernel(query, key, value, attention_mask, scaling, before), None
    parts = (None, None, None) if before is None else before
    if torch.is_grad_enabled():
        return _Attention.apply(query, key, value, attention_mask, scaling, *parts), None
    return _forward(query, key, value, attention_mask, scaling, before), None


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)


def _num_seen(key: Tensor, before: Beginning | None) -> int:
    return key.shape[2] + (0 if before is None else before[0].shape[2])


def _by_kernel(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, before: Beginning | None
) -> Tensor:
    """By torch's kernel: keys and values of the beginning are copied to every row."""
    num_rows, _, length, _ = query.shape
    if before is not None:
        seen = query.new_ones(1, 1, length, before[0].shape[2], dtype=torch.bool) if before[2] is None else before[2]
        assert mask is not None
        mask = torch.cat([seen.expand(num_rows, -1, -1, -1), mask.expand(num_rows, -1, -1, -1)], dim=-1)
        key = torch.cat([before[0].expand(num_rows, -1, -1, -1), key], dim=2)
        value = torch.cat([before[1].expand(num_rows, -1, -1, -1), value], dim=2)
    per_group = query.shape[1] // key.shape[1]
    key, value = (one.repeat_interleave(per_group, dim=1) for one in (key, value))
    found = torch.nn.functional.scaled_dot_product_attention(query, key, value, mask, scale=scaling)
    return found.transpose(1, 2)


def _portions(query: Tensor, key: Tensor, before: Beginning | None) -> list[slice]:
    """Rows that go together."""
    size = max(1, PORTION // (query.shape[1] * query.shape[2] * _num_seen(key, before)))
    return [slice(start, start + size) for start in range(0, len(query), size)]


def _rows_of(mask: Tensor | None, rows: slice) -> Tensor | None:
    """A mask's part for these rows; one that holds for all rows stays as it is."""
    return mask if mask is None or len(mask) == 1 else mask[rows]


def _side_by_side(rows: Tensor) -> Tensor:
    """[b, G, n, width] as [G, b * n, width]: what all rows ask of one beginning."""
    num_rows, groups, asking, width = rows.shape
    return rows.transpose(0, 1).reshape(groups, num_rows * asking, width)


def _weights(asked: Tensor, key: Tensor, mask: Tensor | None, before: Beginning | None, length: int) -> Tensor:
    """Attention weights [b, G, n, P + S] of scaled queries [b, G, n, width], n = heads of a group times `length`."""
    own = asked @ key.transpose(-1, -2)
    _hide(own, mask, length)
    if before is None:
        return own.softmax(dim=-1, dtype=torch.float32).to(asked.dtype)
    flat = _side_by_side(asked) @ before[0][0].transpose(-1, -2)
    common = flat.view(asked.shape[1], len(asked), asked.shape[2], flat.shape[-1]).transpose(0, 1)
    _hide(common, before[2], length)
    return torch.cat([common, own], dim=-1).softmax(dim=-1, dtype=torch.float32).to(asked.dtype)


def _hide(scores: Tensor, mask: Tensor | None, length: int) -> None:
    """Scores [b, G, n, S] of what is not seen, by a mask [b or 1, 1, L, S], become too small to count."""
    if mask is not None:
        scores.unflatten(2, (-1, length)).masked_fill_(~mask[:, :, None], torch.finfo(scores.dtype).min)


def _forward(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, before: Beginning | None
) -> Tensor:
    num_rows, num_heads, length, width = query.shape
    groups = key.shape[1]
    asked = (query * scaling).reshape(num_rows, groups, -1, width)
    found = query.new_empty(num_rows, length, num_heads, width)
    for rows in _portions(query, key, before):
        near = None if before is None else (before[0], before[1], _rows_of(before[2], rows))
        weights = _weights(asked[rows], key[rows], _rows_of(mask, rows), near, length)
        start = weights.shape[-1] - key.shape[2]
        seen = weights[..., start:] @ value[rows]
        if before is not None:
            common = _side_by_side(weights[..., :start]) @ before[1][0]
            seen += common.view(groups, len(seen), -1, width).transpose(0, 1)
        found[rows] = seen.view(-1, num_heads, length, width).transpose(1, 2)
    return found


class _Attention(torch.autograd.Function):
    """`_forward` with its gradients; of its weights nothing is kept."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        scaling: float,
        before_key: Tensor | None,
        before_value: Tensor | None,
        before_mask: Tensor | None,
    ) -> Tensor:
        before = None if before_key is None or before_value is None else (before_key, before_value, before_mask)
        found = _forward(query, key, value, mask, scaling, before)
        ctx.save_for_backward(query, key, value, mask, before_key, before_value, before_mask, found)
        ctx.scaling = scaling
        return found

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, mask, before_key, before_value, before_mask, found = ctx.saved_tensors
        before = None if before_key is None else (before_key, before_value, before_mask)
        num_rows, _, length, width = query.shape
        groups = key.shape[1]
        asked = (query * ctx.scaling).reshape(num_rows, groups, -1, width)
        back = grad.transpose(1, 2).reshape(num_rows, groups, -1, width)
        # softmax's gradient needs, of each query, the sum of weights times their gradients: that of output times its own
        total = (grad * found).sum(dim=-1, dtype=torch.float32).transpose(1, 2).reshape(num_rows, groups, -1, 1)
        to_query, to_key, to_value = torch.empty_like(asked), torch.empty_like(key), torch.empty_like(value)
        to_before: list[Any] = [None if one is None else torch.zeros_like(one) for one in (before_key, before_value)]
        for rows in _portions(query, key, before):
            near = None if before is None else (before_key, before_value, _rows_of(before_mask, rows))
            weights = _weights(asked[rows], key[rows], _rows_of(mask, rows), near, length)
            start = weights.shape[-1] - key.shape[2]
            own, common = weights[..., start:], weights[..., :start]
            to_value[rows] = own.transpose(-1, -2) @ back[rows]
            scores = (back[rows] @ value[rows].transpose(-1, -2)).sub_(total[rows]).mul_(own)
            to_key[rows] = scores.transpose(-1, -2) @ asked[rows]
            to_query[rows] = scores @ key[rows]
            if before is None:
                continue
            flat, flat_back = _side_by_side(common), _side_by_side(back[rows])
            to_before[1][0] += flat.transpose(-1, -2) @ flat_back
            flat_total = _side_by_side(total[rows])
            scores = (flat_back @ before_value[0].transpose(-1, -2)).sub_(flat_total).mul_(flat)
            to_before[0][0] += scores.transpose(-1, -2) @ _side_by_side(asked[rows])
            to_query[rows] += (scores @ before_key[0]).view(groups, -1, *asked.shape[2:]).transpose(0, 1)
        to_query = to_query.mul_(ctx.scaling).view_as(query)
        return to_query, to_key, to_value, None, None, *to_before, None
