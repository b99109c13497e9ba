"""The plain reference: a model's own parts used as popular trainers use them, on the weights of a lalm model.

Every time a row is seen its recording is decoded, padded to thirty seconds and encoded; prompt, vectors and answer are
one padded sequence a row, in the order in which rows arrive; logits are computed at every position. The layers, adapters
and the connector's weights are the very objects of the lalm model, run through their own classes' `forward`: MLPs and adapters
that lalm gave another class get that of transformers and peft back, for good.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lalm.backbones._native_rows import collate
from lalm.data import audio
from lalm.records import Example

RATE_HZ = 16_000
IGNORE = -100


def as_published(module: Any) -> Any:
    """The module, its parts of the classes from which lalm made others."""
    for part in module.modules():
        part.__class__ = getattr(type(part), "plain_class", type(part))
    return module


class PlainComposed:
    """Whisper's encoder, the perceptron and a causal language model, of a composed model.

    Whisper's encoder attends to the padding of its thirty seconds, so its frames are not those of a clip as it is.
    With `as_lalm_hears` frames come from lalm's encoder instead, outside autocast as there: for comparing results, where
    the language model's half is to be the same.
    """

    def __init__(self, model: Any, as_lalm_hears: bool = False) -> None:
        self._model, self._module, self._as_lalm_hears = model, as_published(model.module), as_lalm_hears

    def loss(self, examples: Sequence[Example]) -> tuple[Tensor, int]:
        """Mean negative log-likelihood of the answer tokens, and their number."""
        pieces, labels = [], []
        table = self._module.llm.get_input_embeddings()
        for row, heard in zip(map(self._model.row, examples), self._hear(examples), strict=True):
            head, tail = table(self._ids(row.before)), table(self._ids(row.after + row.answer))
            pieces.append(torch.cat([head, heard.to(head.dtype), tail]))
            label = torch.full((len(pieces[-1]),), IGNORE, dtype=torch.long, device=head.device)
            label[-len(row.answer) :] = self._ids(row.answer)
            labels.append(label)
        embeddings = nn.utils.rnn.pad_sequence(pieces, batch_first=True)
        mask = _mask([len(piece) for piece in pieces], embeddings.device)
        targets = nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=IGNORE)
        output = self._module.llm(inputs_embeds=embeddings, attention_mask=mask, labels=targets, use_cache=False)
        return output.loss, int((targets != IGNORE).sum())

    @torch.inference_mode()
    def generate(self, examples: Sequence[Example], num_new: int) -> list[list[int]]:
        """Greedy answers of `num_new` tokens, rows padded on the left."""
        table = self._module.llm.get_input_embeddings()
        pieces = []
        for row, heard in zip(map(self._model.row, examples), self._hear(examples), strict=True):
            head, tail = table(self._ids(row.before)), table(self._ids(row.after))
            pieces.append(torch.cat([head, heard.to(head.dtype), tail]))
        length = max(map(len, pieces))
        padded = torch.stack([nn.functional.pad(piece, (0, 0, length - len(piece), 0)) for piece in pieces])
        mask = _mask([len(piece) for piece in pieces], padded.device).flip(1)
        return _greedy(self._module.llm, num_new, inputs_embeds=padded, attention_mask=mask).tolist()

    def _ids(self, tokens: Sequence[int]) -> Tensor:
        return torch.tensor(tokens, dtype=torch.long, device=self._module.device)

    def _hear(self, examples: Sequence[Example]) -> list[Tensor]:
        paths = [example.audio for example in examples]
        whisper, connector = self._module.audio_encoder, self._module.connector
        with torch.no_grad():
            if self._as_lalm_hears:
                with torch.autocast(whisper.device.type, enabled=False):
                    real, mask = whisper.frames(paths)
            else:
                real, mask = self._window(whisper, paths)
        items = [{"frames": one[keep]} for one, keep in zip(real, mask, strict=True)]
        vectors, kept = connector(items)
        return [one[keep] for one, keep in zip(vectors, kept, strict=True)]

    def _window(self, whisper: Any, paths: Sequence[Any]) -> tuple[Tensor, Tensor]:
        clips = [audio.load(path, RATE_HZ) for path in paths]
        given = _features(whisper.feature_extractor, clips)
        states = whisper.encoder(given.input_features.to(whisper.device)).last_hidden_state
        step = 2 * whisper.feature_extractor.hop_length
        _, expected = whisper.listening.collate(whisper.feature_extractor, clips, [str(path) for path in paths])
        assert states.shape[1] * step == 30 * RATE_HZ
        mask = nn.functional.pad(expected, (0, states.shape[1] - expected.shape[1]))
        return states, mask.to(states.device)


class PlainNative:
    """A model of one `transformers` class: its own `forward` on thirty seconds of features, its own loss.

    In bfloat16 thirty seconds are heard a little differently from a clip as it is. With `as_lalm_hears` vectors are those of
    lalm, as for `PlainComposed`.
    """

    def __init__(self, model: Any, as_lalm_hears: bool = False) -> None:
        self._model, self._module, self._as_lalm_hears = model, as_published(model.module), as_lalm_hears

    def loss(self, examples: Sequence[Example]) -> tuple[Tensor, int]:
        """Mean negative log-likelihood of the answer tokens, and their number."""
        ids, mask, labels = (
            one.to(self._module.device) for one in collate([self._model.row(e) for e in examples], True, 0)
        )
        if self._as_lalm_hears:
            given = {"inputs_embeds": self._model.embedded(ids, examples)}
        else:
            given = {"input_ids": ids, **self._window(examples)}
        output = self._module(attention_mask=mask, labels=labels, use_cache=False, **given)
        return output.loss, int((labels != IGNORE).sum())

    @torch.inference_mode()
    def generate(self, examples: Sequence[Example], num_new: int) -> list[list[int]]:
        """Greedy answers of `num_new` tokens, rows padded on the left."""
        ids, mask, _ = (
            one.to(self._module.device) for one in collate([self._model.row(e) for e in examples], False, 0)
        )
        made = _greedy(self._module, num_new, input_ids=ids, attention_mask=mask, **self._window(examples))
        return made[:, ids.shape[1] :].tolist()

    def _window(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        extractor = self._model.processor.feature_extractor
        clips = [audio.load(example.audio, RATE_HZ) for example in examples if example.audio is not None]
        given = _features(extractor, clips)
        values = given.input_features.to(self._module.device, self._module.dtype)
        return {"input_features": values, "feature_attention_mask": given.attention_mask.to(self._module.device)}


def _features(extractor: Any, clips: Sequence[Any]) -> Any:
    """Thirty seconds of each clip, in float32: trainers make features where they load rows, outside autocast."""
    with torch.autocast("cpu", enabled=False):
        return extractor(
            clips, sampling_rate=RATE_HZ, return_tensors="pt", padding="max_length", return_attention_mask=True
        )


def _greedy(module: Any, num_new: int, **given: Tensor) -> Tensor:
    made: Tensor = module.generate(
        **given, do_sample=False, min_new_tokens=num_new, max_new_tokens=num_new, pad_token_id=0
    )
    return made


def _mask(lengths: Sequence[int], device: Any) -> Tensor:
    return (torch.arange(max(lengths), device=device)[None] < torch.tensor(lengths, device=device)[:, None]).long()
