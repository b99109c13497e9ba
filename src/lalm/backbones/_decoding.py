"""Greedy decoding of rows that begin alike: the prefix's keys and values are stored once, not once a row.

Copied to every row and appended to at every token, keys and values of a long prompt are much to move and to hold. Here
the rows look at one copy of the prefix's with a single matrix product a head, and their own stand in a buffer
that doubles when it is full. 32 answers of 40 tokens take a fifth less time after a prompt of 600 tokens, a tenth after one of
200 (SmolLM2-135M, two cores, LOG.md). Models that `_stack` does not know decode with the cache of `transformers`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from lalm.backbones import _stack
from lalm.backbones._search import Limits
from lalm.models.key_values import with_cache

_ROOM = 256  # positions of an answer that there is room for at first; few answers that may be long are


class Decoder(Protocol):
    """Rows being answered. `start` once, then `step` a token at a time; `keep` when rows have ended."""

    def start(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """Read the rows [B, L, D] with mask [B, L] (True = real, padded right); last hidden states of each [B, D]."""

    def step(self, tokens: Tensor) -> Tensor:
        """Read one token of each row [B]; last hidden states [B, D]."""

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows [kept] alone."""


def decoder(module: Any, prefix: list[int], max_new_tokens: int) -> Decoder:
    """The decoder that fits the language model of a `ComposedModule`."""
    if _stack.supports(module.llm) and (prefix or _stack.window(module.llm)):
        return SharedPrefixDecoder(module.llm, prefix, max_new_tokens)
    return PlainDecoder(module, prefix)


def advancing(reading: Decoder, logits: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """How a search goes on: with which rows [kept] and their tokens [kept]; `logits` are those of hidden states."""
    num_rows = [0]

    def advance(rows: Tensor, tokens: Tensor) -> Tensor:
        if len(rows) != num_rows[0] or not torch.equal(rows, torch.arange(len(rows), device=rows.device)):
            reading.keep(rows)
        num_rows[0] = len(rows)
        return logits(reading.step(tokens))

    return advance


class PlainDecoder:
    """With the cache of `transformers`: any causal language model."""

    def __init__(self, module: Any, prefix: list[int]) -> None:
        self._module, self._llm, self._prefix = module, module.llm, prefix

    def start(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """See `Decoder`."""
        num_rows, start = len(mask), len(self._prefix)
        cache = self._module.prefix_cache(self._prefix, num_rows)
        self._cache = DynamicCache(config=self._llm.config) if cache is None else cache
        states = self._module.hidden(embeddings, mask, self._cache, start)
        lengths = mask.sum(dim=1)
        self._seen = torch.cat([torch.ones(num_rows, start, dtype=torch.bool, device=mask.device), mask], dim=1)
        self._positions = start + lengths
        return states[torch.arange(num_rows), lengths - 1]

    def step(self, tokens: Tensor) -> Tensor:
        """See `Decoder`."""
        self._seen = torch.cat([self._seen, self._seen.new_ones(len(tokens), 1)], dim=1)
        body = self._module.body
        states = body(
            input_ids=tokens[:, None],
            attention_mask=self._seen.long(),
            position_ids=self._positions[:, None],
            **with_cache(body, self._cache),
        ).last_hidden_state
        self._positions = self._positions + 1
        return states[:, -1]

    def keep(self, rows: Tensor) -> None:
        """See `Decoder`."""
        self._cache.batch_select_indices(rows)
        self._seen, self._positions = self._seen[rows], self._positions[rows]


class _OwnCache:
    """Stands in for a key-value cache: the rows' own keys and values of one layer [B, heads, capacity, width].

    A cache that is full doubles its capacity.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity, self._filled = capacity, 0

    def update(self, keys: Tensor, values: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        if not self._filled:
            shape = (*keys.shape[:2], self._capacity, keys.shape[3])
            self._keys, self._values = keys.new_empty(shape), values.new_empty(shape)
        end = self._filled + keys.shape[2]
        if end > self._capacity:
            more = (0, 0, 0, max(end, 2 * self._capacity) - self._capacity)
            self._keys, self._values = nn.functional.pad(self._keys, more), nn.functional.pad(self._values, more)
            self._capacity = self._keys.shape[2]
        self._keys[:, :, self._filled : end], self._values[:, :, self._filled : end] = keys, values
        self._filled = end
        return self._keys[:, :, :end], self._values[:, :, :end]

    def keep(self, rows: Tensor) -> None:
        self._keys, self._values = self._keys[rows], self._values[rows]


class SharedPrefixDecoder:
    """One copy of the prefix's keys and values; the models that `_stack.supports`."""

    def __init__(self, llm: Any, prefix: list[int], max_new_tokens: int) -> None:
        self._llm, self._max_new_tokens = llm, max_new_tokens
        self._prefix = _stack.prefix_keys_values(llm, prefix)
        self._start = len(prefix)

    def start(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """See `Decoder`."""
        num_rows, length = mask.shape
        self._caches = [_OwnCache(length + min(self._max_new_tokens, _ROOM)) for _ in self._prefix]
        lengths = mask.sum(dim=1)
        self._seen, self._positions = mask, self._start + lengths
        causal = torch.ones(length, length, dtype=torch.bool, device=mask.device).tril()
        positions = torch.arange(self._start, self._start + length, device=mask.device)[None]
        self._places, self._end = positions.expand(num_rows, -1), self._start + length
        states = self._layers(embeddings, causal & mask[:, None, None, :], positions)
        return self._llm.model.norm(states[torch.arange(num_rows), lengths - 1])

    def step(self, tokens: Tensor) -> Tensor:
        """See `Decoder`."""
        self._seen = torch.cat([self._seen, self._seen.new_ones(len(tokens), 1)], dim=1)
        self._places = torch.cat([self._places, self._positions[:, None]], dim=1)
        self._end += 1
        rows = self._llm.get_input_embeddings()(tokens[:, None])
        states = self._layers(rows, self._seen[:, None, None, :], self._positions[:, None])
        self._positions = self._positions + 1
        return self._llm.model.norm(states[:, -1])

    def keep(self, rows: Tensor) -> None:
        """See `Decoder`."""
        for cache in self._caches:
            cache.keep(rows)
        self._seen, self._positions, self._places = self._seen[rows], self._positions[rows], self._places[rows]

    def _layers(self, rows: Tensor, attention: Tensor, positions: Tensor) -> Tensor:
        """The rows [B, L, D] at positions [B or 1, L], after all layers; attention [B, 1, L, S] to their own keys."""
        turn = _stack.turns(self._llm, rows, positions)
        views = {_stack.FULL: (attention, None), _stack.SLIDING: self._in_window(attention, positions)}
        kinds = _stack.types(self._llm)
        for layer, kind, before, cache in zip(self._llm.model.layers, kinds, self._prefix, self._caches, strict=True):
            own, of_prefix = views[kind]
            rows = layer(
                rows,
                attention_mask=own,
                position_ids=positions,
                position_embeddings=turn[kind],
                prefix=(*before, of_prefix),
                **with_cache(layer, cache),
            )
        return rows

    def _in_window(self, attention: Tensor, positions: Tensor) -> tuple[Tensor, Tensor | None]:
        """What layers with a window see: of the rows' own keys [B, 1, L, S] and of the prefix [B, 1, L, P] (None: all)."""
        reach = _stack.window(self._llm)
        if reach is None or self._end <= reach:
            return attention, None
        places = torch.arange(self._start, device=positions.device)
        near = _stack.near(positions, self._places, reach)
        return attention & near[:, None], _stack.near(positions, places[None], reach)[:, None]


def by_transformers(llm: Any, embeddings: Tensor, mask: Tensor, limits: Limits, num_beams: int) -> list[Sequence[int]]:
    """The search of `transformers` over left-padded rows, for language models whose attention has windows."""
    rows = [row[real] for row, real in zip(embeddings, mask, strict=True)]
    width = max(len(row) for row in rows)
    padded = torch.stack([nn.functional.pad(row, (0, 0, width - len(row), 0)) for row in rows])
    attention = torch.stack([(torch.arange(width) >= width - len(row)).long() for row in rows]).to(mask.device)
    output = llm.generate(
        inputs_embeds=padded,
        attention_mask=attention,
        num_beams=num_beams,
        do_sample=False,
        max_new_tokens=limits.max_new_tokens,
        min_new_tokens=limits.min_new_tokens,
        eos_token_id=list(limits.ends),
        pad_token_id=limits.ends[0],
        logits_processor=[] if limits.obeying is None else [limits.obeying],
    )
    return [ids.tolist() for ids in output]
