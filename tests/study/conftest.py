"""A tiny study that tests of this room share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lalm import plugins

STUDY: dict[str, Any] = {
    "title": "Tiny",
    "recipe": {
        "data": {"corpus": {"name": "barista", "test_size": 2}, "root": "corpus"},
        "backbone": {"name": "smol", "tiny": True, "connector": "mlp"},
        "tuner": {"name": "lora", "r": 2},
        "train": {"per_device_train_batch_size": 4, "bf16": False, "learning_rate": 1e-2},
        "evaluate": {"metrics": ["command_acceptance", "intent_accuracy"], "max_new_tokens": 6, "num_resamples": 20},
    },
    "schemes": ["direct_mixing", {"name": "curriculum", "speech_passes": 1}],
    "speech_shares": [0.25, 1.0],
    "seeds": [0, 1],
    "primary_metric": "command_acceptance",
    "workers": 2,
}


@pytest.fixture(scope="session")
def study_values() -> dict[str, Any]:
    """Two schemes, two shares of four recordings, two seeds, as they stand in the file."""
    return STUDY


@pytest.fixture(scope="session")
def study_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file, with its corpus beside it."""
    folder = tmp_path_factory.mktemp("study")
    plugins.load("corpora", "barista").make_tiny(folder / "corpus", seed=0)
    (folder / "study.yaml").write_text(yaml.safe_dump(STUDY))
    return folder / "study.yaml"


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Workers and this process compute with one thread, so that weights can be compared to the last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "cpu_count", lambda: 2)
        yield
    torch.set_num_threads(before)
