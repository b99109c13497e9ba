"""What `lalm align` reads: which sentences are spoken by which voices, how they are changed, and how long is trained."""

from __future__ import annotations

import math
from pathlib import Path
from random import Random
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from lalm import plugins
from lalm.config import PluginChoice, TrainSection, read_yaml
from lalm.connectors._numbers import spoken_number
from lalm.connectors._plain import plain_words
from lalm.data.augment import Augment
from lalm.errors import ConfigError, DataError
from lalm.languages import Language
from lalm.train.lean import MEMORY_OPTIONS

SHORT_WORDS = {  # of one or two letters, that are words: the lists hold abbreviations too
    "en": ("a", "i", "of", "to", "in", "on", "at"),
    "fr": ("à", "de", "la", "le", "et", "en", "un", "du", "au", "il", "je", "tu", "on", "ne", "ce", "se", "me", "ma", "sa", "si",
           "ou", "où", "y", "a"),
    "es": ("a", "de", "la", "el", "en", "un", "lo", "no", "se", "me", "te", "mi", "tu", "su", "si", "sí", "ya", "yo", "y", "o"),
    "it": ("a", "di", "da", "in", "la", "il", "lo", "le", "un", "è", "e", "o", "al", "mi", "ti", "si", "ci", "ne", "no", "sì"),
}  # fmt: skip


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TextSource(_Section):
    """Sentences: lines of a file, strings of frequent words, or patterns filled with words and numbers."""

    kind: Literal["lines", "words", "patterns"]
    file: Path | None = Field(None, description="for lines: one sentence a line, relative to the recipe")
    num_words: tuple[PositiveInt, PositiveInt] = Field((2, 6), description="for words: shortest and longest string")
    vocabulary: PositiveInt = Field(12_000, description="words drawn from, the most frequent first")
    patterns: tuple[str, ...] = Field((), description="for patterns: sentences with {word} and {number}")
    max_words: PositiveInt = Field(16, description="longer sentences are left out")


class SpeechSource(_Section):
    """One engine speaking a number of sentences of each text source."""

    engine: str = Field(description="synth plug-in")
    texts: dict[str, PositiveInt] = Field(description="text source -> number of sentences")
    voices: tuple[str, ...] | None = Field(None, description="voices in turn (none: all that the engine has)")
    language: Language | None = Field(None, description="language that is spoken (ISO 639-1; none: the recipe's)")
    dev: bool = Field(False, description="held out: for measuring, not for training")
    speed: tuple[float, float] = Field((0.85, 1.15), description="speaking rate, drawn evenly")
    copies: PositiveInt = Field(1, description="changed copies of each clip")


class AlignRecipe(_Section):
    """An alignment, resolved."""

    title: str
    connector: PluginChoice = Field(description="connector that is trained")
    language: Language = Field("en", description="language of the texts, where a speech source names none (ISO 639-1)")
    texts: dict[str, TextSource]
    speech: tuple[SpeechSource, ...]
    augment: Augment = Field(default_factory=lambda: Augment.model_validate({}))
    train: TrainSection = Field(default_factory=lambda: TrainSection())
    num_train_epochs: PositiveInt = Field(6, description="epochs over all copies")
    warmup_ratio: float = Field(0.05, ge=0, le=1, description="share of the steps in which the learning rate rises")


def load_align_recipe(path: Path) -> AlignRecipe:
    """The recipe of a file, paths made absolute. Raises ConfigError with every problem."""
    recipe = plugins.parse(AlignRecipe, read_yaml(path), str(path))
    plugins.load("connectors", recipe.connector.name)
    for source in recipe.speech:
        plugins.load("synth", source.engine)
        unknown = [name for name in source.texts if name not in recipe.texts]
        if unknown:
            raise ConfigError(f"{path}: speech.{source.engine}.texts: there is no text source {unknown[0]!r}.")
    for option in MEMORY_OPTIONS:
        if getattr(recipe.train, option):
            raise ConfigError(f"{path}: train.{option} is for language models; a connector is trained as it is.")
    texts = {}
    for name, text in recipe.texts.items():
        file = None if text.file is None else (path.parent / text.file).resolve()
        if text.kind == "lines" and (file is None or not file.is_file()):
            raise ConfigError(f"{path}: texts.{name}.file: {file or 'none given'} is not there.")
        texts[name] = text.model_copy(update={"file": file})
    return recipe.model_copy(update={"texts": texts})


def sentences(source: TextSource, number: int, words: list[str], seed: str, language: str = "en") -> list[str]:
    """`number` different sentences in plain words (letters and apostrophes), seeded; `words` the most frequent first.

    Raises DataError if a file has too few.
    """
    rng = Random(seed)
    if source.kind == "lines":
        assert source.file is not None
        lines = dict.fromkeys(
            plain_words(line, language) for line in source.file.read_text(encoding="utf-8").splitlines()
        )
        usable = [line for line in lines if _speakable(line) and len(line.split()) <= source.max_words]
        if len(usable) < number:
            raise DataError(f"{source.file}: {number} sentences are asked for, {len(usable)} can be spoken.")
        return rng.sample(usable, number)
    pool = [
        word
        for word in words[: source.vocabulary]
        if word[-1] != "'" and (len(word) > 2 or word in SHORT_WORDS.get(language, ()))
    ]
    found: dict[str, None] = {}
    while len(found) < number:
        if source.kind == "words":
            text = " ".join(_word(pool, rng) for _ in range(rng.randint(*source.num_words)))
        else:
            text = rng.choice(source.patterns)
            while "{word}" in text:
                text = text.replace("{word}", _word(pool, rng), 1)
            while "{number}" in text:
                text = text.replace("{number}", spoken_number(str(_number(rng)), language), 1)
        text = plain_words(text, language)
        if _speakable(text):
            found[text] = None
    return list(found)


def _speakable(text: str) -> bool:
    return bool(text) and all(letter.isalpha() or letter in "' " for letter in text)


def _word(pool: list[str], rng: Random) -> str:
    """Half of the draws even over the list, half by rank, so that frequent words come often and all words come."""
    if rng.random() < 0.5:
        return rng.choice(pool)
    return pool[int(math.exp(rng.uniform(0, math.log(len(pool))))) - 1]


def _number(rng: Random) -> int:
    return rng.choice([rng.randint(0, 20), rng.randint(0, 20), rng.randint(20, 100), rng.randint(100, 2030)])
