"""Rows and batches of models of one `transformers` class: prompts in the family's own chat template, padded on the left.

Shapes: B rows, L positions. Left padding, as all these families publish for generation: a row's answer then ends at the
last position of the batch, in training as in use.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lalm.backbones._family import Family, Messages
from lalm.backbones._prompt import common_beginning, tag_of
from lalm.errors import DataError, ModelError
from lalm.records import Example, Turn

IGNORE = -100
_MARK = "lalm-answer-mark"


@dataclass(frozen=True)
class Clip:
    """A recording of a row (`row` is its id): its file, and how much of it is heard, in samples at 16 kHz."""

    path: Path
    num_samples: int
    row: str


@dataclass(frozen=True)
class Row:
    """One example as tokens, placeholders of the clips in turn among `prompt`; `answer` ends with the end of turn."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    clips: tuple[Clip, ...] = ()

    @property
    def length(self) -> int:
        """Positions of the language model."""
        return len(self.prompt) + len(self.answer)


@dataclass(frozen=True)
class Batch:
    """`input_ids` and `labels` [B, L] (labels IGNORE but on answers), `attention_mask` [B, L].

    `features` are `forward`'s arguments that bring the clips, or what was heard of them before (`_native_cache.HEARD`).
    `prefix` are tokens that all rows begin with, where these are to be computed once; the tensors go on after them.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    features: Mapping[str, Tensor]
    placeholder: int
    prefix: tuple[int, ...] = ()

    @property
    def position_ids(self) -> Tensor:
        """[B, L]: every row counts from its own first token, that of the prefix."""
        return len(self.prefix) + (self.attention_mask.cumsum(dim=1) - 1).clamp(min=0)

    def decoded_prompts(self, tokenizer: Any) -> list[str]:
        """What stands before the answers, in words; a recording stands as `[audio]`."""
        return [self._prompt(tokenizer, index) for index in range(len(self.labels))]

    def decoded_labels(self, tokenizer: Any) -> list[str]:
        """What the loss is taken on, in words."""
        return [tokenizer.decode(row[row != IGNORE].tolist()) for row in self.labels]

    def _prompt(self, tokenizer: Any, index: int) -> str:
        shown = (self.attention_mask[index] == 1) & (self.labels[index] == IGNORE)
        tokens = [*self.prefix, *self.input_ids[index][shown].tolist()]
        pieces = itertools.groupby(tokens, lambda token: token == self.placeholder)
        return "".join("[audio]" if is_audio else str(tokenizer.decode(list(ids))) for is_audio, ids in pieces)


class Prompts:
    """Examples to tokens, in the family's chat template. Raises ModelError if the template or the tokenizer cannot be used."""

    def __init__(self, family: Family, processor: Any, eos_ids: Sequence[int], instruction_first: bool = False) -> None:
        self._family, self._tokenizer = family, processor.tokenizer
        self._instruction_first = instruction_first
        self._template = (
            family.chat_template or getattr(processor, "chat_template", None) or self._tokenizer.chat_template
        )
        if self._template is None:
            raise ModelError(
                f"This {family.name} model has no chat template beside its tokenizer; prompts cannot be made."
            )
        self.placeholder = int(self._tokenizer.convert_tokens_to_ids(processor.audio_token))
        self.end_of_turn = self._find_end_of_turn(eos_ids)
        self.eos_ids = sorted({self.end_of_turn, *eos_ids})
        self.padding = next(
            one for one in (self._tokenizer.pad_token_id, self.end_of_turn) if one not in (None, self.placeholder)
        )

    def of(self, example: Example) -> list[int]:
        """Tokens of an example up to its answer, a recording as one placeholder.

        Raises DataError for words that hold one, and for turns that the family's chat template has no place for.
        """
        if not example.turns:
            messages = self.messages(example.instruction, None if example.audio is not None else example.text)
        elif self._family.dialogue is not None:
            messages = self._family.dialogue(example.instruction, lines(example.turns))
        elif example.recordings:
            raise DataError(
                f"it has turns with recordings, and the chat template of {self._family.name} has a place for one recording and "
                "none for words around it. Choose another backbone."
            )
        else:
            words = "".join(line or "" for line in lines(example.turns))
            messages = self._family.messages(example.instruction, words)
        ids, number = self._ids(self._render(messages, True)), len(example.recordings)
        if ids.count(self.placeholder) == number:
            return ids
        word = self._tokenizer.convert_ids_to_tokens(self.placeholder)
        said = (example.instruction, example.text or "", *(turn.text or "" for turn in example.turns))
        if number and not any(word in one for one in said):
            raise ModelError(f"The chat template of this {self._family.name} model leaves the recording out.")
        raise DataError(f"its words hold {word}, with which this model marks audio.")

    def messages(self, instruction: str, words: str | None) -> Messages:
        """One input under an instruction; None stands for a recording."""
        if self._instruction_first and self._family.dialogue is not None:
            return self._family.dialogue(instruction, [words])
        return self._family.messages(instruction, words)

    def answer(self, text: str) -> tuple[int, ...]:
        """Tokens of the answer and the end of turn."""
        return (*self._tokenizer(text, add_special_tokens=False)["input_ids"], self.end_of_turn)

    def _render(self, messages: list[dict[str, Any]], add_generation_prompt: bool) -> str:
        return str(
            self._tokenizer.apply_chat_template(
                messages, chat_template=self._template, tokenize=False, add_generation_prompt=add_generation_prompt
            )
        )

    def _ids(self, text: str) -> list[int]:
        # as transformers' processors do: a template that writes the first token itself gets no second one
        bos = self._tokenizer.bos_token
        return list(self._tokenizer(text, add_special_tokens=not (bos and text.startswith(bos)))["input_ids"])

    def _find_end_of_turn(self, eos_ids: Sequence[int]) -> int:
        """What the template writes after an answer, if it is a special token; else the model's own end of sequence."""
        messages = self._family.messages("", "")
        whole = self._render([*messages, {"role": "assistant", "content": _MARK}], False)
        tail = self._tokenizer(whole.rpartition(_MARK)[2], add_special_tokens=False)["input_ids"]
        if _MARK in whole and tail and tail[0] in self._tokenizer.added_tokens_decoder:
            return int(tail[0])
        end = self._tokenizer.eos_token_id if self._tokenizer.eos_token_id is not None else next(iter(eos_ids), None)
        if end is None:
            raise ModelError(f"This {self._family.name} model names no end of turn; its answers could not end.")
        return int(end)


def lines(turns: Sequence[Turn]) -> list[str | None]:
    """A line a turn, each beginning with who speaks, cut where a recording stands (None). Raises DataError for an empty turn."""
    pieces: list[str | None] = [""]
    for index, turn in enumerate(turns):
        if turn.audio is None and turn.text is None:
            raise DataError(f"turn {index + 1} has neither text nor audio.")
        pieces[-1] = f"{pieces[-1]}{chr(10) if index else ''}{tag_of(turn)}"
        if turn.audio is not None:
            pieces += [None, ""]
        else:
            pieces[-1] = f"{pieces[-1]}{turn.text}"
    return [piece for piece in pieces if piece != ""]


WORTH = 0.1  # of all positions: what computing a common beginning once is to save


def common_prefix(rows: Sequence[Row], placeholder: int) -> tuple[int, ...]:
    """Tokens that all prompts begin with, up to the first recording; none where computing them once saves next to nothing.

    Something of each prompt is left: its last position has to know what follows.
    """
    common = common_beginning([list(row.prompt[:-1]) for row in rows])
    prefix = tuple(itertools.takewhile(lambda token: token != placeholder, common))
    saved = (len(rows) - 1) * len(prefix)
    return prefix if saved >= WORTH * sum(row.length for row in rows) else ()


def collate(rows: Sequence[Row], with_answers: bool, padding: int, start: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, mask and labels [B, L] of rows from position `start` of each on, padded on the left."""
    whole = [row.prompt[start:] + (row.answer if with_answers else ()) for row in rows]
    length = max(map(len, whole))
    ids = torch.full((len(rows), length), padding, dtype=torch.long)
    mask = torch.zeros(len(rows), length, dtype=torch.long)
    labels = torch.full((len(rows), length), IGNORE, dtype=torch.long)
    for index, (row, tokens) in enumerate(zip(rows, whole, strict=True)):
        ids[index, length - len(tokens) :] = torch.tensor(tokens)
        mask[index, length - len(tokens) :] = 1
        if with_answers:
            labels[index, length - len(row.answer) :] = torch.tensor(row.answer)
    return ids, mask, labels
