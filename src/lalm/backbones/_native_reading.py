"""Rows being answered by a model of one `transformers` class: what was read of them stays in its key-value cache."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from lalm.models.key_values import with_cache


class Reading:
    """`start` once, then `advance` a token at a time. The head is to see last positions alone."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._cache = DynamicCache(config=module.config.get_text_config())

    def start(self, embeddings: Tensor, mask: Tensor, prefix: Tensor | None = None) -> Tensor:
        """Read rows [B, L, width] that are padded on the left, mask [B, L]; logits [B, V] of their next tokens.

        A prefix [1, P, width] that all rows follow is read once; each row gets a copy of what is kept of it.
        """
        num_rows, length = len(mask), 0 if prefix is None else prefix.shape[1]
        if prefix is not None:
            self._seen = mask.new_ones(1, length)
            self._read(torch.arange(length, device=mask.device)[None], inputs_embeds=prefix)
            self._cache.batch_repeat_interleave(num_rows)
        self._seen = torch.cat([mask.new_ones(num_rows, length), mask], dim=1)
        self._positions = self._seen.sum(dim=1)
        return self._read(length + (mask.cumsum(dim=1) - 1).clamp(min=0), inputs_embeds=embeddings)

    def advance(self, rows: Tensor, tokens: Tensor) -> Tensor:
        """Go on with these rows [kept] and read one token of each; logits [kept, V]."""
        if not torch.equal(rows, torch.arange(len(self._seen), device=rows.device)):
            self._cache.batch_select_indices(rows)
            self._seen, self._positions = self._seen[rows], self._positions[rows]
        self._seen = torch.cat([self._seen, self._seen.new_ones(len(rows), 1)], dim=1)
        logits = self._read(self._positions[:, None], input_ids=tokens[:, None])
        self._positions = self._positions + 1
        return logits

    def _read(self, positions: Tensor, **given: Tensor) -> Tensor:
        output = self._module(
            **given, attention_mask=self._seen, position_ids=positions, **with_cache(self._module, self._cache)
        )
        logits: Tensor = output.logits[:, -1]
        return logits
