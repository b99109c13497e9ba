"""A model put together from an audio encoder, a connector and a causal language model.

    audio -> encoder (frozen) -> connector.prepare (cached per recording) -> connector -> vectors -.
    instruction, text, answer -> tokenizer -> token embeddings ------------------------------------+-> language model

Shapes: B rows, P tokens of the prefix that all rows share, L positions of a row after it, D the model's width.

The instruction stands before the input, so all rows of a batch begin alike: that prefix is computed once per step,
its keys and values are expanded over the rows, and gradients flow back through them. Logits are computed only where
an answer token is predicted. Neither changes the result beyond rounding; both are tested against the plain way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import DynamicCache

from lalm.backbones import _stack
from lalm.backbones._encoder import AudioEncoder
from lalm.data.cache import PreparedCache, version
from lalm.errors import DataError, ModelError
from lalm.models.key_values import with_cache
from lalm.records import Example

_INPUT_MARK = "\u2063lalm-input\u2063"
IGNORE = -100


@dataclass(frozen=True)
class Row:
    """One example as pieces: tokens before the input, the input (tokens or prepared audio), tokens after, answer.

    `path` is the recording that `audio` was prepared from.
    """

    before: list[int]
    text: list[int]
    audio: Mapping[str, np.ndarray] | None
    path: Path | None
    after: list[int]
    answer: list[int]
    key: str  # hash of all of these but the path


@dataclass(frozen=True)
class Batch:
    """`prefix` token ids [P]; `rows` one per example; `labels` are made from `answer` alone."""

    prefix: list[int]
    rows: tuple[Row, ...]

    def decoded_prompts(self, tokenizer: Any) -> list[str]:
        """What stands before the answers, in words; a recording stands as `[audio]`."""
        return [
            tokenizer.decode(self.prefix + row.before + row.text)
            + ("[audio]" if row.audio is not None else "")
            + tokenizer.decode(row.after)
            for row in self.rows
        ]

    def decoded_labels(self, tokenizer: Any) -> list[str]:
        """What the loss is taken on, in words."""
        return [tokenizer.decode(row.answer) for row in self.rows]


class ComposedModule(nn.Module):
    """The parts, and the forward pass that every use shares."""

    audio_encoder: Any  # AudioEncoder | None
    connector: Any  # contracts.ConnectorModule
    llm: Any

    def __init__(self, encoder: AudioEncoder | None, connector: nn.Module, llm: nn.Module) -> None:
        super().__init__()
        self.audio_encoder = encoder
        self.connector = connector
        self.llm = llm
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

    def embed(self, rows: Sequence[Row], with_answers: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings [B, L, D], mask [B, L] (True = real) and labels [B, L] (IGNORE but on answers), padded right."""
        vectors = self._audio_vectors(rows)
        pieces, labels = [], []
        table = self.llm.get_input_embeddings()
        for row, heard in zip(rows, vectors, strict=True):
            answer = row.answer if with_answers else []
            head = torch.tensor(row.before + row.text, dtype=torch.long, device=self.device)
            tail = torch.tensor(row.after + answer, dtype=torch.long, device=self.device)
            parts = [table(head), *([] if heard is None else [heard]), table(tail)]
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

    def _audio_vectors(self, rows: Sequence[Row]) -> list[Tensor | None]:
        spoken = [index for index, row in enumerate(rows) if row.audio is not None]
        result: list[Tensor | None] = [None] * len(rows)
        if spoken:
            items = [rows[index].audio for index in spoken]
            if self._hears_anew():
                frames, frame_mask = self.audio_encoder.frames([rows[index].path for index in spoken])
                items = self.connector.hand_on(frames, frame_mask)
            vectors, mask = self.connector(items)
            for position, index in enumerate(spoken):
                result[index] = vectors[position][mask[position]]
        return result

    def _hears_anew(self) -> bool:
        """Whether the encoder is being trained, or was: what was prepared of a recording before is out of date then."""
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
        self.llm.model(input_ids=ids, **with_cache(self.llm.model, once))
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
        return self.llm.model(
            inputs_embeds=embeddings,
            attention_mask=torch.cat([seen, mask], dim=1).long(),
            position_ids=positions,
            **with_cache(self.llm.model, cache),
        ).last_hidden_state

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Summed negative log-likelihood of each row's answer [B] and its number of answer tokens [B]."""
        frozen = self._num_fixed_layers()
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
        logits = self.llm.lm_head(states[:, :-1][chosen])
        token_nll = nn.functional.cross_entropy(logits.float(), targets[chosen], reduction="none")
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

    def _num_fixed_layers(self) -> int:
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


class ComposedModel:
    """`contracts.Model` of composed backbones."""

    def __init__(
        self,
        encoder: AudioEncoder | None,
        connector: Any,
        llm: Any,
        tokenizer: Any,
        *,
        identity: Mapping[str, Any],
        cache: PreparedCache | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.identity = dict(identity)
        self.peft: Any = None
        connector.bind(tokenizer, llm.get_input_embeddings())
        self.module = ComposedModule(encoder, connector, llm)
        self.module.eval()
        for parameter in self.module.parameters():
            parameter.requires_grad_(False)
        self._cache = cache or PreparedCache(None)
        self._templates: dict[str, tuple[list[int], list[int]]] = {}
        self._rows: dict[tuple[Example, Any], Row] = {}
        self._end_of_turn = self._find_end_of_turn()

    # -- parts ---------------------------------------------------------------------------------------------------

    def groups(self) -> dict[str, tuple[str, ...]]:
        """Group -> names of its modules within `module`; empty where no gradient arrives.

        A connector that hands on words (it has `transcripts`) cuts the gradient to itself and to the encoder.
        """
        found: dict[str, list[str]] = {"audio_encoder": [], "connector": []}
        if not hasattr(self.module.connector, "transcripts"):
            found["connector"] = ["connector"]
            if self.module.audio_encoder is not None and hasattr(self.module.connector, "hand_on"):
                found["audio_encoder"] = ["audio_encoder"]
        for group in ("llm.attention", "llm.mlp", "llm.embeddings", "llm.norms"):
            found[group] = []
        for name, part in self.module.llm.named_modules():
            full = f"llm.{name}"
            if isinstance(part, nn.Linear) and ".self_attn." in full:
                found["llm.attention"].append(full)
            elif isinstance(part, nn.Linear) and ".mlp." in full:
                found["llm.mlp"].append(full)
            elif isinstance(part, nn.Embedding) or name == "lm_head":
                found["llm.embeddings"].append(full)
            elif "norm" in name.rsplit(".", 1)[-1]:
                found["llm.norms"].append(full)
        return {group: tuple(names) for group, names in found.items()}

    # -- examples to rows ----------------------------------------------------------------------------------------

    def _find_end_of_turn(self) -> int:
        end = self.tokenizer.eos_token_id
        if end is None:
            raise ModelError("The language model's tokenizer has no end-of-sequence token; answers could not end.")
        return int(end)

    def _template(self, instruction: str) -> tuple[list[int], list[int]]:
        """Token ids before and after the input, in the model's own chat template."""
        if instruction not in self._templates:
            turns = [{"role": "system", "content": instruction}, {"role": "user", "content": _INPUT_MARK}]
            text = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
            before, mark, after = text.partition(_INPUT_MARK)
            if not mark:
                raise ModelError("The language model's chat template does not pass the user's words through unchanged.")
            self._templates[instruction] = (self._ids(before), self._ids(after))
        return self._templates[instruction]

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def row(self, example: Example) -> Row:
        """The pieces of one example; made once, and again if its recording was written anew.

        Raises DataError that names the row: unreadable or too long audio, more positions than the language model has.
        """
        key = (example, version(example.audio) if example.audio is not None else None)
        if key not in self._rows:
            try:
                self._rows[key] = self._make_row(example)
            except DataError as error:
                raise DataError(f"Row '{example.id}': {error}") from None
        return self._rows[key]

    def _make_row(self, example: Example) -> Row:
        before, after = self._template(example.instruction)
        answer = [*self._ids(example.answer), self._end_of_turn]
        text: list[int] = []
        heard: Mapping[str, np.ndarray] | None = None
        digest = hashlib.sha256()
        if example.audio is not None:
            heard = self.prepared([example.audio])[0]
            digest.update(repr([self.identity.get(key) for key in ("connector", "connector_options")]).encode())
            for name, array in sorted(heard.items()):
                digest.update(name.encode())
                digest.update(np.ascontiguousarray(array).tobytes())
        elif example.text is not None:
            rng = Random(int(hashlib.sha256(example.id.encode()).hexdigest()[:8], 16))
            text = self._ids(self.module.connector.as_heard(example.text, rng))
        else:
            raise DataError("it has neither text nor audio.")
        digest.update(repr((before, text, after, answer)).encode())
        row = Row(before, text, heard, example.audio, after, answer, digest.hexdigest()[:16])
        length, most = len(before) + self._length(row), self.module.llm.config.max_position_embeddings
        if length > most:
            raise DataError(
                f"it takes {length} positions and the language model has {most}. Shorten it; nothing is cut."
            )
        return row

    def _length(self, row: Row) -> int:
        vectors = 0 if row.audio is None else self.module.connector.num_vectors(row.audio)
        return len(row.text) + vectors + len(row.after) + len(row.answer)

    def batch(self, examples: Sequence[Example]) -> Batch:
        """Rows with their longest common beginning taken out."""
        rows = [self.row(example) for example in examples]
        shared = _common_prefix([row.before for row in rows])
        return Batch(
            shared,
            tuple(replace(row, before=row.before[len(shared) :]) for row in rows),
        )

    def num_tokens(self, example: Example) -> int:
        """Positions of a row after the shared prefix, for batching rows of like length."""
        return self._length(self.row(example))

    def content(self, example: Example) -> str:
        """Hash of a row's pieces: tokens, prepared audio, answer."""
        return self.row(example).key

    def heard(self, examples: Sequence[Example]) -> list[str | None]:
        """What the connector heard, in words; None for text rows and for connectors without words."""
        transcripts = getattr(self.module.connector, "transcripts", None)
        if transcripts is None:
            return [None] * len(examples)
        return [transcripts(self.prepared([e.audio]))[0] if e.audio is not None else None for e in examples]

    def prepared(self, paths: Sequence[Path]) -> list[Mapping[str, np.ndarray]]:
        """What the connector makes of recordings, from the cache or computed and kept there."""
        return self._cache.get(paths, self._prepare, self.hearing_fingerprint())

    def hearing_fingerprint(self) -> str:
        """Names encoder and connector weights and settings."""
        encoder = self.module.audio_encoder.fingerprint() if self.module.audio_encoder is not None else "none"
        return f"{encoder}-{self.module.connector.fingerprint()}"

    @torch.inference_mode()
    def _prepare(self, paths: Sequence[Path]) -> list[Mapping[str, np.ndarray]]:
        if self.module.audio_encoder is None:
            raise ModelError("This model has no audio encoder, so it cannot hear. Choose a backbone with one.")
        with torch.autocast(self.module.device.type, enabled=False):  # what is kept is exact, whoever asked first
            frames, mask = self.module.audio_encoder.frames(paths)
            return self.module.connector.prepare(frames, mask)

    # -- use -----------------------------------------------------------------------------------------------------

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """See `ComposedModule.forward`."""
        return self.module(batch)

    @torch.inference_mode()
    def generate(self, examples: Sequence[Example], max_new_tokens: int, num_beams: int = 1) -> list[str]:
        """Answers in the order of the examples; greedy, or beam search with `num_beams` beams."""
        batch = self.batch(examples)
        embeddings, mask, _ = self.module.embed(batch.rows, with_answers=False)
        search = self._greedy if num_beams == 1 else self._beam
        tokens = search(batch.prefix, embeddings, mask, max_new_tokens, num_beams)
        return [self.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in tokens]

    def _greedy(
        self, prefix: list[int], embeddings: Tensor, mask: Tensor, max_new_tokens: int, _: int
    ) -> list[list[int]]:
        """Batched greedy search; rows that have ended leave the batch."""
        llm, num_rows, start = self.module.llm, len(mask), len(prefix)
        cache = self.module.prefix_cache(prefix, num_rows)
        cache = DynamicCache(config=llm.config) if cache is None else cache
        states = self.module.hidden(embeddings, mask, cache, start)
        lengths = mask.sum(dim=1)
        last = states[torch.arange(num_rows), lengths - 1]
        seen = torch.cat([torch.ones(num_rows, start, dtype=torch.bool, device=mask.device), mask], dim=1)
        answers: list[list[int]] = [[] for _ in range(num_rows)]
        alive = torch.arange(num_rows)
        positions = start + lengths
        for _step in range(max_new_tokens):
            tokens = llm.lm_head(last).argmax(dim=-1)
            going = tokens != self._end_of_turn
            for row, token, goes in zip(alive.tolist(), tokens.tolist(), going.tolist(), strict=True):
                if goes:
                    answers[row].append(token)
            if not bool(going.any()):
                break
            if not bool(going.all()):
                keep = going.nonzero()[:, 0]
                cache.batch_select_indices(keep)
                alive, tokens, seen, positions = alive[keep.cpu()], tokens[keep], seen[keep], positions[keep]
            seen = torch.cat([seen, seen.new_ones(len(tokens), 1)], dim=1)
            last = llm.model(
                input_ids=tokens[:, None],
                attention_mask=seen.long(),
                position_ids=positions[:, None],
                **with_cache(llm.model, cache),
            ).last_hidden_state[:, -1]
            positions = positions + 1
        return answers

    def _beam(
        self, prefix: list[int], embeddings: Tensor, mask: Tensor, max_new_tokens: int, num_beams: int
    ) -> list[list[int]]:
        """Beam search of transformers over left-padded rows."""
        table = self.module.llm.get_input_embeddings()
        head = table(torch.tensor(prefix, dtype=torch.long, device=mask.device))
        rows = [torch.cat([head, row[real]]) for row, real in zip(embeddings, mask, strict=True)]
        width = max(len(row) for row in rows)
        padded = torch.stack([nn.functional.pad(row, (0, 0, width - len(row), 0)) for row in rows])
        attention = torch.stack([(torch.arange(width) >= width - len(row)).long() for row in rows]).to(mask.device)
        output = self.module.llm.generate(
            inputs_embeds=padded,
            attention_mask=attention,
            num_beams=num_beams,
            do_sample=False,
            max_new_tokens=max_new_tokens,
            eos_token_id=self._end_of_turn,
            pad_token_id=self._end_of_turn,
        )
        return [ids.tolist() for ids in output]


def _common_prefix(lists: Sequence[list[int]]) -> list[int]:
    first, last = min(lists), max(lists)
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return list(first[:length])
