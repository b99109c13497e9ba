"""Whisper's transcript and, on a line of its own, what the CTC connector heard: two hearings of one recording.

As DeSTA2.5-Audio (arXiv 2507.02768) puts decoded transcript tokens beside audio vectors. The two err independently, so
the language model can learn which to believe. `zero_audio` zeroes the vectors of the second hearing, to show what they
add.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from lalm.connectors import cascade, ctc
from lalm.connectors._plain import ROW, RowLanguage, expected, plain_words, told
from lalm.connectors._whisper_decoder import WhisperDecoder
from lalm.connectors._words import misheard
from lalm.models.whisper import whisper_config

_BETWEEN = "\n"


HEARS_WORDS = True


class Config(ctc.Config):
    """Options of the hybrid: those of `ctc`, and of the transcript."""

    language: RowLanguage = Field(
        "en", description="language that both hearings are told to expect (ISO 639-1), or `row`: that of each row"
    )
    zero_audio: bool = Field(False, description="zero the vectors of the CTC part, to measure what they add")
    text_noise: float = Field(
        0.15, ge=0, lt=1, description="share of words misheard on purpose in a text row's second line"
    )


def unheard(language: str, cfg: Config) -> str | None:
    """What it means that a language is not the one that each of the two hearings expects; None if it is."""
    both = [cascade.unheard(language, cascade.Config(language=cfg.language)), ctc.unheard(language, cfg)]
    return "; ".join(filter(None, both)) or None


class HybridConnector(nn.Module):
    """Frames of two taps -> transcript tokens, a line break, vectors of the CTC connector."""

    taps = (ctc.TAP, whisper_config().encoder_layers)

    def __init__(self, audio_width: int, text_width: int, cfg: Config) -> None:
        super().__init__()
        self.cfg = cfg
        self.width = audio_width
        self.ctc = ctc.build(audio_width, text_width, cfg)
        self._tokenizer: Any = None
        self._embed: list[nn.Module] = []
        self._decoder: WhisperDecoder | None = None

    def bind(self, tokenizer: Any, embed_tokens: nn.Module) -> None:
        """The language model's tokenizer and embeddings."""
        self._tokenizer, self._embed = tokenizer, [embed_tokens]
        self.ctc.bind(tokenizer, embed_tokens)

    def bind_speech(self, whisper: nn.Module, tokenizer: Any) -> None:
        """The whole of Whisper, for its decoder."""
        self._decoder = WhisperDecoder(whisper, tokenizer, told(self.cfg.language))

    def in_language(self, language: str) -> HybridConnector:
        """What rows of a language are heard with: this connector, or, where the option is `row`, one told that language."""
        if self.cfg.language != ROW:
            return self
        view = copy.copy(self)
        view._modules = {**self._modules, "ctc": self.ctc.in_language(language)}
        view.cfg = self.cfg.model_copy(update={"language": expected(self.cfg.language, language)})
        view._decoder = None if self._decoder is None else self._decoder.in_language(told(view.cfg.language))
        return view

    def save_speech(self, folder: Path) -> None:
        """Write what `bind_speech` was given, for a folder that holds the whole model."""
        assert self._decoder is not None, "bind_speech comes before save_speech"
        self._decoder.save(folder)

    def prepare(self, frames: Tensor, frame_mask: Tensor) -> list[dict[str, np.ndarray]]:
        """Per item: token ids of the transcript (`words`), and what the CTC connector prepares (`ids`, `weights`)."""
        assert self._decoder is not None, "bind_speech comes before prepare"
        heard = self.ctc.prepare(frames[..., : self.width], frame_mask)
        texts = self._decoder.transcribe(frames[..., self.width :], frame_mask)
        return [
            {"words": np.array(self._ids(plain_words(text, self.cfg.language) + _BETWEEN), dtype=np.int64), **item}
            for text, item in zip(texts, heard, strict=True)
        ]

    def num_vectors(self, item: Mapping[str, np.ndarray]) -> int:
        """Tokens of both hearings and the break between them."""
        return len(item["words"]) + self.ctc.num_vectors(item)

    def forward(self, prepared: Sequence[Mapping[str, np.ndarray]]) -> tuple[Tensor, Tensor]:
        """Vectors [batch, length, text_width] and mask [batch, length]."""
        table = self._embed[0]
        device = next(table.parameters()).device
        vectors, mask = self.ctc(prepared)
        rows = []
        for item, row, real in zip(prepared, vectors, mask, strict=True):
            words = table(torch.as_tensor(item["words"], device=device))
            audio = row[real]
            rows.append(torch.cat([words, torch.zeros_like(audio) if self.cfg.zero_audio else audio]))
        both = nn.utils.rnn.pad_sequence(
            [torch.ones(len(r), dtype=torch.bool, device=device) for r in rows], batch_first=True
        )
        return nn.utils.rnn.pad_sequence(rows, batch_first=True), both

    def transcripts(self, prepared: Sequence[Mapping[str, np.ndarray]]) -> list[str]:
        """Both hearings, one a line."""
        spoken = [self._tokenizer.decode(item["words"].tolist()) for item in prepared]
        return [first + second for first, second in zip(spoken, self.ctc.transcripts(prepared), strict=True)]

    def as_heard(self, text: str, rng: Random) -> str:
        """The sentence in plain words, twice; the second time some words are misheard."""
        plain = plain_words(text, self.cfg.language)
        return plain + _BETWEEN + misheard(plain, self.cfg.text_noise, self.ctc.lexicon.unigrams, rng)

    def fingerprint(self) -> str:
        """Of both hearings."""
        return hashlib.sha256(f"hybrid 3 {self.cfg.language} {self.ctc.fingerprint()}".encode()).hexdigest()[:12]

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])


def build(audio_width: int, text_width: int, cfg: Config) -> HybridConnector:
    """The connector, before it is bound to a language model and to Whisper."""
    return HybridConnector(audio_width, text_width, cfg)
