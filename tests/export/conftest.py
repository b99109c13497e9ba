"""Small runs that tests of exports share: trained for a few steps with a rate that changes the answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tiny_parts import make_encoder, make_language_model

from lalm.config import parse_recipe
from lalm.evaluate.predict import predict_run
from lalm.study.single import train

SMOL = {"name": "smol", "tiny": True, "connector": "mlp"}


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A backbone from two folders."""
    root = tmp_path_factory.mktemp("parts")
    encoder, language = make_encoder("wav2vec2", root / "ears"), make_language_model("gemma2", root / "mouth")
    return {"name": "composed", "encoder": str(encoder), "language_model": str(language)}


@pytest.fixture(scope="session")
def make_run(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A run with its predictions, by name; made once."""
    made: dict[str, Path] = {}

    def make(name: str, backbone: Mapping[str, Any], predict: bool = True, **changes: Any) -> Path:
        if name not in made:
            values = {
                "data": {"corpus": {"name": "barista", "test_size": 2}, "root": str(corpus), "speech_share": 1.0},
                "backbone": dict(backbone),
                "tuner": {"name": "lora", "r": 4},
                "scheme": {"name": "direct_mixing", "num_train_epochs": 2},
                "train": {"learning_rate": 0.02, "save_steps": 1000, "bf16": False},
                "evaluate": {"max_new_tokens": 8, "num_resamples": 20},
            }
            for key, value in changes.items():
                values[key] = {**values.get(key, {}), **value} if isinstance(value, dict) else value
            root = tmp_path_factory.mktemp(name) / name
            made[name] = train(parse_recipe(values, corpus), root, quiet=True).root
            if predict:
                predict_run(made[name])
        return made[name]

    return make


@pytest.fixture(scope="session")
def smol_run(make_run: Callable[..., Path]) -> Path:
    """LoRA on the language model of the tiny embedded model."""
    return make_run("smol", SMOL)


@pytest.fixture(scope="session")
def tuned_encoder_run(make_run: Callable[..., Path], parts: dict[str, str]) -> Path:
    """LoRA on encoder, connector and language model of two folders."""
    return make_run("ears", parts, train={"groups": ["audio_encoder", "connector", "llm.attention", "llm.mlp"]})
