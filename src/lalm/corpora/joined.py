"""Several corpora as one: another language from another folder, text of one and speech of another, splits kept apart.

Each part is a corpus of this package (or of your own) with its own options, its folder within the root, and the splits that are
taken from it. Ids are `PART-ID`. Corpora that translate each other share sentences (MASSIVE's are SLURP's), so a part that is in
training and one that is in the test must not hold the same ones: rows are the same sentence if `apart` names a field of `meta`
in which they agree. Without parts, every folder of the root with a manifest is a part, read as `jsonl`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import soundfile
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from lalm import plugins
from lalm.data.budget import balanced_order
from lalm.data.manifest import write_manifest
from lalm.errors import DataError, many
from lalm.plugins import PluginConfig
from lalm.records import Frame, Slot, Utterance
from lalm.sections import PluginChoice

LICENCE = "those of its parts"
_SPLITS: tuple[Literal["train", "dev", "test"], ...] = ("train", "dev", "test")


class Part(BaseModel):
    """One of the corpora."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    corpus: PluginChoice = Field(description="the corpus and its options")
    root: str = Field(".", description="its folder or file, within the root of the whole")
    splits: tuple[Literal["train", "dev", "test"], ...] = Field(
        _SPLITS, min_length=1, description="what is taken of it"
    )
    at_most: dict[Literal["train", "dev", "test"], PositiveInt] = Field(
        {}, description="split -> rows taken of it, with intents and slot types in their shares (none: all)"
    )


class Config(PluginConfig):
    """Options of the corpus."""

    parts: dict[str, Part] = Field(
        {}, description="name -> corpus, root and splits (none: folders of the root that hold a manifest)"
    )
    translations: Part | None = Field(
        None,
        description="corpus whose words, by `apart`, go into `meta.translation` of training rows (none: no translations)",
    )
    apart: str | None = Field(
        "slurp_id", description="field of `meta` that no training row and no test row may share (none: do not look)"
    )

    @model_validator(mode="after")
    def _translations_by_a_field(self) -> Config:
        if self.translations is not None and self.apart is None:
            raise ValueError(
                "translations are found by `apart`, the field of `meta` in which sentences agree; it is null"
            )
        return self


def read(root: Path, split: str, cfg: Config) -> Iterator[Utterance]:
    """The rows of all parts. Raises ConfigError and DataError as the parts do, and for sentences on both sides."""
    parts = cfg.parts or _folders(root)
    rows = [row for name, part in parts.items() if split in part.splits for row in _rows(root, name, part, split)]
    twice = [name for name, times in Counter(row.id for row in rows).items() if times > 1]
    if twice:
        raise DataError(f"data.corpus.parts: {many(len(twice), 'id')} more than once among the rows.", twice)
    if split == "test" and cfg.apart is not None:
        _check_apart(root, parts, rows, cfg.apart)
    if split == "train" and cfg.translations is not None and cfg.apart is not None:
        rows = _with_translations(rows, _words(root, cfg.translations, cfg.apart), cfg.apart)
        if rows and not any("translation" in row.meta for row in rows):
            raise DataError(
                f"data.corpus.translations: none of the {many(len(rows), 'training row')} has its {cfg.apart} among the sentences in "
                f"{root / cfg.translations.root} (splits {', '.join(cfg.translations.splits)}), or all are in that language."
            )
    yield from rows


def _words(root: Path, part: Part, field: str) -> dict[str, tuple[str, str]]:
    """Value of the field -> language and words, of all splits of a corpus that rows are translated by."""
    rows = [row for split in part.splits for row in _rows(root, "translations", part, split)]
    return {str(row.meta[field]): (row.language, row.text) for row in rows if row.text and field in row.meta}


def _with_translations(rows: list[Utterance], words: dict[str, tuple[str, str]], field: str) -> list[Utterance]:
    """Rows of other languages with what they are in that of the translations, and which it is; nothing else of those is
    trained on."""
    result = []
    for row in rows:
        language, text = words.get(str(row.meta.get(field)), (row.language, ""))
        own = {"translation": text, "translation_language": language}
        result.append(row if language == row.language else replace(row, meta={**row.meta, **own}))
    return result


def licence(cfg: Config) -> str:
    """The licences of the parts, each once."""
    stated = [
        str(getattr(plugins.load("corpora", part.corpus.name), "LICENCE", "not stated")) for part in cfg.parts.values()
    ]
    return "; ".join(dict.fromkeys(stated)) or LICENCE


def _rows(root: Path, name: str, part: Part, split: Any) -> list[Utterance]:
    where = root / part.root
    if not where.exists():
        raise DataError(f"data.corpus.parts.{name}.root: {where} does not exist.")
    module: ModuleType = plugins.load("corpora", part.corpus.name)
    own = plugins.configure(module, part.corpus.options, f"data.corpus.parts.{name}.corpus")
    rows = list(module.read(where, split, own))
    number = part.at_most.get(split)
    if number is not None and number < len(rows):
        taken = {id(row) for row in balanced_order(rows, 0)[:number]}
        rows = [row for row in rows if id(row) in taken]
    return [replace(row, id=f"{name}-{row.id}", split=split) for row in rows]


def _check_apart(root: Path, parts: dict[str, Part], test: list[Utterance], field: str) -> None:
    """Raises DataError for sentences that are trained on and tested, in whatever language."""
    tested = {str(row.meta[field]): row.id for row in test if field in row.meta}
    both = [
        f"{field} {row.meta[field]}: {row.id} in training, {tested[str(row.meta[field])]} in the test"
        for name, part in parts.items()
        if "train" in part.splits and tested
        for row in _rows(root, name, part, "train")
        if str(row.meta.get(field)) in tested
    ]
    if both:
        raise DataError(
            f"{many(len(both), 'training row')} of sentences that are tested. Split by id (slurp: test_size), leave one of the "
            "files out, or say `apart: null`.",
            both,
        )


def _folders(root: Path) -> dict[str, Part]:
    found = sorted(path.parent.name for path in root.glob("*/manifest.jsonl"))
    if not found:
        raise DataError(f"{root}: data.corpus.parts is empty, and no folder there holds a manifest.jsonl.")
    return {name: Part(corpus=PluginChoice(name="jsonl"), root=name) for name in found}


def make_tiny(root: Path, seed: int) -> None:
    """A folder of English and one of French, each with six sentences, some of them recordings of noise."""
    rng = np.random.default_rng(seed)
    words = {
        "en": ("turn the light", "on", "off", "hall", "attic", "cellar"),
        "fr": ("lumière", "oui", "non", "salon", "grenier", "cave"),
    }
    for language, (verb, on, off, *places) in words.items():
        folder = root / language
        (folder / "audio").mkdir(parents=True)
        rows = []
        for index, (state, place) in enumerate((state, place) for state in (on, off) for place in places):
            frame = Frame(f"light_{'on' if state == on else 'off'}", (Slot("place", place),))
            meta = {"slurp_id": f"{language}{index}"}
            text = f"{verb} {state} {place}"
            rows.append(
                Utterance(f"t{index}", text, None, frame, language, split="train" if index < 4 else "dev", meta=meta)
            )
            if index in (0, 3, 5):
                audio = folder / "audio" / f"{index}.wav"
                soundfile.write(audio, 0.1 * rng.standard_normal(8000), 16_000)
                heard = replace(rows[-1], id=f"s{index}", audio=audio, source="recorded", duration_s=0.5)
                rows.append(replace(heard, speaker=f"{language}-{index}", split="train" if index < 4 else "test"))
        write_manifest(folder / "manifest.jsonl", rows)
