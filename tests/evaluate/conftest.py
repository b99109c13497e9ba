"""A tiny model that was trained, once for all tests of answers, each of which has the run for itself."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import soundfile
import torch
from tones import HIGH, LOW, RATE_HZ

from lalm.config import parse_recipe
from lalm.data.manifest import write_manifest
from lalm.records import Frame, Utterance
from lalm.study.single import train


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model taught that a short low tone means `on` and a long high one `off`."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the tiny model is faster so
    root = tmp_path_factory.mktemp("tones")
    rows = []
    for index in range(4):
        intent, samples = ("off", HIGH) if index % 2 else ("on", LOW)
        for split, loudness in (("train", 1.0), ("test", 0.9)):
            path = root / f"{split}-{index}.wav"
            soundfile.write(path, loudness * samples[: len(samples) - 320 * index], RATE_HZ, subtype="FLOAT")
            words = f"turn it {intent}"
            rows.append(Utterance(path.stem, words, path, Frame(intent), split=split, source="recorded"))
    write_manifest(root / "manifest.jsonl", rows)
    recipe = parse_recipe(
        {
            "data": {"corpus": "jsonl", "root": str(root)},
            "backbone": {"name": "smol", "tiny": True, "connector": "mlp"},
            "task": {"name": "slu", "instruction": "?"},
            "tuner": "full",
            "scheme": {"name": "speech_only", "num_train_epochs": 80},
            "train": {
                "groups": ["llm.attention", "llm.mlp", "llm.embeddings", "connector"],
                "learning_rate": 1e-2,
                "per_device_train_batch_size": 4,
            },
            "evaluate": {"max_new_tokens": 40},
        },
        root,
    )
    try:
        return train(recipe, root / "run", quiet=True).root
    finally:
        torch.set_num_threads(num_threads)


@pytest.fixture
def run(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of that run and its recordings: what a test answers with it is nobody else's."""
    return Path(shutil.copytree(trained.parent, tmp_path_factory.mktemp("own") / "tones")) / trained.name
