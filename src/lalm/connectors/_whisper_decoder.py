"""Whisper's own decoder over encoder frames: greedy, batched, on the frames that exist.

`generate` of transformers works on thirty padded seconds and tries again at other temperatures; for commands of a few
seconds a plain greedy search over the unpadded frames is several times faster and as right (docs/models.md).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from lalm.languages import only_words
from lalm.models.key_values import with_cache
from lalm.models.whisper import (
    END_OF_TEXT,
    FIRST_LANGUAGE,
    NO_TIMESTAMPS,
    NUM_LANGUAGES,
    START_OF_TRANSCRIPT,
    SUPPRESS_TOKENS,
    TRANSCRIBE,
)

FRAMES_PER_S = 50
TOKENS_PER_S = 6  # fast speech has about four; beyond six the decoder is repeating itself


class WhisperDecoder:
    """Holds the whole model without registering its weights as anybody's parameters.

    With a `language` of None it hears which language it is, as Whisper does: the likeliest of the tokens of languages.
    """

    def __init__(self, whisper: nn.Module, tokenizer: Any, language: str | None) -> None:
        self._whisper, self._tokenizer = whisper, tokenizer
        self._language = None if language is None else int(tokenizer.convert_tokens_to_ids(f"<|{language}|>"))

    def in_language(self, language: str | None) -> WhisperDecoder:
        """The same, told to expect another language."""
        return WhisperDecoder(self._whisper, self._tokenizer, language)

    def save(self, folder: Path) -> None:
        """Write Whisper as `bind_speech` was given it."""
        self._whisper.save_pretrained(folder)  # type: ignore[operator]  # a model of transformers
        self._tokenizer.save_pretrained(folder)

    @torch.inference_mode()
    def transcribe(self, frames: Tensor, frame_mask: Tensor) -> list[str]:
        """Plain transcripts of encoder frames [batch, frames, width] with mask [batch, frames]."""
        groups: dict[int, list[int]] = {}
        for index, length in enumerate(frame_mask.sum(dim=1).tolist()):
            groups.setdefault(length, []).append(index)  # cross-attention has no mask: equal lengths together
        texts = [""] * len(frames)
        for length, members in groups.items():
            for index, (ids, ended) in zip(members, self._greedy(frames[members, :length]), strict=True):
                text = self._tokenizer.decode(ids, skip_special_tokens=True).strip()
                texts[index] = without_echo(text, ended)
        return texts

    def _greedy(self, frames: Tensor) -> list[tuple[list[int], bool]]:
        """Token ids of each row, and whether the row ended by itself."""
        encoded = BaseModelOutput(last_hidden_state=frames)
        prompts = [[START_OF_TRANSCRIPT, one, TRANSCRIBE, NO_TIMESTAMPS] for one in self._languages(encoded, frames)]
        tokens = torch.tensor(prompts, device=frames.device)
        answers: list[list[int]] = [[] for _ in frames]
        alive = [True] * len(frames)
        past = EncoderDecoderCache(DynamicCache(), DynamicCache())
        for step in range(10 + TOKENS_PER_S * frames.shape[1] // FRAMES_PER_S):
            output = self._whisper(encoder_outputs=encoded, decoder_input_ids=tokens, **with_cache(self._whisper, past))
            logits = output.logits[:, -1]
            logits[:, SUPPRESS_TOKENS] = -torch.inf
            if step == 0:
                logits[:, [220, END_OF_TEXT]] = -torch.inf
            best = logits.argmax(dim=-1)
            for row, token in enumerate(best.tolist()):
                alive[row] = alive[row] and token != END_OF_TEXT
                if alive[row]:
                    answers[row].append(token)
            if not any(alive):
                break
            tokens = best[:, None]
        return [(ids, not going) for ids, going in zip(answers, alive, strict=True)]

    def _languages(self, encoded: BaseModelOutput, frames: Tensor) -> list[int]:
        """The token of each row's language."""
        if self._language is not None:
            return [self._language] * len(frames)
        start = torch.full((len(frames), 1), START_OF_TRANSCRIPT, device=frames.device)
        logits = self._whisper(encoder_outputs=encoded, decoder_input_ids=start).logits[:, -1]
        heard = logits[:, FIRST_LANGUAGE : FIRST_LANGUAGE + NUM_LANGUAGES].argmax(dim=-1)
        return (FIRST_LANGUAGE + heard).tolist()


def without_echo(text: str, ended: bool) -> str:
    """A transcript that says the same again and again, once; any other as it is.

    Over frames that are not padded to thirty seconds the decoder at times begins anew instead of ending. A text counts
    as an echo if it repeats its beginning word for word to its end: a whole second time, or, where it was cut off
    (`ended` is false), by three words at least, the last of which may be incomplete.
    """
    words = [only_words(word.lower(), kept="").replace(" ", "") for word in text.split()]
    for period in range(2, len(words)):
        repeated = len(words) - period
        whole = repeated if ended else repeated - 1
        same = all(words[i] == words[i + period] for i in range(whole))
        if not ended:
            same = same and words[repeated - 1].startswith(words[-1])
        if same and (repeated >= period or (not ended and repeated >= 3)):
            return " ".join(text.split()[:period])
    return text
