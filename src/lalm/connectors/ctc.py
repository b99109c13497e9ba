"""Text-like: a phone CTC head on the encoder, its posterior searched for words and handed on as token embeddings.

No other model's decoder is involved. The search is guided by a word list and a small bigram model. With `soft`, each
vector is the expected embedding under the posterior of the best texts: where they disagree on a word, the embeddings
of the alternatives are averaged by their weight (the idea of LegoSLM-like connectors, at the level of words).
Weights: `weights/CARD.md`.
"""

from __future__ import annotations

import copy
import difflib
import functools
import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from safetensors.torch import save
from torch import Tensor, nn

from lalm.connectors import _phones, _phones_multilingual
from lalm.connectors._ctc_head import TAP, CtcHead, file_hash, read_head
from lalm.connectors._ctc_training import CtcAlignment, Frames
from lalm.connectors._lexicon_search import Lexicon, SearchConfig, search
from lalm.connectors._plain import ROW, RowLanguage, expected, plain_words
from lalm.connectors._words import misheard
from lalm.errors import ModelError
from lalm.languages import name
from lalm.models import smol
from lalm.models.fetch import lalm_home
from lalm.models.whisper import whisper_config
from lalm.plugins import PluginConfig
from lalm.rundir import atomic

WEIGHTS = Path(__file__).parent / "weights" / "ctc-smol.safetensors"
LEXICON = Path(__file__).parent / "weights" / "lexicon-en.json.gz"
# of words and of each word, by phones: chosen on recorded prompts that nothing is measured on (docs/models.md, LOG.md)
WEIGHTS_OF_SEARCH = {"english": (SearchConfig.lm_weight, SearchConfig.word_bonus), "multilingual": (1.0, 0.0)}
# not part of the wheel: in a checkout, or copied into LALM_HOME
MULTILINGUAL = Path(__file__).parents[3] / "weights" / "gemma"
NUM_ALTERNATIVES = 4
HEARS_WORDS = True
TAPS = (TAP,)
VOCABULARIES = {"english": _phones.VOCABULARY, "multilingual": _phones_multilingual.VOCABULARY}
RECIPES = {"english": "recipes/align_smol.yaml", "multilingual": "recipes/align_gemma.yaml"}


class Config(PluginConfig):
    """Options of the CTC connector."""

    weights: Path | None = Field(
        None, description="safetensors of the head (none: the ones that come with the package)"
    )
    lexicon: Path | None = Field(
        None, description="word list with pronunciations and bigrams (none: English, as shipped)"
    )
    phones: Literal["english", "multilingual"] = Field(
        "english",
        description="what the head writes: 39 phones of English, or 56 of English, French, Spanish and Italian",
    )
    language: RowLanguage = Field(
        "en", description="language of the words (ISO 639-1), or `row`: that of each row; for multilingual phones"
    )
    beam: int = Field(SearchConfig.beam, ge=1, description="prefixes kept in the search")
    lm_weight: float | None = Field(
        None, ge=0, description="weight of word log-probabilities in the search (none: that of the phones, 0.6 or 1.0)"
    )
    word_bonus: float | None = Field(
        None, description="score added per word, in nats (none: that of the phones, 0.8 or 0)"
    )
    soft: bool = Field(False, description="hand on expected embeddings instead of those of the best text")
    text_noise: float = Field(0.0, ge=0, lt=1, description="share of a text row's words that are misheard on purpose")


def unheard(language: str, cfg: Config) -> str | None:
    """What it means that a language is not that of head and word list; None if it is, or if they are one's own."""
    if cfg.phones == "multilingual":
        if (language if cfg.language == ROW else cfg.language) == language in _phones_multilingual.LANGUAGES:
            return None
        return f"the CTC head writes words of {name(word_language(expected(cfg.language, language)))} that sound like what was said"
    if language == "en" or cfg.weights is not None or cfg.lexicon is not None:
        return None
    return "the CTC head was trained on English alone and writes English words that sound like what was said"


def word_language(language: str) -> str:
    """The language whose words are written of recordings in a language: English, where there is no word list."""
    return language if language in _phones_multilingual.LANGUAGES else "en"


def multilingual_folder() -> Path:
    """Where head and word lists for several languages are."""
    kept = lalm_home() / "connectors" / "gemma"
    return kept if kept.is_dir() and not MULTILINGUAL.is_dir() else MULTILINGUAL


def _files(cfg: Config) -> tuple[Path, Path]:
    """Weights and word list: those that are named, or those that come along."""
    if cfg.phones == "english":
        return cfg.weights or WEIGHTS, cfg.lexicon or LEXICON
    language = word_language(cfg.language)
    shipped = LEXICON if language == "en" else multilingual_folder() / f"lexicon-{language}.json.gz"
    return cfg.weights or multilingual_folder() / "ctc-multilingual.safetensors", cfg.lexicon or shipped


@functools.lru_cache(maxsize=4)
def _lexicon(path: Path, written_ns: int) -> Lexicon:
    """A word list, and the tree of its pronunciations once it is searched; kept, as both take a second."""
    return Lexicon.read(path)


class CtcConnector(nn.Module):
    """Encoder frames -> phones -> words -> token embeddings."""

    taps = TAPS

    def __init__(self, audio_width: int, cfg: Config) -> None:
        super().__init__()
        config = whisper_config()
        if audio_width != config.d_model:
            raise ModelError(
                f"The ctc connector reads Whisper base's frames of width {config.d_model}, not {audio_width}."
            )
        self.cfg = cfg
        self._weights, self._lexicon_file = _files(cfg)
        self.head = read_head(self._weights, config, VOCABULARIES[cfg.phones], RECIPES[cfg.phones])
        if not self._lexicon_file.is_file():
            raise ModelError(f"backbone.connector.lexicon: {self._lexicon_file}: there is no such file.")
        weight, bonus = WEIGHTS_OF_SEARCH[cfg.phones]
        self.search = SearchConfig(
            beam=cfg.beam,
            lm_weight=weight if cfg.lm_weight is None else cfg.lm_weight,
            word_bonus=bonus if cfg.word_bonus is None else cfg.word_bonus,
        )
        self._tokenizer: Any = None
        self._embed: list[nn.Module] = []  # in a list: the language model's weights are not this module's

    @property
    def lexicon(self) -> Lexicon:
        """The word list; read when the first recording or sentence needs it, since that takes a second."""
        return _lexicon(self._lexicon_file, self._lexicon_file.stat().st_mtime_ns)

    def in_language(self, language: str) -> CtcConnector:
        """What rows of a language are heard with: this connector, or, where the option is `row`, one with its word list."""
        if self.cfg.language != ROW:
            return self
        view = copy.copy(self)
        view.cfg = self.cfg.model_copy(update={"language": expected(self.cfg.language, language)})
        _, view._lexicon_file = _files(view.cfg)
        if not view._lexicon_file.is_file():
            raise ModelError(f"{view._lexicon_file}: the word list of {name(language)} is missing.")
        return view

    def bind(self, tokenizer: Any, embed_tokens: nn.Module) -> None:
        """The language model's tokenizer and embeddings."""
        self._tokenizer, self._embed = tokenizer, [embed_tokens]

    def best_texts(self, frames: Tensor, frame_mask: Tensor) -> list[list[tuple[str, float]]]:
        """The best texts of each item with their scores, best first."""
        log_probs = self.head(frames, frame_mask).cpu().numpy()
        lengths = frame_mask.sum(dim=1).tolist()
        found = [
            search(item[:length], self.head.vocabulary, self.lexicon, self.search)
            for item, length in zip(log_probs, lengths, strict=True)
        ]
        return [[(text.replace("' ", "'"), score) for text, score in texts] for texts in found]

    def prepare(self, frames: Tensor, frame_mask: Tensor) -> list[dict[str, np.ndarray]]:
        """Per item: token ids [tokens, alternatives] and their weights [tokens, alternatives], the best text's first."""
        return [self._slots(texts) for texts in self.best_texts(frames, frame_mask)]

    def _slots(self, texts: Sequence[tuple[str, float]]) -> dict[str, np.ndarray]:
        best = texts[0][0].split()
        scores = np.array([score for _, score in texts])
        posterior = np.exp(scores - scores.max())
        posterior /= posterior.sum()
        votes: list[dict[str, float]] = [{} for _ in best]
        for (text, _), weight in zip(texts, posterior, strict=True):
            words = text.split()
            for kind, a, b, c, d in difflib.SequenceMatcher(a=best, b=words, autojunk=False).get_opcodes():
                if kind in ("equal", "replace") and b - a == d - c:
                    for offset in range(b - a):
                        word = words[c + offset]
                        votes[a + offset][word] = votes[a + offset].get(word, 0.0) + float(weight)
        ids, weights = [], []
        for position, word in enumerate(best):
            own = self._word_ids(word, position)
            options = [(own, votes[position].get(word, 1.0))]
            for other, vote in sorted(votes[position].items(), key=lambda item: -item[1]):
                other_ids = self._word_ids(other, position)
                if other != word and len(other_ids) == len(own) and len(options) < NUM_ALTERNATIVES:
                    options.append((other_ids, vote))
            total = math.fsum(vote for _, vote in options)
            options += [(own, 0.0)] * (NUM_ALTERNATIVES - len(options))
            for index in range(len(own)):
                ids.append([option[index] for option, _ in options])
                weights.append([vote / total for _, vote in options])
        shape = (len(ids), NUM_ALTERNATIVES)
        return {
            "ids": np.array(ids, dtype=np.int64).reshape(shape),
            "weights": np.array(weights, dtype=np.float32).reshape(shape),
        }

    def _word_ids(self, word: str, position: int) -> list[int]:
        return list(self._tokenizer(word if position == 0 else f" {word}", add_special_tokens=False)["input_ids"])

    def num_vectors(self, item: Mapping[str, np.ndarray]) -> int:
        """One vector a token of the best text."""
        return len(item["ids"])

    def forward(self, prepared: Sequence[Mapping[str, np.ndarray]]) -> tuple[Tensor, Tensor]:
        """Vectors [batch, length, text_width] and mask [batch, length]."""
        table = self._embed[0]
        device = next(table.parameters()).device
        vectors = []
        for item in prepared:
            ids = torch.as_tensor(item["ids"], device=device)
            if self.cfg.soft:
                weights = torch.as_tensor(item["weights"], device=device)
                vectors.append((table(ids) * weights[..., None]).sum(dim=1))
            else:
                vectors.append(table(ids[:, 0]))
        mask = nn.utils.rnn.pad_sequence(
            [torch.ones(len(v), dtype=torch.bool, device=device) for v in vectors], batch_first=True
        )
        return nn.utils.rnn.pad_sequence(vectors, batch_first=True), mask

    def transcripts(self, prepared: Sequence[Mapping[str, np.ndarray]]) -> list[str]:
        """The best text of each prepared item."""
        return [self._tokenizer.decode(item["ids"][:, 0].tolist()) for item in prepared]

    def as_heard(self, text: str, rng: Random) -> str:
        """Lower case, no punctuation, numbers as words; with `text_noise`, some words misheard."""
        return misheard(plain_words(text, self.cfg.language), self.cfg.text_noise, self.lexicon.unigrams, rng)

    def fingerprint(self) -> str:
        """Of weights, word list and search; `soft` and `text_noise` change nothing that is prepared."""
        parts = [file_hash(self._weights), file_hash(self._lexicon_file), repr(self.search)]
        if self.cfg.phones != "english":
            parts.append(self.cfg.language)
        return hashlib.sha256("ctc 2".join(parts).encode()).hexdigest()[:12]


def build(audio_width: int, text_width: int, cfg: Config) -> CtcConnector:
    """The connector with its trained head, before it is bound to a language model."""
    return CtcConnector(audio_width, cfg)


def frequent_words(cfg: Config, language: str) -> list[str]:
    """The words of a language's word list, the most frequent first: what an alignment draws words from."""
    unigrams = _word_list(cfg, language).unigrams
    return sorted(unigrams, key=lambda word: (-unigrams[word], word))


def labels(cfg: Config, texts: Sequence[str], language: str) -> list[str | None]:
    """What the head is to write for each text of a language: its phones; None where that is not known.

    English phones are those of the word list; of several languages, those that espeak-ng speaks the sentence with.
    """
    if cfg.phones == "english":
        lexicon = _word_list(cfg, language)
        return [lexicon.phones(text) for text in texts]
    return [sounds or None for sounds in _phones_multilingual.sentences(texts, language)]


def _word_list(cfg: Config, language: str) -> Lexicon:
    path = _files(cfg.model_copy(update={"language": language}))[1]
    if not path.is_file():
        raise ModelError(f"{path}: the word list of {name(language)} is missing.")
    return _lexicon(path, path.stat().st_mtime_ns)


def alignment(cfg: Config, frames: Frames, lengths: Mapping[str, int]) -> CtcAlignment:
    """The head as `lalm align` trains it, begun as a copy of Whisper's last encoder layer."""
    layer = smol.load_speech(smol.smol_folder()).model.encoder.layers[TAP]
    head = CtcHead(whisper_config(), vocabulary=VOCABULARIES[cfg.phones])
    head.layer.load_state_dict(layer.state_dict())
    return CtcAlignment(head, frames, lengths)


def save_alignment(model: CtcAlignment, path: Path) -> None:
    """The head's weights in float16, as `weights` reads them."""
    state = {name: tensor.detach().half().contiguous() for name, tensor in model.head.state_dict().items()}
    with atomic(path, "wb") as stream:
        stream.write(save(state))
