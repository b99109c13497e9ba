"""What a person names when they mean rows: a manifest, a folder of manifests, or a recipe with a corpus."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from lalm import plugins
from lalm.config import DataSection, read_recipe
from lalm.data.labelled import Split
from lalm.data.pools import corpus_options
from lalm.errors import ConfigError, DataError
from lalm.records import Utterance

RECIPES = (".yaml", ".yml")
SPLITS: tuple[Split, ...] = ("train", "dev", "test")


def recipe_data(path: Path) -> DataSection:
    """The `data` section of a recipe, paths made absolute; the other sections are not looked at, so no model is loaded."""
    values = read_recipe(path)
    folders = values.get("plugins") or []
    if not isinstance(folders, list) or not all(isinstance(folder, str) for folder in folders):
        raise ConfigError(f"{path}: plugins: a list of folders is needed.")
    plugins.add_roots([path.parent / folder for folder in folders])
    if not isinstance(values.get("data"), dict):
        raise ConfigError(f"{path}: data: this key is required and missing.")
    data = plugins.parse(DataSection, values["data"], f"{path}: data")
    parent = path.absolute().parent
    synthetic = parent / data.synthetic.expanduser() if data.synthetic else None
    return data.model_copy(update={"root": parent / data.root.expanduser(), "synthetic": synthetic})


def manifests(root: Path) -> list[tuple[Path, Split | None]]:
    """The manifests of a file or folder, each with the split that its name gives to all of its rows.

    Raises DataError for a folder without any.
    """
    if not root.is_dir():
        return [(root, None)]
    named: list[tuple[Path, Split | None]] = [(root / f"{split}.jsonl", split) for split in SPLITS]
    found = [one for one in named if one[0].is_file()]
    if not found and (root / "manifest.jsonl").is_file():
        found = [(root / "manifest.jsonl", None)]
    if not found:
        raise DataError(f"{root}: holds neither train.jsonl nor manifest.jsonl.")
    return found


def corpus_of(data: DataSection) -> tuple[ModuleType, Any]:
    """The corpus of a recipe and its options."""
    corpus = plugins.load("corpora", data.corpus.name)
    return corpus, plugins.configure(corpus, corpus_options(data), "data.corpus")


def corpus_rows(corpus: ModuleType, root: Path, cfg: Any, splits: tuple[Split, ...] = SPLITS) -> Iterator[Utterance]:
    """The rows of a corpus, each with its split."""
    if not root.exists():
        raise DataError(f"{root}: there is no such file or folder.")
    for split in splits:
        for row in corpus.read(root, split, cfg):
            yield replace(row, split=split)
