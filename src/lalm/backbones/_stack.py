"""Layers of a Llama-like decoder over rows that begin alike, and rows whose lower layers never change.

Two facts save work without changing the result beyond rounding. Rows of a batch share their instruction, so its keys
and values are computed once and seen by all rows. And if the lower layers are frozen, what they make of a row is the
same in every epoch, so it is kept.

Gemma 3 has two types of layers: some see everything, others the last `sliding_window` positions alone, with a rotary base
of their own. Rows follow their prefix without a gap and are padded on the right, so who stands how far back is known.
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

FAMILIES = ("llama", "qwen2", "qwen3", "gemma3_text")  # causal attention and rotary positions in every layer
OF_TYPES = ("gemma3_text",)  # with a window and a rotary base by type of layer
FULL, SLIDING = "full_attention", "sliding_attention"
MAX_KEPT_BYTES = 4 * 2**30
MAX_PLAIN_WEIGHTS = 2**22  # a layer; 16 MB of them


def supports(llm: Any) -> bool:
    """Whether layers of this model can be run one by one here."""
    config = llm.config
    return (
        config.model_type in FAMILIES
        and config._attn_implementation == "sdpa"  # others do not take a mask of true and false
        and not getattr(config, "use_sliding_window", False)
        and not getattr(config, "use_bidirectional_attention", False)
    )


def types(llm: Any) -> list[str]:
    """The type of each layer: `full_attention` or `sliding_attention`."""
    return list(llm.config.layer_types) if llm.config.model_type in OF_TYPES else [FULL] * len(llm.model.layers)


def window(llm: Any) -> int | None:
    """How many positions layers with a window see, their own among them; None without such layers."""
    return int(llm.config.sliding_window) if SLIDING in types(llm) else None


def turns(llm: Any, rows: Tensor, positions: Tensor) -> dict[str, Any]:
    """Cosines and sines of rotary positions by type of layer."""
    if llm.config.model_type not in OF_TYPES:
        return {FULL: llm.model.rotary_emb(rows, positions)}
    return {kind: llm.model.rotary_emb(rows, positions, kind) for kind in set(types(llm))}


def near(asking: Tensor, seen: Tensor, reach: int) -> Tensor:
    """Whether keys at positions `seen` [..., S] lie in the window of queries at `asking` [..., L]: [..., L, S]."""
    return asking[..., :, None] - seen[..., None, :] < reach


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
    views = {FULL: attention, SLIDING: attention}
    reach = window(llm)
    if reach is not None and start + length > reach:
        places = torch.arange(start + length, device=mask.device)
        itself = positions[0][:, None] == places  # padding that saw nothing at all would be no number
        views[SLIDING] = attention & near(positions[0], places, reach) | itself
    turn = turns(llm, rows, positions)
    beginning = None if prefix is None else _Beginning(llm, prefix)
    with _attention_kernel(rows.device, attention.numel() * llm.config.num_attention_heads):
        for layer, kind in zip(llm.model.layers[first:last], types(llm)[first:last], strict=True):
            before = None if beginning is None else _Before(beginning.through(layer, kind), num_rows)
            rows = layer(
                rows,
                attention_mask=views[kind],
                position_ids=positions,
                position_embeddings=turn[kind],
                **with_cache(layer, before),
            )
    return None if beginning is None else beginning.states, rows


class _Beginning:
    """A prefix on its way through the layers: its states [1, P, D] so far. It sees itself alone."""

    def __init__(self, llm: Any, states: Tensor) -> None:
        self.states = states
        places = torch.arange(states.shape[1], device=states.device)
        self._turn = turns(llm, states, places[None])
        reach = window(llm)
        self._views: dict[str, Tensor | None] = {FULL: None, SLIDING: None}  # None: all that is before
        if reach is not None and len(places) > reach:
            self._views[SLIDING] = (near(places, places, reach) & (places[:, None] >= places))[None, None]

    def through(self, layer: Any, kind: str) -> _Record:
        """Go through a layer; the keys and values that it made of the prefix."""
        record = _Record()
        self.states = layer(
            self.states,
            attention_mask=self._views[kind],
            position_embeddings=self._turn[kind],
            **with_cache(layer, record),
        )
        return record


def prefix_keys_values(llm: Any, prefix: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
    """Keys and values [1, heads, P, width] of the prefix's tokens in each layer; of none, P is 0."""
    ids = torch.tensor([list(prefix) or [0]], dtype=torch.long, device=llm.device)
    beginning = _Beginning(llm, llm.get_input_embeddings()(ids))
    records = [beginning.through(layer, kind) for layer, kind in zip(llm.model.layers, types(llm), strict=True)]
    return [(record.keys[:, :, : len(prefix)], record.values[:, :, : len(prefix)]) for record in records]


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
