"""Layers of a Llama-like decoder over rows that begin alike, and rows whose lower layers never change.

Two facts save work without changing the result beyond rounding. Rows of a batch share their instruction, so its keys
and values are computed once and seen by all rows. And if the lower layers are frozen, what they make of a row is the
same in every epoch, so it is kept.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from lalm.models.key_values import with_cache

FAMILIES = ("llama", "qwen2", "qwen3")  # plain causal attention and rotary positions in every layer
MAX_KEPT_BYTES = 4 * 2**30
MAX_PLAIN_WEIGHTS = 2**22  # a layer; 16 MB of them


def supports(llm: Any) -> bool:
    """Whether layers of this model can be run one by one here."""
    config = llm.config
    return (
        config.model_type in FAMILIES
        and config._attn_implementation == "sdpa"  # others do not take a mask of true and false
        and not getattr(config, "use_sliding_window", False)
    )


class _Record:
    """Stands in for a key-value cache: hands keys and values through and keeps them."""

    keys: Tensor
    values: Tensor

    def update(self, keys: Tensor, values: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        self.keys, self.values = keys, values
        return keys, values


class _Before:
    """Stands in for a key-value cache: puts the prefix's keys and values before those of the rows."""

    def __init__(self, record: _Record, num_rows: int) -> None:
        self._keys = record.keys.expand(num_rows, -1, -1, -1)
        self._values = record.values.expand(num_rows, -1, -1, -1)

    def update(self, keys: Tensor, values: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        return torch.cat([self._keys, keys], dim=2), torch.cat([self._values, values], dim=2)


def _attention_kernel(device: torch.device, num_weights: int) -> contextlib.AbstractContextManager[None]:
    """Torch's plain attention for training on a CPU, where the backward pass of its flash attention is slow.

    A step of SmolLM2-135M on eight sentences took 2.6 s instead of 3.0 s with one core. The plain way keeps all
    attention weights, so it is left for rows that are not too long.
    """
    if device.type == "cpu" and torch.is_grad_enabled() and num_weights <= MAX_PLAIN_WEIGHTS:
        return sdpa_kernel(SDPBackend.MATH)
    return contextlib.nullcontext()


def run_layers(
    llm: Any, first: int, last: int, prefix: Tensor | None, rows: Tensor, mask: Tensor
) -> tuple[Tensor | None, Tensor]:
    """Layers `first` to `last` (excluded) over prefix [1, P, D] and rows [B, L, D] with mask [B, L] (True = real).

    Rows follow the prefix in position and see it whole; the prefix sees itself alone.
    """
    num_rows, length = mask.shape
    start = 0 if prefix is None else prefix.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=mask.device).tril()
    seen = torch.ones(num_rows, 1, length, start, dtype=torch.bool, device=mask.device)
    attention = torch.cat([seen, causal[None, None] & mask[:, None, None, :]], dim=-1)
    positions = torch.arange(start, start + length, device=mask.device)[None]
    turn = llm.model.rotary_emb(rows, positions)
    prefix_turn = (
        None if prefix is None else llm.model.rotary_emb(prefix, torch.arange(start, device=mask.device)[None])
    )
    with _attention_kernel(rows.device, attention.numel() * llm.config.num_attention_heads):
        return _run(llm.model.layers[first:last], prefix, prefix_turn, rows, turn, positions, attention)


def _run(
    layers: Sequence[Any],
    prefix: Tensor | None,
    prefix_turn: Any,
    rows: Tensor,
    turn: Any,
    positions: Tensor,
    attention: Tensor,
) -> tuple[Tensor | None, Tensor]:
    for layer in layers:
        before = None
        if prefix is not None:
            record = _Record()
            prefix = layer(prefix, position_embeddings=prefix_turn, **with_cache(layer, record))
            before = _Before(record, len(rows))
        rows = layer(
            rows,
            attention_mask=attention,
            position_ids=positions,
            position_embeddings=turn,
            **with_cache(layer, before),
        )
    return prefix, rows


def prefix_keys_values(llm: Any, prefix: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
    """Keys and values [1, heads, P, width] of the prefix's tokens in each layer."""
    rows = llm.get_input_embeddings()(torch.tensor([list(prefix)], dtype=torch.long, device=llm.device))
    turn = llm.model.rotary_emb(rows, torch.arange(len(prefix), device=rows.device)[None])
    found = []
    for layer in llm.model.layers:
        record = _Record()
        rows = layer(rows, position_embeddings=turn, **with_cache(layer, record))
        found.append((record.keys, record.values))
    return found


def num_frozen_layers(llm: Any) -> int:
    """How many layers from the bottom on hold no trained weight; 0 if the embeddings below them are trained."""
    if any(parameter.requires_grad for parameter in llm.get_input_embeddings().parameters()):
        return 0
    for number, layer in enumerate(llm.model.layers):
        if any(parameter.requires_grad for parameter in layer.parameters()):
            return number
    return len(llm.model.layers)


class KeptStates:
    """Hidden states of rows above the frozen layers [L, D], the least recently used dropped beyond a bound."""

    def __init__(self, max_bytes: int = MAX_KEPT_BYTES) -> None:
        self._states: OrderedDict[str, Tensor] = OrderedDict()
        self._bytes, self._max_bytes = 0, max_bytes

    def missing(self, keys: Sequence[str]) -> list[int]:
        """Positions of the keys that are not there."""
        return [index for index, key in enumerate(keys) if key not in self._states]

    def put(self, key: str, state: Tensor) -> None:
        """Keep a row's states."""
        if key in self._states:
            self._bytes -= self._states[key].numel() * self._states[key].element_size()
        self._states[key] = state
        self._bytes += state.numel() * state.element_size()

    def take(self, keys: Sequence[str]) -> list[Tensor]:
        """The states of the keys, in order; then what is over the bound is dropped."""
        found = [self._states[key] for key in keys]
        for key in keys:
            self._states.move_to_end(key)
        while self._bytes > self._max_bytes and len(self._states) > len(keys):
            _, dropped = self._states.popitem(last=False)
            self._bytes -= dropped.numel() * dropped.element_size()
        return found
