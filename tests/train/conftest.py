"""A tiny corpus, model and recipe that tests of training share."""

from __future__ import annotations

from pathlib import Path

import pytest

from lalm import plugins
from lalm.config import Recipe, parse_recipe
from lalm.data.pools import load_pools
from lalm.records import Example
from lalm.train.setup import make_examples


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight sentences, four recordings to train on and two to test, in barista's layout."""
    root = tmp_path_factory.mktemp("corpus")
    plugins.load("corpora", "barista").make_tiny(root, seed=0)
    return root


@pytest.fixture(scope="session")
def recipe(corpus: Path) -> Recipe:
    """LoRA on attention and perceptrons, curriculum, float32."""
    return parse_recipe(
        {
            "data": {"corpus": {"name": "barista", "test_size": 2}, "root": str(corpus), "speech_share": 1.0},
            "backbone": {"name": "smol", "tiny": True, "connector": "mlp"},
            "tuner": {"name": "lora", "r": 4, "lora_dropout": 0.1},
            "train": {"per_device_train_batch_size": 4, "save_steps": 2, "logging_steps": 1, "bf16": False},
            "evaluate": {"max_new_tokens": 8},
        },
        corpus,
    )


@pytest.fixture(scope="session")
def examples(recipe: Recipe) -> dict[str, list[Example]]:
    """Training rows by pool."""
    return make_examples(recipe, load_pools(recipe.data))
