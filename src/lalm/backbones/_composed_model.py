"""A model put together from an audio encoder, a connector and a causal language model: rows, losses, answers."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lalm.backbones import _language, _prompt, _stack
from lalm.backbones._chunks import CUT, chunks_of, hear, joined, separate
from lalm.backbones._composed_module import ComposedModule
from lalm.backbones._composed_rows import Batch, Recording, Row, content_key, given
from lalm.backbones._decoding import advancing, by_transformers, decoder
from lalm.backbones._encoder import AudioEncoder
from lalm.backbones._grammar import Guide
from lalm.backbones._listening import SAMPLE_RATE_HZ
from lalm.backbones._row_cache import RowCache, too_many_vectors
from lalm.backbones._search import Limits, search
from lalm.backbones._waveform_encoder import WaveformEncoder
from lalm.data import audio
from lalm.data.cache import BATCH_SIZE, PreparedCache
from lalm.data.grammar import Grammar
from lalm.errors import DataError, ModelError
from lalm.records import Example


class ComposedModel:
    """`contracts.Model` of composed backbones."""

    def __init__(
        self,
        encoder: AudioEncoder | WaveformEncoder | None,
        connector: Any,
        llm: Any,
        tokenizer: Any,
        *,
        identity: Mapping[str, Any],
        cache: PreparedCache | None = None,
        max_audio_vectors: int | None = None,
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
        self._max_audio_vectors = max_audio_vectors
        self._templates: dict[str, tuple[list[int], list[int]]] = {}
        self._rows = RowCache(self._make_row)
        self._end_of_turn = _prompt.end_of_turn(tokenizer)
        self._guide = Guide(tokenizer, [self._end_of_turn])

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
            if any(True for _ in part.parameters(recurse=False)):
                found[f"llm.{_language.role(self.module.llm, name, part)}"].append(f"llm.{name}")
        return {group: tuple(names) for group, names in found.items()}

    # -- examples to rows ----------------------------------------------------------------------------------------

    def _template(self, instruction: str) -> tuple[list[int], list[int]]:
        """Token ids before and after the input, in the model's own chat template."""
        if instruction not in self._templates:
            before, after = _prompt.around(self.tokenizer, instruction)
            self._templates[instruction] = (self._ids(before), self._ids(after))
        return self._templates[instruction]

    def _ids(self, text: str) -> list[int]:
        return _prompt.ids(self.tokenizer, text)

    def row(self, example: Example) -> Row:
        """The pieces of one example; made once, and again if its recording was written anew.

        Raises DataError that names the row: unreadable or too long audio, more positions than the language model has.
        """
        return self._rows(example)

    def _make_row(self, example: Example) -> Row:
        before, after = self._template(example.instruction)
        answer = [*self._ids(example.answer), self._end_of_turn]
        pieces = given(example, self._ids, functools.partial(self._said, language=example.language))
        connector = [self.identity.get(key) for key in ("connector", "connector_options")]
        row = Row(before, pieces, after, answer, content_key([before, *pieces, after, answer], connector))
        self._check_vectors(row)
        length = len(before) + self._length(row)
        if self._positions is not None and length > self._positions:
            raise DataError(
                f"it takes {length} positions and the language model has {self._positions}. Shorten it; nothing is cut."
            )
        return row

    def _said(self, text: str | None, recording: Path | None, seed: str, language: str) -> list[int] | Recording:
        """What the model is given for words or for a recording; words in the connector's own tongue."""
        if recording is not None:
            if self.module.hears_anew:
                return Recording(recording, self._unheard(recording), audio.content_hash(recording))
            return Recording(recording, separate(self.prepared([recording], language)[0]))
        return self._ids(self._as_heard(text or "", seed, language))

    def _unheard(self, recording: Path) -> tuple[Mapping[str, Any], ...]:
        """What would be prepared of a recording's chunks, by its shape alone: an encoder that learns hears it at every step.

        Raises DataError for unreadable audio.
        """
        encoder, items = self.module.audio_encoder, []
        for chunk in chunks_of(encoder.listening, recording):
            _, mask = encoder.listening.collate(encoder.feature_extractor, [chunk.samples], [chunk.name])
            frames = torch.zeros(1, int(encoder.lengths(mask)[0]), encoder.width)
            (item,) = self.module.connector.hand_on(frames, torch.ones(frames.shape[:2], dtype=torch.bool))
            items.append({name: torch.zeros(()).expand(values.shape) for name, values in item.items()})
        return tuple(items)

    def _check_vectors(self, row: Row) -> None:
        """Raises DataError for more vectors of recordings than `max_audio_vectors` allows."""
        number = sum(map(self.module.num_vectors, row.recordings))
        if self._max_audio_vectors is not None and number > self._max_audio_vectors:
            raise DataError(too_many_vectors(len(row.recordings), number, self._max_audio_vectors))

    @property
    def _positions(self) -> int | None:
        return getattr(self.module.llm.config, "max_position_embeddings", None)

    def as_given(self, example: Example) -> str:
        """The words of a text row as the language model is given them: in the connector's own tongue."""
        return self._as_heard(example.text or "", example.id, example.language)

    def _as_heard(self, text: str, seed: str, language: str) -> str:
        rng = Random(int(hashlib.sha256(seed.encode()).hexdigest()[:8], 16))
        return str(self._connector(language).as_heard(text, rng))

    def _connector(self, language: str | None) -> Any:
        """The connector as rows of a language are heard with it (None: no language is known)."""
        in_language = getattr(self.module.connector, "in_language", None)
        return self.module.connector if in_language is None or language is None else in_language(language)

    def _length(self, row: Row) -> int:
        pieces = [self.module.num_vectors(piece) if isinstance(piece, Recording) else len(piece) for piece in row.given]
        return sum(pieces) + len(row.after) + len(row.answer)

    def batch(self, examples: Sequence[Example]) -> Batch:
        """Rows with their longest common beginning taken out, where the language model allows it."""
        rows = [self.row(example) for example in examples]
        shared = _prompt.common_beginning([row.before for row in rows]) if self.module.shares_beginnings else []
        return Batch(
            shared,
            tuple(replace(row, before=row.before[len(shared) :]) for row in rows),
        )

    def num_tokens(self, example: Example) -> int:
        """Positions of a row after the shared prefix, for batching rows of like length."""
        return self._length(self.row(example))

    @property
    def beginnings(self) -> str:
        """What becomes of the beginning that rows have in common, in words."""
        return self.module.beginnings

    @property
    def rows_share(self) -> bool:
        """Whether rows that are computed together share their beginning, and no padding is computed."""
        return self.module.shares_beginnings

    def kept_bytes(self, examples: Sequence[Example]) -> int:
        """What the states of rows above frozen layers will take in memory, where they are kept (`_stack.KeptStates`)."""
        if not self.module.num_fixed_layers():
            return 0
        width = self.module.llm.config.hidden_size * next(self.module.llm.parameters()).element_size()
        return min(_stack.MAX_KEPT_BYTES, width * sum(map(self.num_tokens, examples)))

    def content(self, example: Example) -> str:
        """Hash of a row's pieces: tokens, prepared audio, answer."""
        return self.row(example).key

    def audio_positions(self, examples: Sequence[Example]) -> tuple[int, int]:
        """Positions that the rows' lengths hold for their recordings, and vectors that the connector makes of them."""
        items = [chunk for row in map(self.row, examples) for one in row.recordings for chunk in one.chunks]
        with torch.no_grad():
            vectors = int(self.module.connector(items)[1].sum()) if items else 0
        return sum(self.module.connector.num_vectors(item) for item in items), vectors

    def heard(self, examples: Sequence[Example]) -> list[str | None]:
        """What the connector heard, in words, recordings one a line; None for text rows and for connectors without words."""
        if not hasattr(self.module.connector, "transcripts"):
            return [None] * len(examples)
        return [
            "\n".join(self.transcript(path, one.language) for path in one.recordings) if one.recordings else None
            for one in examples
        ]

    def transcript(self, recording: Path, language: str | None = None) -> str:
        """What a connector with words heard in a recording; where it hears twice, one hearing a line."""
        texts = self.module.connector.transcripts(separate(self.prepared([recording], language)[0]))
        return "\n".join(map(" ".join, zip(*(text.split("\n") for text in texts), strict=True)))

    def prepared(self, paths: Sequence[Path], language: str | None = None) -> list[Mapping[str, np.ndarray]]:
        """What the connector makes of recordings in a language, from the cache or computed and kept there."""
        connector = self._connector(language)
        prepare = functools.partial(self._prepare, connector=connector)
        whole, long = self.hearing_fingerprint(connector), {path for path in paths if self._is_long(path)}
        found: dict[Path, Mapping[str, np.ndarray]] = {}
        for some, name in (([path for path in paths if path not in long], whole), (list(long), f"{whole}-{CUT}")):
            found.update(zip(some, self._cache.get(some, prepare, name), strict=True))
        return [found[path] for path in paths]

    def to_hear(self, examples: Sequence[Example]) -> list[tuple[Path, str]]:
        """Recordings of rows and the languages that they are heard in, each once; none where the encoder learns."""
        if self.module.hears_anew:
            return []
        return list(dict.fromkeys((path, example.language) for example in examples for path in example.recordings))

    def _is_long(self, path: Path) -> bool:
        """Whether a recording is heard in chunks, so that what is made of it depends on how it is cut."""
        encoder = self.module.audio_encoder
        return encoder is not None and audio.info(path).duration_s * SAMPLE_RATE_HZ > encoder.listening.longest_samples

    def hearing_fingerprint(self, connector: Any = None) -> str:
        """Names encoder and connector weights and settings; of the connector itself, or of a language's."""
        encoder = self.module.audio_encoder.fingerprint() if self.module.audio_encoder is not None else "none"
        return f"{encoder}-{(connector or self.module.connector).fingerprint()}"

    @torch.inference_mode()
    def _prepare(self, paths: Sequence[Path], connector: Any) -> list[Mapping[str, np.ndarray]]:
        if self.module.audio_encoder is None:
            raise ModelError("This model has no audio encoder, so it cannot hear. Choose a backbone with one.")
        with torch.autocast(self.module.device.type, enabled=False):  # what is kept is exact, whoever asked first
            chunks = [chunks_of(self.module.audio_encoder.listening, path) for path in paths]
            flat = [chunk for own in chunks for chunk in own]
            items: list[Mapping[str, np.ndarray]] = []
            # on a CPU each alone, so that what is kept does not depend on its neighbours; on a GPU it does, by rounding
            at_once = 1 if self.module.device.type == "cpu" else BATCH_SIZE
            for start in range(0, len(flat), at_once):
                items += connector.prepare(*hear(self.module.audio_encoder, flat[start : start + at_once]))
        following = iter(items)
        return [joined([next(following) for _ in own]) for own in chunks]

    # -- use -----------------------------------------------------------------------------------------------------

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """See `ComposedModule.forward`."""
        return self.module(batch)

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

        Under a grammar answers are as long as it lets them be, whatever `max_new_tokens` says.
        """
        batch = self.batch(examples)
        embeddings, mask, _ = self.module.embed(batch.rows, with_answers=False)
        limits = Limits([self._end_of_turn], max_new_tokens, min_new_tokens)
        if grammar is not None:
            used = len(batch.prefix) + embeddings.shape[1]
            most = self._guide.most_tokens(grammar, self._positions and self._positions - used)
            limits = Limits([self._end_of_turn], most, 0, self._guide.obeying(grammar))
        if self.module.shares_beginnings:
            reading = decoder(self.module, batch.prefix, limits.max_new_tokens)
            first = self.module.logits(reading.start(embeddings, mask))
            tokens: Sequence[Sequence[int]] = search(first, advancing(reading, self.module.logits), limits, num_beams)
        else:
            tokens = by_transformers(self.module.llm, embeddings, mask, limits, num_beams)
        return [self.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in tokens]
