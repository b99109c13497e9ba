"""Layers of a Llama-like decoder over rows that begin alike, and rows whose lower layers never change.

Two facts save work without changing the result beyond rounding. Rows of a batch share their instruction, so its keys
and values are computed once and seen by all rows. And if the lower layers are frozen, what they make of a row is the
same in every epoch, so it is kept.

Gemma 3 has two types of layers: some see everything, others the last `sliding_window` positions alone, with a rotary base
of their own. Rows follow their prefix without a gap and are padded on the right, so who stands how far back is known.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lalm.backbones import _attention
from lalm.backbones._attention import Layout
from lalm.backbones._gated import keep_less
from lalm.backbones._norms import fuse_norms
from lalm.backbones._packed import use_packed
from lalm.models.key_values import with_cache

FAMILIES = ("llama", "qwen2", "qwen3", "gemma3_text")  # causal attention and rotary positions in every layer
OF_TYPES = ("gemma3_text",)  # with a window and a rotary base by type of layer
FULL, SLIDING = "full_attention", "sliding_attention"
MAX_KEPT_BYTES = 4 * 2**30


def prepare(llm: Any) -> None:
    """Give a model of these families the attention that knows of a common prefix, MLPs that keep less, and a GPU's kernels."""
    if llm.config.model_type in FAMILIES and llm.config._attn_implementation == "sdpa":
        llm.config._attn_implementation = _attention.NAME
        fuse_norms(llm.model)
        for layer in llm.model.layers:
            keep_less(layer.mlp)
            use_packed(layer.self_attn)


def supports(llm: Any) -> bool:
    """Whether layers of this model can be run one by one here."""
    return why_not(llm) is None


def why_not(llm: Any) -> str | None:
    """Why layers of this model are not run one by one; None if they are."""
    config = llm.config
    if config.model_type not in FAMILIES:
        return f"the family {config.model_type} is none of {', '.join(FAMILIES)}"
    if config._attn_implementation != _attention.NAME:
        return f"its attention is {config._attn_implementation}, not sdpa"
    if getattr(config, "attention_dropout", 0.0):
        return "it has attention dropout"
    if getattr(config, "use_sliding_window", False):
        return "its attention has a window"
    if getattr(config, "use_bidirectional_attention", False):
        return "its attention looks ahead"
    return None


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


def run_layers(
    llm: Any, first: int, last: int, prefix: Tensor | None, rows: Tensor, mask: Tensor
) -> tuple[Tensor | None, Tensor]:
    """Layers `first` to `last` (excluded) over prefix [1, P, D] and rows [B, L, D] with mask [B, L] (True = real).

    Rows may be padded on either side. They follow the prefix in position and see it whole; the prefix sees itself alone. All go
    through a layer as one sequence without padding; padding comes back as zeros.
    """
    start = 0 if prefix is None else prefix.shape[1]
    states = rows[mask] if prefix is None else torch.cat([prefix[0].to(rows.dtype), rows[mask]])
    states = states[None]
    places = start + (mask.cumsum(dim=1) - 1)[mask]
    positions = torch.cat([torch.arange(start, device=mask.device), places])[None]
    lengths = mask.sum(dim=1).tolist()
    layouts = {FULL: Layout(start, lengths), SLIDING: Layout(start, lengths, window(llm))}
    turn = turns(llm, states, positions)
    for layer, kind in zip(llm.model.layers[first:last], types(llm)[first:last], strict=True):
        states = layer(
            states,
            attention_mask=None,
            position_ids=positions,
            position_embeddings=turn[kind],
            layout=layouts[kind],
            **with_cache(layer, None),
        )
    found = rows.new_zeros(rows.shape).masked_scatter(mask[..., None], states[0, start:])
    return None if prefix is None else states[:, :start], found


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
