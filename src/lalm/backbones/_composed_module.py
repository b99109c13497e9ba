"""The modules of a composed model: an audio encoder, a connector and a causal language model, and their forward pass.

    audio -> encoder (frozen) -> connector.prepare (cached per recording) -> connector -> vectors -.
    instruction, text, answer -> tokenizer -> token embeddings ------------------------------------+-> language model

Shapes: B rows, P tokens of the prefix that all rows share, L positions of a row after it, D the model's width.

The instruction stands before the input, so all rows of a batch begin alike, or those of a task do where a step holds several:
that prefix is computed once per step, gradients flow back to it from all of them (`_attention`; families that `_stack` does not know see copies of its keys and
values). Logits are computed only where an answer token is predicted. Neither changes the result beyond rounding; both are tested against the plain way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from lalm.backbones import _language, _stack
from lalm.backbones._answer_loss import answer_nll
from lalm.backbones._chunks import chunks_of, hear
from lalm.backbones._composed_rows import Batch, Recording, Row, by_beginning
from lalm.backbones._encoder import AudioEncoder
from lalm.backbones._waveform_encoder import WaveformEncoder
from lalm.models.key_values import with_cache

IGNORE = -100


class ComposedModule(nn.Module):
    """The parts, and the forward pass that every use shares."""

    audio_encoder: Any  # AudioEncoder | WaveformEncoder | None
    connector: Any  # contracts.ConnectorModule
    llm: Any

    def __init__(self, encoder: AudioEncoder | WaveformEncoder | None, connector: nn.Module, llm: nn.Module) -> None:
        super().__init__()
        self.audio_encoder = encoder
        self.connector = connector
        self.llm = llm
        _stack.prepare(llm)
        self._kept = _stack.KeptStates()
        self._encoder_learned = False

    def train(self, mode: bool = True) -> ComposedModule:
        """Only parts that are trained are put into training mode: what is frozen hears without dropout."""
        super().train(mode)
        for part in self._below:
            if not any(parameter.requires_grad for parameter in part.parameters()):
                part.eval()
        return self

    @property
    def _below(self) -> list[nn.Module]:
        """The parts below the language model."""
        return [part for part in (self.audio_encoder, self.connector) if part is not None]

    @property
    def device(self) -> torch.device:
        return next(self.llm.parameters()).device

    @property
    def body(self) -> Any:
        """The language model without its output layer."""
        return self.llm.base_model

    @property
    def shares_beginnings(self) -> bool:
        """Whether what rows have in common at their beginning can be computed once.

        In families that `_stack` does not know it is handed on in a cache, which layers that are computed again would write to
        twice: there not, while gradients are taken.
        """
        if _stack.supports(self.llm):
            return True
        again = torch.is_grad_enabled() and any(hasattr(part.forward, "plain") for part in self.llm.modules())
        return _language.sees_everything(self.llm.config) and not again

    @property
    def beginnings(self) -> str:
        """What becomes of the beginning that rows have in common, in words."""
        why = _stack.why_not(self.llm)
        if why is None:
            return "computed once a step, and seen by all rows"
        if self.shares_beginnings:
            return f"computed once a step, its keys and values copied to each row ({why})"
        return f"computed for each row ({why})"

    def num_vectors(self, recording: Recording) -> int:
        """Positions of the language model that a recording takes."""
        return sum(self.connector.num_vectors(chunk) for chunk in recording.chunks)

    def embed(self, rows: Sequence[Row], with_answers: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings [B, L, D], mask [B, L] (True = real) and labels [B, L] (IGNORE but on answers), padded right."""
        heard = iter(self._audio_vectors([one for row in rows for one in row.recordings]))
        pieces, labels = [], []
        table = self.llm.get_input_embeddings()
        for row in rows:
            answer = row.answer if with_answers else []
            tail = torch.tensor(row.after + answer, dtype=torch.long, device=self.device)
            parts = []
            for given in (row.before, *row.given):
                if isinstance(given, Recording):
                    parts.append(next(heard))
                else:
                    parts.append(table(torch.tensor(given, dtype=torch.long, device=self.device)))
            parts.append(table(tail))
            piece = torch.cat([part.to(table.weight.dtype) for part in parts])
            pieces.append(piece)
            label = torch.full((len(piece),), IGNORE, dtype=torch.long, device=self.device)
            if answer:
                label[-len(answer) :] = tail[-len(answer) :]
            labels.append(label)
        mask = nn.utils.rnn.pad_sequence(
            [torch.ones(len(piece), dtype=torch.bool, device=self.device) for piece in pieces], batch_first=True
        )
        return (
            nn.utils.rnn.pad_sequence(pieces, batch_first=True),
            mask,
            nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=IGNORE),
        )

    def _audio_vectors(self, recordings: Sequence[Recording]) -> list[Tensor]:
        """Vectors [length, D] of each recording, those of its chunks one after the other."""
        if not recordings:
            return []
        items: list[Any] = [chunk for one in recordings for chunk in one.chunks]
        if self.hears_anew:
            listening = self.audio_encoder.listening
            chunks = [chunk for one in recordings for chunk in chunks_of(listening, one.path)]
            items = self.connector.hand_on(*hear(self.audio_encoder, chunks))
        vectors, mask = self.connector(items)
        each = iter([own[real] for own, real in zip(vectors, mask, strict=True)])
        return [torch.cat([next(each) for _ in one.chunks]) for one in recordings]

    @property
    def hears_anew(self) -> bool:
        """Whether the encoder is being trained, or was: what is prepared of a recording is out of date at the next step."""
        encoder = self.audio_encoder
        if encoder is not None and any(parameter.requires_grad for parameter in encoder.parameters()):
            self._encoder_learned = True
        return self._encoder_learned

    def prefix_cache(self, prefix: Sequence[int], num_rows: int) -> DynamicCache | None:
        """Keys and values of the shared prefix, expanded (not copied) over the rows; gradients flow through."""
        if not prefix:
            return None
        ids = torch.tensor([list(prefix)], dtype=torch.long, device=self.device)
        once = DynamicCache(config=self.llm.config)
        self.body(input_ids=ids, **with_cache(self.body, once))
        layers: list[Any] = list(once.layers)
        return DynamicCache(
            [(one.keys.expand(num_rows, -1, -1, -1), one.values.expand(num_rows, -1, -1, -1)) for one in layers],
            self.llm.config,
        )

    def hidden(self, embeddings: Tensor, mask: Tensor, cache: DynamicCache | None, start: int) -> Tensor:
        """Last hidden states [B, L, D] of rows that follow a cached prefix of `start` positions."""
        num_rows, length = mask.shape
        seen = torch.ones(num_rows, start, dtype=torch.bool, device=mask.device)
        positions = torch.arange(start, start + length, device=mask.device).expand(num_rows, -1)
        return self.body(
            inputs_embeds=embeddings,
            attention_mask=torch.cat([seen, mask], dim=1).long(),
            position_ids=positions,
            **with_cache(self.body, cache),
        ).last_hidden_state

    def logits(self, states: Tensor) -> Tensor:
        """Logits [..., vocabulary] of last hidden states [..., D]."""
        return _language.logits(self.llm, states)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Summed negative log-likelihood of each row's answer [B] and its number of answer tokens [B]."""
        frozen = self.num_fixed_layers()
        groups = [(list(range(len(batch.rows))), batch)]
        # above frozen layers, what is kept of a row is that after one beginning, which stays the same
        if self.shares_beginnings and not frozen:
            groups = by_beginning(batch, self.num_vectors)
        found = [self._loss(own, frozen) for _, own in groups]
        order = torch.tensor([row for rows, _ in groups for row in rows], device=self.device).argsort()
        nll, tokens = (torch.cat(each)[order] for each in zip(*found, strict=True))
        return nll, tokens

    def _loss(self, batch: Batch, frozen: int) -> tuple[Tensor, Tensor]:
        """As `forward`, of rows that go through the layers together; `frozen` of these cannot change."""
        if frozen:
            states, labels = self._above_fixed_layers(batch, frozen)
        else:
            embeddings, mask, labels = self.embed(batch.rows, with_answers=True)
            if _stack.supports(self.llm):
                _, states = _stack.run_layers(self.llm, 0, self._depth, self._prefix(batch.prefix), embeddings, mask)
                states = self.llm.model.norm(states)
            else:
                cache = self.prefix_cache(batch.prefix, len(batch.rows))
                states = self.hidden(embeddings, mask, cache, len(batch.prefix))
        targets = labels[:, 1:]
        chosen = targets != IGNORE
        vocabulary = self.llm.get_input_embeddings().weight.shape[0]
        token_nll = answer_nll(self.logits, states[:, :-1][chosen], targets[chosen], vocabulary)
        row_of_token = chosen.nonzero()[:, 0]
        nll = torch.zeros(len(batch.rows), device=token_nll.device).index_add(0, row_of_token, token_nll)
        return nll, chosen.sum(dim=1)

    @property
    def _depth(self) -> int:
        return len(self.llm.model.layers)

    def _prefix(self, prefix: Sequence[int]) -> Tensor | None:
        if not prefix:
            return None
        return self.llm.get_input_embeddings()(torch.tensor([list(prefix)], dtype=torch.long, device=self.device))

    def num_fixed_layers(self) -> int:
        """Lower layers whose output for a row cannot change; 0 while anything below them is trained."""
        if not _stack.supports(self.llm) or any(p.requires_grad for part in self._below for p in part.parameters()):
            return 0
        number = _stack.num_frozen_layers(self.llm)
        return number if number < self._depth else 0  # nothing is trained: not worth keeping

    def _above_fixed_layers(self, batch: Batch, frozen: int) -> tuple[Tensor, Tensor]:
        """Last hidden states [B, L, D] and labels [B, L], the fixed layers taken from what was kept."""
        start = repr(batch.prefix)
        keys = [f"{frozen}/{hash(start)}/{row.key}" for row in batch.rows]
        prefix_key = f"{frozen}/{hash(start)}/prefix"
        missing = self._kept.missing(keys)
        with torch.no_grad():
            if missing or (batch.prefix and self._kept.missing([prefix_key])):
                rows = [batch.rows[index] for index in missing] or list(batch.rows[:1])
                embeddings, mask, _ = self.embed(rows, with_answers=True)
                prefix, states = _stack.run_layers(self.llm, 0, frozen, self._prefix(batch.prefix), embeddings, mask)
                for index, state, real in zip(missing, states, mask, strict=False):
                    self._kept.put(keys[index], state[real].clone())
                if prefix is not None:
                    self._kept.put(prefix_key, prefix[0].clone())
        kept = self._kept.take([*keys, *([prefix_key] if batch.prefix else [])])
        prefix = kept.pop()[None] if batch.prefix else None
        lengths = torch.tensor([len(state) for state in kept], device=self.device)
        rows_in = nn.utils.rnn.pad_sequence(kept, batch_first=True)
        mask = torch.arange(rows_in.shape[1], device=self.device)[None] < lengths[:, None]
        labels = torch.full(mask.shape, IGNORE, dtype=torch.long, device=self.device)
        for index, row in enumerate(batch.rows):
            labels[index, lengths[index] - len(row.answer) : lengths[index]] = torch.tensor(
                row.answer, device=self.device
            )
        _, states = _stack.run_layers(self.llm, frozen, self._depth, prefix, rows_in, mask)
        return self.llm.model.norm(states), labels
