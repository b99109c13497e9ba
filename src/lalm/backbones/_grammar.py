"""Answers held to a grammar: at every token only what can still become a whole answer keeps its logit.

llguidance reads grammar and vocabulary and says which tokens may follow; a token may span what the grammar writes as
several parts. The states of answers are kept by their tokens so far, since beam search puts rows in another order and
rows that have ended leave the batch; rows that say the same share one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from llguidance import LLMatcher, LLTokenizer
from llguidance.hf import from_tokenizer
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedTokenizerFast

from lalm.data.grammar import Grammar
from lalm.errors import ConfigError, ModelError, many

_SAMPLE = '{"intent": null, "slots": []}'


def check_tokenizer(tokenizer: Any) -> None:
    """Raises ConfigError for a tokenizer whose vocabulary cannot be read."""
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ConfigError(
            f"evaluate.constrained: the model's tokenizer ({type(tokenizer).__name__}) is not a fast one (from a "
            "tokenizer.json), so its answers cannot be held to a grammar. Leave evaluate.constrained out, or choose a model "
            "with a fast tokenizer."
        )


class Guide:
    """A model's tokens as llguidance reads them. One a model: reading a vocabulary takes about a second.

    `ends` are the tokens that end an answer.
    """

    def __init__(self, tokenizer: Any, ends: Sequence[int]) -> None:
        self._tokenizer, self.ends = tokenizer, list(ends)
        self._tokens: LLTokenizer | None = None
        self._begun: tuple[str, LLMatcher] | None = None

    def obeying(self, grammar: Grammar) -> Obeying:
        """What holds the answers of one batch to the grammar."""
        return Obeying(self, grammar)

    def most_tokens(self, grammar: Grammar, positions_left: int | None) -> int:
        """Tokens of the longest answer and its end: a token is at least one byte. No more than the positions there are."""
        most = grammar.max_bytes + 2  # the space of sentencepiece before it, and the end
        return most if positions_left is None else max(1, min(most, positions_left))

    @property
    def num_tokens(self) -> int:
        """Tokens that a mask has places for."""
        assert self._tokens is not None, "an answer has begun"
        return int(self._tokens.vocab_size)

    def begin(self, grammar: Grammar, width: int) -> LLMatcher:
        """The state before the first token, for logits [..., width]. Raises ConfigError if it cannot be made."""
        if self._begun is None or self._begun[0] != grammar.lark:
            self._tokens = self._tokens or self._read(width)
            self._check_words(grammar.words, self._tokens)
            matcher = LLMatcher(self._tokens, self._as_taught(grammar.lark, self._tokens), log_level=0)
            if matcher.is_error():
                raise ConfigError(
                    f"evaluate.constrained: the ontology makes no usable grammar ({matcher.get_error()})."
                )
            self._begun = grammar.lark, matcher
        return self._begun[1].deep_copy()

    def stuck(self, answer: Sequence[int], error: str) -> str:
        """What to say where no token may follow."""
        said = self._tokenizer.decode(answer)
        why = error or "the tokenizer has no token for what must follow"
        return f"evaluate.constrained: this model cannot go on after {said!r}: {why}."

    def _read(self, width: int) -> LLTokenizer:
        check_tokenizer(self._tokenizer)
        try:  # embeddings may be wider than the vocabulary: what stands for no text may never follow
            size = max(width, len(self._tokenizer))
            return from_tokenizer(self._tokenizer, n_vocab=size, eos_token=self.ends)
        except ValueError as error:
            raise ConfigError(
                f"evaluate.constrained: the vocabulary of this model's tokenizer cannot be read ({error})."
            ) from None

    def _check_words(self, words: Iterable[str], tokens: LLTokenizer) -> None:
        """Raises ConfigError for words that the tokenizer cannot write, writes as others, or takes for marks of its own.

        Where only one thing can follow, llguidance goes by the tokenizer's own tokens for it.
        """
        bad = []
        for word in words:
            ids = tokens.tokenize_str(word)
            kept = tokens.decode_bytes(ids).removeprefix(b" ") == word.encode()
            if not kept or any(tokens.is_special_token(one) for one in ids):
                bad.append(word)
        if bad:
            raise ConfigError(
                f"evaluate.constrained: the model's tokenizer cannot write {many(len(bad), 'word')} of the grammar as it "
                f"stands: {', '.join(bad[:5])}{' ...' if len(bad) > 5 else ''}. Write it otherwise in the labels, or leave "
                "evaluate.constrained out."
            )

    def _as_taught(self, lark: str, tokens: LLTokenizer) -> str:
        """With the space before the answer that tokenizers of sentencepiece put there, in what is taught as well."""
        ids = self._tokenizer(_SAMPLE, add_special_tokens=False)["input_ids"]
        return lark.replace("start: ", 'start: " " ', 1) if tokens.decode_bytes(ids).startswith(b" ") else lark


class Obeying(LogitsProcessor):
    """The answers of one batch; a logits processor of `transformers.generate` too."""

    def __init__(self, guide: Guide, grammar: Grammar) -> None:
        self._guide, self._grammar = guide, grammar
        self._states: dict[tuple[int, ...], LLMatcher | None] = {}
        self._prompt_length: int | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores [B, V] with -inf where a token may not follow; input_ids [B, L] are the tokens so far."""
        if self._prompt_length is None:
            self._prompt_length = input_ids.shape[1]
        return self.allowed([tuple(row[self._prompt_length :]) for row in input_ids.tolist()], scores)

    def allowed(self, answers: Sequence[tuple[int, ...]], logits: Tensor) -> Tensor:
        """Logits [B, V] with -inf where a token may not follow the answer so far.

        Call it for every token: an answer's state is made from that of the call before. What has ended can only end
        again, and so can what the grammar does not allow, with which beam search fills up beams of no worth.
        """
        if not self._states:
            self._states = {(): self._guide.begin(self._grammar, logits.shape[-1])}
        self._states = {answer: self._after(answer) for answer in dict.fromkeys(answers)}
        number = {answer: index for index, answer in enumerate(self._states)}
        refused = self._refused(logits.shape[-1])[[number[answer] for answer in answers]]
        return logits.masked_fill(torch.from_numpy(refused).to(logits.device), -torch.inf)

    def _after(self, answer: tuple[int, ...]) -> LLMatcher | None:
        """The state after an answer's last token; None where it has ended or was never allowed."""
        if answer in self._states:
            return self._states[answer]
        before = self._states[answer[:-1]]
        if before is None or answer[-1] in self._guide.ends:
            return None
        state = before.deep_copy()
        return state if state.try_consume_tokens([answer[-1]]) == 1 else None

    def _refused(self, width: int) -> np.ndarray:
        """Whether a token may not follow [states, width]."""
        words = allocate_token_bitmask(len(self._states), self._guide.num_tokens)
        for row, (answer, state) in enumerate(self._states.items()):
            if state is not None:
                fill_next_token_bitmask(state, words, row)
                if state.is_error() or not words[row].any():
                    raise ModelError(self._guide.stuck(answer, state.get_error()))
        refused = np.unpackbits((~words).view(np.uint8), axis=1, bitorder="little")[:, :width].astype(bool)
        for row, state in enumerate(self._states.values()):
            if state is None:
                refused[row] = True
                refused[row, self._guide.ends] = False
        return refused
