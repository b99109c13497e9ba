"""A model of one `transformers` class with its own processor: rows, losses, answers.

Whatever is trained or answered runs through the class's own `forward`, but for steps whose rows begin alike: their language
model is run layer by layer, the common beginning once (`_stack`). Two things are added: the head is applied only where an
answer token is predicted, and encoders whose positions allow it are given the frames that exist instead of thirty
seconds (`_frames.py`). All three are tested against the plain class.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lalm.backbones import _stack
from lalm.backbones._answer_loss import answer_nll
from lalm.backbones._family import Family
from lalm.backbones._grammar import Guide
from lalm.backbones._native_cache import HEARD
from lalm.backbones._native_clips import Clips
from lalm.backbones._native_groups import groups_of
from lalm.backbones._native_language import InnerLanguageModel
from lalm.backbones._native_reading import Reading
from lalm.backbones._native_rows import IGNORE, Batch, Clip, Prompts, Row, collate, common_prefix
from lalm.backbones._row_cache import RowCache, too_many_vectors
from lalm.backbones._search import Limits, search
from lalm.data import audio
from lalm.data.cache import PreparedCache
from lalm.data.grammar import Grammar
from lalm.errors import DataError
from lalm.records import Example


class NativeModel:
    """`contracts.Model` of one `transformers` class.

    `module` is the class as it is, `processor` its processor (with `tokenizer` and `feature_extractor`).
    """

    def __init__(
        self,
        family: Family,
        module: Any,
        processor: Any,
        *,
        identity: Mapping[str, Any],
        max_audio_s: float | None = None,
        max_audio_vectors: int | None = None,
        instruction_first: bool = False,
        cache: PreparedCache | None = None,
    ) -> None:
        self.family, self.module, self.processor = family, module.eval(), processor
        self.tokenizer = processor.tokenizer
        self.identity = dict(identity)
        self.peft: Any = None
        self.clips = Clips(family, module, processor, max_audio_s, cache, self._hear)
        self.longest_audio_s = self.clips.longest_s
        self._max_audio_s, self._max_audio_vectors = max_audio_s, max_audio_vectors
        for parameter in module.parameters():
            parameter.requires_grad_(False)
        family.adapt(module)
        self._llm = InnerLanguageModel(module, family.language_model)
        _stack.prepare(self._llm)
        self._groups = groups_of(module, family)
        eos = module.generation_config.eos_token_id
        ends = eos if isinstance(eos, list | tuple) else [] if eos is None else [eos]
        self.prompts = Prompts(family, processor, ends, instruction_first)
        self._instruction_first = instruction_first
        self._guide = Guide(self.tokenizer, self.prompts.eos_ids)
        self._positions: int = module.config.get_text_config().max_position_embeddings
        self._rows = RowCache(self._make_row)

    @property
    def counts(self) -> dict[str, int]:
        """What the options changed in the rows so far: recordings that `max_audio_s` cut."""
        return {} if self._max_audio_s is None else {"recordings_cut": len(self.clips.cut)}

    def groups(self) -> dict[str, tuple[str, ...]]:
        """Group -> names of its modules within `module`."""
        return self._groups

    # -- examples to rows ----------------------------------------------------------------------------------------

    def row(self, example: Example) -> Row:
        """The tokens of one example; made once, and again if its recording was written anew.

        Raises DataError that names the row: unreadable, too long or too short audio, more positions than the model has.
        """
        return self._rows(example)

    def _make_row(self, example: Example) -> Row:
        if example.audio is None and example.text is None and not example.turns:
            raise DataError("it has neither text nor audio.")
        clips = tuple(Clip(path, self.clips.num_samples(path), example.id) for path in example.recordings)
        marked = iter(self.prompts.of(example))
        prompt: list[int] = []
        for clip in clips:
            prompt += itertools.takewhile(lambda token: token != self.prompts.placeholder, marked)
            prompt += [self.prompts.placeholder] * self.clips.num_vectors(clip)
        prompt += marked
        row = Row(tuple(prompt), self.prompts.answer(example.answer), clips)
        number = row.prompt.count(self.prompts.placeholder)
        if self._max_audio_vectors is not None and number > self._max_audio_vectors:
            raise DataError(too_many_vectors(len(clips), number, self._max_audio_vectors))
        if row.length > self._positions:
            raise DataError(
                f"it takes {row.length} positions and the language model has {self._positions}. Shorten it; nothing is cut."
            )
        return row

    def batch(self, examples: Sequence[Example]) -> Batch:
        """Rows padded on the left after what all begin with, and the features of their recordings.

        Raises DataError that names a row.
        """
        rows = [self.row(example) for example in examples]
        prefix = self._common(rows)
        ids, mask, labels = collate(rows, True, self.prompts.padding, len(prefix))
        return Batch(
            ids,
            mask,
            labels,
            self.clips.given([clip for row in rows for clip in row.clips]),
            self.prompts.placeholder,
            prefix,
        )

    def _common(self, rows: Sequence[Row]) -> tuple[int, ...]:
        """What rows begin with that is computed once for all of them."""
        return () if _stack.why_not(self._llm) else common_prefix(rows, self.prompts.placeholder)

    def to_hear(self, examples: Sequence[Example]) -> list[tuple[Path, str]]:
        """Recordings of rows, each once; none where nothing is kept. The language is not asked for here."""
        paths = dict.fromkeys(path for example in examples for path in example.recordings)
        return [(path, "") for path in paths] if self.clips.are_kept else []

    def prepared(self, paths: Sequence[Path], language: str | None = None) -> Sequence[Any]:
        """What is heard of recordings, from the cache or computed and kept there."""
        return self.clips.heard([Clip(path, self.clips.num_samples(path), path.name) for path in paths])

    def num_tokens(self, example: Example) -> int:
        """Length of a row in positions of the language model."""
        return self.row(example).length

    def content(self, example: Example) -> str:
        """Hash of what the language model is given for a row: tokens, recording, answer."""
        row = self.row(example)
        heard = [(audio.content_hash(clip.path), clip.num_samples) for clip in row.clips]
        return hashlib.sha256(repr((row.prompt, row.answer, heard)).encode()).hexdigest()[:16]

    def audio_positions(self, examples: Sequence[Example]) -> tuple[int, int]:
        """Placeholders in the rows' prompts, and vectors that the encoder and the connector make of their recordings."""
        batch = self.batch(examples)
        placeholders = int((batch.input_ids == batch.placeholder).sum())
        return placeholders, len(self._hear(batch.features)) if batch.features else 0

    # -- use -----------------------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.module.parameters()).device

    @property
    def beginnings(self) -> str:
        """What becomes of the beginning that rows have in common, in words."""
        if why := _stack.why_not(self._llm):
            return f"computed for each row ({why})"
        if self._instruction_first:
            return "computed once a step, and seen by all rows"
        return "computed once a step where it is a tenth of the positions; the instruction stands after the recording (backbone.instruction_first)"

    @property
    def rows_share(self) -> bool:
        """Whether rows that are computed together share their instruction, and no padding is computed."""
        return self._instruction_first and not _stack.why_not(self._llm)

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Summed negative log-likelihood of each row's answer [rows] and its number of answer tokens [rows]."""
        self._keep_frozen_parts_still()
        targets = batch.labels[:, 1:].to(self.device)
        chosen = targets != IGNORE
        states = self._states(batch, chosen)
        vocabulary = self.module.get_input_embeddings().weight.shape[0]
        token_nll = answer_nll(self.module.get_output_embeddings(), states, targets[chosen], vocabulary)
        nll = torch.zeros(len(targets), device=token_nll.device).index_add(0, chosen.nonzero()[:, 0], token_nll)
        return nll, chosen.sum(dim=1)

    def _states(self, batch: Batch, chosen: Tensor) -> Tensor:
        """Last hidden states [T, width] at the positions `chosen` [B, L - 1].

        By the class's own `forward`; after a common beginning, and where there may be one, layer by layer (`_stack`).
        """
        mask = batch.attention_mask.to(self.device)
        if batch.prefix or self.rows_share:
            rows = self._embed(batch.input_ids.to(self.device), batch.features)
            prefix = self._embedded(batch.prefix) if batch.prefix else None
            _, states = _stack.run_layers(self._llm, 0, len(self._llm.model.layers), prefix, rows, mask == 1)
            return self._llm.model.norm(states[:, :-1][chosen])
        found: list[Tensor] = []

        def none(states: Tensor) -> Tensor:
            found.append(states[:, :-1][chosen])
            return found[0][:0]

        with self._head_sees(none):
            self.module(
                attention_mask=mask,
                position_ids=batch.position_ids.to(self.device),
                use_cache=False,
                **self._given(batch),
            )
        return found[0]

    def _embedded(self, tokens: Sequence[int]) -> Tensor:
        """Embeddings [1, P, width] of tokens without a recording."""
        return self.module.get_input_embeddings()(torch.tensor([list(tokens)], device=self.device))

    def _given(self, batch: Batch) -> dict[str, Tensor]:
        """Tokens and features as `forward` takes them; where recordings were heard before, embeddings."""
        ids = batch.input_ids.to(self.device)
        if HEARD in batch.features:
            return {"inputs_embeds": self._embed(ids, batch.features)}
        return {"input_ids": ids, **self._on_device(batch.features)}

    @torch.inference_mode()
    def generate(
        self,
        examples: Sequence[Example],
        max_new_tokens: int,
        num_beams: int = 1,
        grammar: Grammar | None = None,
        min_new_tokens: int = 0,
    ) -> list[str]:
        """Answers in the order of the examples; greedy, or beam search with `num_beams` beams.

        Prompts and recordings are read once, however many beams there are, and what prompts begin with once for all rows. Under
        a grammar answers are as long as it lets them be, whatever `max_new_tokens` says.
        """
        self._keep_frozen_parts_still()
        rows = [self.row(example) for example in examples]
        prefix = self._common(rows)
        ids, mask, _ = collate(rows, False, self.prompts.padding, len(prefix))
        embeddings = self._embed(ids.to(self.device), self.clips.given([clip for row in rows for clip in row.clips]))
        limits = Limits(self.prompts.eos_ids, max_new_tokens, min_new_tokens)
        if grammar is not None:
            most = self._guide.most_tokens(grammar, self._positions - len(prefix) - ids.shape[1])
            limits = Limits(self.prompts.eos_ids, most, 0, self._guide.obeying(grammar))
        reading = Reading(self.module)
        with self._head_sees(lambda states: states[:, -1:]):
            first = reading.start(embeddings, mask.to(self.device), self._embedded(prefix) if prefix else None)
            answers = search(first, reading.advance, limits, num_beams)
        return [text.strip() for text in self.tokenizer.batch_decode(answers, skip_special_tokens=True)]

    def embedded(self, ids: Tensor, examples: Sequence[Example]) -> Tensor:
        """Embeddings [B, L, width] of whole rows of examples, with what is heard in place of the placeholders."""
        return self._embed(ids, self.clips.given([clip for example in examples for clip in self.row(example).clips]))

    def _embed(self, ids: Tensor, features: Mapping[str, Tensor]) -> Tensor:
        """Embeddings [B, L, width] of tokens, with what is heard in place of the placeholders."""
        heard_at = ids == self.prompts.placeholder
        embeddings = self.module.get_input_embeddings()(ids.masked_fill(heard_at, self.prompts.padding))
        if features:
            embeddings = embeddings.masked_scatter(heard_at[..., None], self._hear(features).to(embeddings.dtype))
        return embeddings

    def _hear(self, features: Mapping[str, Tensor]) -> Tensor:
        """Vectors [total placeholders, width] of the clips, one clip after the other."""
        given = self._on_device(features)
        return given[HEARD] if HEARD in given else self.family.hear(self.module, given)

    def _on_device(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        kind = self.module.dtype
        return {
            name: value.to(self.device, kind) if value.is_floating_point() else value.to(self.device)
            for name, value in features.items()
        }

    @contextlib.contextmanager
    def _head_sees(self, choose: Any) -> Iterator[None]:
        """While this lasts the head is applied only to the states that `choose` takes: memory for logits is what runs out."""
        head = self.module.get_output_embeddings()
        handle = head.register_forward_pre_hook(lambda _, states: (choose(states[0]),))
        try:
            yield
        finally:
            handle.remove()

    def _keep_frozen_parts_still(self) -> None:
        """What is not trained hears without dropout, whatever mode the whole is in."""
        for name in (self.family.audio_encoder, *self.family.connector):
            part = self.module.get_submodule(name)
            if part.training and not any(parameter.requires_grad for parameter in part.parameters()):
                part.eval()
