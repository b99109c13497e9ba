"""Attention of rows to a beginning that they have in common, and to themselves: no copies, no padding.

Split so in inference by Hydragen (Juravsky et al. 2024, arXiv 2402.05099, section 3): the queries of all rows look at the
common keys with one matrix product a head. Here gradients flow back to the beginning, too, and attention weights are not
kept for it but computed again, a portion of the rows at a time, as FlashAttention does (Dao et al. 2022, arXiv 2205.14135,
section 3.1). That is for processors; GPUs have kernels for it (`_packed`, `_side_by_side`). Unlike Hydragen, which joins two softmaxes by
their sums, there is one softmax over both parts.

Shapes: N positions of all rows together, P of the beginning, L of a row, H heads whose keys are shared in G groups, w their width.
A portion is b rows of like length; n = L * H / G queries of a row go to a group's keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from lalm.backbones._packed import Segments
from lalm.backbones._side_by_side import SideBySide

NAME = "lalm_shared_prefix"  # as `_attn_implementation` of a language model
# attention weights at once, by kind of device: on a processor 4 MB of them, which stay in its cache (LOG.md); on others, which
# want large pieces, 2 ** 26
PORTION = {"cpu": 2**20}
ELSEWHERE = 2**26
MAX_ROW = 2**22  # of a single row; long rows are left to torch's kernels, which pass over what comes later
Portion = tuple[Tensor, Tensor, tuple[Tensor, Tensor | None]]


class Layout:
    """Rows in a single sequence: `beginning` positions that all of them follow and that see themselves alone, then each row.

    A row sees the beginning and itself up to the position that asks; with a `window` only that many positions, its own among them.
    """

    def __init__(self, beginning: int, lengths: Sequence[int], window: int | None = None) -> None:
        self.beginning, self.lengths = beginning, tuple(lengths)
        self.window = None if window is None or beginning + max(lengths) <= window else window
        self._portions: dict[tuple[int, torch.device], list[Portion]] = {}
        self._places: dict[torch.device, Tensor] = {}
        self._segments: dict[torch.device, Segments] = {}

    def places(self, device: torch.device) -> Tensor:
        """Where each position [N] stands when rows lie side by side, padded to the longest; made once for all layers."""
        if device not in self._places:
            longest = max(self.lengths)
            each = [row * longest + torch.arange(length) for row, length in enumerate(self.lengths)]
            self._places[device] = torch.cat(each).to(device)
        return self._places[device]

    def segments(self, device: torch.device) -> Segments:
        """The beginning and the rows as segments of one sequence; made once for all layers."""
        if device not in self._segments:
            self._segments[device] = Segments(self.beginning, self.lengths, device)
        return self._segments[device]

    def portions(self, num_heads: int, device: torch.device) -> list[Portion]:
        """Places [b, L] in the rows' sequence, which of them are real, and what is `hidden`; made once for all layers."""
        key = (num_heads, device)
        if key not in self._portions:
            self._portions[key] = [
                (places.to(device), real.to(device), _on(device, self.hidden(places.shape[1])))
                for places, real in self._cut(num_heads, PORTION.get(device.type, ELSEWHERE))
            ]
        return self._portions[key]

    def _cut(self, num_heads: int, portion: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows of like length together."""
        starts = torch.tensor([0, *self.lengths]).cumsum(0)
        order = sorted(range(len(self.lengths)), key=lambda row: -self.lengths[row])
        while order:
            longest = self.lengths[order[0]]
            size = max(1, portion // (num_heads * longest * (longest + self.beginning)))
            chosen, order = order[:size], order[size:]
            lengths = torch.tensor([self.lengths[row] for row in chosen])[:, None]
            steps = torch.arange(longest)[None]
            yield starts[chosen][:, None] + steps.minimum(lengths - 1), steps < lengths

    def hidden(self, length: int) -> tuple[Tensor, Tensor | None]:
        """What queries [L] of a row do not see: of their row [L, L], and of the beginning [L, P] (None: nothing)."""
        asking = torch.arange(length)[:, None]
        own = asking - torch.arange(length)
        if self.window is None:
            return own < 0, None
        before = self.beginning + asking - torch.arange(self.beginning)
        return (own < 0) | (own >= self.window), before >= self.window

    def seen(self, length: int) -> Tensor:
        """What queries [L] of a row see, of the beginning and of their row [L, P + L]."""
        own, before = self.hidden(length)
        return ~torch.cat([own.new_zeros(length, self.beginning) if before is None else before, own], dim=1)


def attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, scaling: float, **given: Any
) -> tuple[Tensor, None]:
    """Attention [B, L, H, w] of queries [B, H, L, w] to key, value [B, G, S, w], without dropout; in one of three ways.

    `layout`: all rows in one sequence, B = 1, by `Layout`, and no mask. `prefix`: rows of their own with a mask, after a
    beginning of which keys and values are given (`_after_prefix`). Neither: torch's kernels, as `transformers` calls them.
    """
    if "layout" in given:
        return _in_one_sequence(query.to(value.dtype), key.to(value.dtype), value, scaling, given["layout"]), None
    if "prefix" in given:
        assert attention_mask is not None
        return _after_prefix(query, key, value, attention_mask, scaling, given["prefix"]), None
    return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **given)


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)


def _in_one_sequence(query: Tensor, key: Tensor, value: Tensor, scaling: float, layout: Layout) -> Tensor:
    start = layout.beginning
    before, rows = zip(*(one.split([start, one.shape[2] - start], dim=2) for one in (query, key, value)), strict=True)
    found = [_by_kernel(before[0], before[1], before[2], scaling, Layout(0, [start], layout.window))] if start else []
    longest = max(layout.lengths)
    if query.device.type != "cpu":
        found.append(SideBySide.apply(scaling, layout, *rows, *before[1:]))
    elif query.shape[1] * longest * (longest + start) <= MAX_ROW:
        found.append(_Rows.apply(*rows, *before[1:], scaling, layout))
    else:
        pieces = zip(*(one.split(layout.lengths, dim=2) for one in rows), strict=True)
        for (own_query, *own), length in zip(pieces, layout.lengths, strict=True):
            seen = [torch.cat(pair, dim=2) for pair in zip(before[1:], own, strict=True)]
            found.append(_by_kernel(own_query, seen[0], seen[1], scaling, Layout(start, [length], layout.window)))
    return torch.cat(found, dim=1)


def _by_kernel(query: Tensor, key: Tensor, value: Tensor, scaling: float, layout: Layout) -> Tensor:
    """A single row [1, L, H, w] by torch's kernel; key and value are those of the beginning and its own."""
    mask = layout.seen(query.shape[2]).to(query.device) if layout.beginning or layout.window is not None else None
    key, value = (one.repeat_interleave(query.shape[1] // one.shape[1], dim=1) for one in (key, value))
    found = scaled_dot_product_attention(query, key, value, mask, is_causal=mask is None, scale=scaling)
    return found.transpose(1, 2)


def _gathered(sequence: Tensor, places: Tensor, groups: int) -> Tensor:
    """Of a sequence [N, heads, w], what stands at places [b, L]: [G, b, L * heads / G, w]."""
    num_rows, length = places.shape
    taken = sequence.index_select(0, places.flatten()).view(num_rows, length, groups, -1, sequence.shape[2])
    return taken.permute(2, 0, 1, 3, 4).reshape(groups, num_rows, -1, sequence.shape[2])


def _scattered(taken: Tensor, length: int, real: Tensor) -> Tensor:
    """The real ones of [G, b, L * heads / G, w] as [real, heads, w]."""
    groups, num_rows, _, width = taken.shape
    rows = taken.view(groups, num_rows, length, -1, width).permute(1, 2, 0, 3, 4)
    return rows.reshape(num_rows, length, -1, width)[real]


def _weights(asked: Tensor, key: Tensor, before: Tensor, hidden: tuple[Tensor, Tensor | None]) -> Tensor:
    """Attention weights [G, b, n, P + L] of scaled queries [G, b, n, w] to key [G, b, L, w] and `before` [G, P, w]."""
    groups, num_rows, asking, width = asked.shape
    common = (asked.view(groups, -1, width) @ before.transpose(1, 2)).view(groups, num_rows, asking, before.shape[1])
    scores = torch.cat([common, asked @ key.transpose(-1, -2)], dim=-1)
    by_position = scores.unflatten(2, (key.shape[2], -1))
    least = torch.finfo(scores.dtype).min
    by_position[..., before.shape[1] :].masked_fill_(hidden[0][:, None], least)
    if hidden[1] is not None:
        by_position[..., : before.shape[1]].masked_fill_(hidden[1][:, None], least)
    return scores.softmax(dim=-1, dtype=torch.float32).to(scores.dtype)


class _Rows(torch.autograd.Function):
    """Attention [1, N, H, w] of rows in one sequence; of its weights nothing is kept.

    Padding within a portion stands behind a row, so no real position sees it; what it sees itself is dropped.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        before_key: Tensor,
        before_value: Tensor,
        scaling: float,
        layout: Layout,
    ) -> Tensor:
        groups, start = key.shape[1], layout.beginning
        queries, keys, values = (one[0].transpose(0, 1) for one in (query, key, value))
        found = torch.empty_like(queries, memory_format=torch.contiguous_format)
        for places, real, hidden in layout.portions(query.shape[1], query.device):
            length = places.shape[1]
            asked = _gathered(queries, places, groups).mul_(scaling)
            weights = _weights(asked, _gathered(keys, places, groups), before_key[0], hidden)
            seen = weights[..., start:] @ _gathered(values, places, groups)
            seen.flatten(1, 2).baddbmm_(weights[..., :start].flatten(1, 2), before_value[0])
            found[places[real]] = _scattered(seen, length, real)
        found = found[None]
        ctx.save_for_backward(query, key, value, before_key, before_value, found)
        ctx.scaling, ctx.layout = scaling, layout
        return found

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, before_key, before_value, found = ctx.saved_tensors
        layout, groups, start = ctx.layout, key.shape[1], ctx.layout.beginning
        queries, keys, values = (one[0].transpose(0, 1) for one in (query, key, value))
        to_query, to_key, to_value = (
            torch.empty_like(one, memory_format=torch.contiguous_format) for one in (queries, keys, values)
        )
        to_before_key, to_before_value = torch.zeros_like(before_key), torch.zeros_like(before_value)
        # softmax's gradient needs, of each query, the sum of weights times their gradients: that of output times its own
        total = (grad * found).sum(dim=-1, keepdim=True, dtype=torch.float32)[0]
        for places, real, hidden in layout.portions(query.shape[1], query.device):
            length = places.shape[1]
            own_key, own_value = (_gathered(one, places, groups) for one in (keys, values))
            asked = _gathered(queries, places, groups).mul_(ctx.scaling)
            weights = _weights(asked, own_key, before_key[0], hidden)
            of_real = real[None, :, :, None, None]
            back, sums = (
                (_gathered(one, places, groups).unflatten(2, (length, -1)) * of_real).flatten(2, 3)
                for one in (grad[0], total)
            )
            own, common = weights[..., start:], weights[..., :start].flatten(1, 2)
            to_value[places[real]] = _scattered(own.transpose(-1, -2) @ back, length, real)
            scores = (back @ own_value.transpose(-1, -2)).sub_(sums).mul_(own)
            to_key[places[real]] = _scattered(scores.transpose(-1, -2) @ asked, length, real)
            own_query = scores @ own_key
            flat_back, flat_asked = back.flatten(1, 2), asked.flatten(1, 2)
            to_before_value[0].baddbmm_(common.transpose(1, 2), flat_back)
            scores = (flat_back @ before_value[0].transpose(1, 2)).sub_(sums.flatten(1, 2)).mul_(common)
            to_before_key[0].baddbmm_(scores.transpose(1, 2), flat_asked)
            own_query.flatten(1, 2).baddbmm_(scores, before_key[0])
            to_query[places[real]] = _scattered(own_query.mul_(ctx.scaling), length, real)
        rows = [one.transpose(0, 1)[None] for one in (to_query, to_key, to_value)]
        return *rows, to_before_key, to_before_value, None, None


def _on(device: torch.device, hidden: tuple[Tensor, Tensor | None]) -> tuple[Tensor, Tensor | None]:
    return hidden[0].to(device), None if hidden[1] is None else hidden[1].to(device)


# keys and values [1, G, P, w], and what is seen of them [B or 1, 1, L, P] (None: all)
Prefix = tuple[Tensor, Tensor, Tensor | None]


def _after_prefix(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float, prefix: Prefix) -> Tensor:
    """Attention [B, L, H, w] of rows to a prefix and to their own keys, for answering: no gradients.

    mask [B or 1, 1, L, S] (True = seen).
    """
    num_rows, num_heads, length, _ = query.shape
    portion = PORTION.get(query.device.type, ELSEWHERE)
    size = max(1, portion // (num_heads * length * (prefix[0].shape[2] + key.shape[2])))
    parts = []
    for start in range(0, num_rows, size):
        rows = slice(start, start + size)
        own = mask if len(mask) == 1 else mask[rows]
        of_prefix = prefix[2] if prefix[2] is None or len(prefix[2]) == 1 else prefix[2][rows]
        parts.append(_portion(query[rows], key[rows], value[rows], own, scaling, (*prefix[:2], of_prefix)))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _portion(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float, prefix: Prefix) -> Tensor:
    """`_after_prefix` of some rows, all at once."""
    num_rows, num_heads, length, width = query.shape
    groups = key.shape[1]
    per_group = num_heads // groups
    asked = (query * scaling).reshape(num_rows, groups, per_group * length, width)
    own = (asked @ key.transpose(-1, -2)).view(num_rows, groups, per_group, length, -1)
    own = own.masked_fill(~mask[:, :, None], torch.finfo(own.dtype).min)
    flat = asked.transpose(0, 1).reshape(groups, num_rows * per_group * length, width)
    before = (flat @ prefix[0][0].transpose(-1, -2)).view(groups, num_rows, per_group, length, -1).transpose(0, 1)
    if prefix[2] is not None:
        before = before.masked_fill(~prefix[2][:, :, None], torch.finfo(before.dtype).min)
    weights = torch.cat([before, own], dim=-1).softmax(dim=-1, dtype=torch.float32).to(value.dtype)
    to_prefix, to_own = weights.split([before.shape[-1], own.shape[-1]], dim=-1)
    seen = to_prefix.transpose(0, 1).reshape(groups, num_rows * per_group * length, -1) @ prefix[1][0]
    seen = seen.view(groups, num_rows, per_group * length, width).transpose(0, 1)
    result = seen + to_own.reshape(num_rows, groups, per_group * length, -1) @ value
    return result.reshape(num_rows, num_heads, length, width).transpose(1, 2)
