"""Whisper's transcript as plain text and nothing else: the cascade that others build, for comparison.

The language model reads the words that Whisper's decoder wrote, through its own token embeddings.
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

from lalm.connectors._plain import ROW, RowLanguage, expected, plain_words, told
from lalm.connectors._whisper_decoder import WhisperDecoder
from lalm.languages import base, heard_by_whisper
from lalm.plugins import PluginConfig

HEARS_WORDS = True


class Config(PluginConfig):
    """Options of the cascade."""

    language: RowLanguage = Field(
        "en", description="language that Whisper is told to expect (ISO 639-1), or `row`: that of each row"
    )


def unheard(language: str, cfg: Config) -> str | None:
    """What it means that a language is not the one that Whisper's decoder is told to expect; None if it is."""
    if cfg.language == ROW:
        return (
            None if heard_by_whisper(language) else "Whisper's decoder takes it for the nearest language that it knows"
        )
    if base(cfg.language) == base(language):
        return None
    return (
        f"Whisper's decoder is told to expect '{cfg.language}' and may translate or misspell what it hears "
        f"(backbone.connector.language tells it otherwise)"
    )


class CascadeConnector(nn.Module):
    """Encoder frames -> transcript -> token embeddings [tokens, text_width]."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.cfg = cfg
        self._tokenizer: Any = None
        self._embed: list[nn.Module] = []  # in a list: the language model's weights are not this module's
        self._decoder: WhisperDecoder | None = None

    def bind(self, tokenizer: Any, embed_tokens: nn.Module) -> None:
        """The language model's tokenizer and embeddings."""
        self._tokenizer, self._embed = tokenizer, [embed_tokens]

    def bind_speech(self, whisper: nn.Module, tokenizer: Any) -> None:
        """The whole of Whisper, for its decoder."""
        self._decoder = WhisperDecoder(whisper, tokenizer, told(self.cfg.language))

    def in_language(self, language: str) -> CascadeConnector:
        """What rows of a language are heard with: this connector, or, where the option is `row`, one told that language."""
        if self.cfg.language != ROW:
            return self
        view = copy.copy(self)
        view.cfg = self.cfg.model_copy(update={"language": expected(self.cfg.language, language)})
        view._decoder = None if self._decoder is None else self._decoder.in_language(told(view.cfg.language))
        return view

    def save_speech(self, folder: Path) -> None:
        """Write what `bind_speech` was given, for a folder that holds the whole model."""
        assert self._decoder is not None, "bind_speech comes before save_speech"
        self._decoder.save(folder)

    def prepare(self, frames: Tensor, frame_mask: Tensor) -> list[dict[str, np.ndarray]]:
        """Token ids of each item's transcript."""
        assert self._decoder is not None, "bind_speech comes before prepare"
        texts = self._decoder.transcribe(frames, frame_mask)
        return [{"ids": np.array(self._ids(plain_words(text, self.cfg.language)), dtype=np.int64)} for text in texts]

    def num_vectors(self, item: Mapping[str, np.ndarray]) -> int:
        """One vector a token."""
        return len(item["ids"])

    def forward(self, prepared: Sequence[Mapping[str, np.ndarray]]) -> tuple[Tensor, Tensor]:
        """Token embeddings [batch, length, text_width] and mask [batch, length]."""
        device = next(self._embed[0].parameters()).device
        ids = [torch.as_tensor(item["ids"], device=device) for item in prepared]
        mask = nn.utils.rnn.pad_sequence([torch.ones_like(i, dtype=torch.bool) for i in ids], batch_first=True)
        return self._embed[0](nn.utils.rnn.pad_sequence(ids, batch_first=True)), mask

    def transcripts(self, prepared: Sequence[Mapping[str, np.ndarray]]) -> list[str]:
        """The words of each prepared item."""
        return [self._tokenizer.decode(item["ids"].tolist()) for item in prepared]

    def as_heard(self, text: str, rng: Random) -> str:
        """Lower case, no punctuation, numbers as words, as the transcripts are."""
        return plain_words(text, self.cfg.language)

    def fingerprint(self) -> str:
        """Of the settings; the decoder's weights come with the encoder's."""
        return hashlib.sha256(f"cascade 3 {self.cfg.language}".encode()).hexdigest()[:12]

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])


def build(audio_width: int, text_width: int, cfg: Config) -> CascadeConnector:
    """The connector, before it is bound to a language model and to Whisper."""
    return CascadeConnector(cfg)
