"""A tiny corpus, model and recipe that tests of training share."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lalm.config import Recipe, parse_recipe, to_yaml
from lalm.data.pools import load_pools
from lalm.records import Example
from lalm.train.setup import make_examples


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


LIMIT_S = 900  # a minute is plenty on an idle machine


@pytest.fixture(scope="session")
def launched(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, dict[str, str]], Path]:
    """A function that has two processes do all that `several.py` does, and gives the folder with what they left."""

    def launch(strategies: str, environment: dict[str, str]) -> Path:
        out = tmp_path_factory.mktemp("several")
        (out / "recipe.yaml").write_text(to_yaml(recipe), encoding="utf-8")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        shared |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "FSDP_VERSION": "2", **environment}
        program = [sys.executable, str(Path(__file__).parent / "several.py")]
        program += [str(out / "recipe.yaml"), str(out), strategies, str(LIMIT_S)]
        processes = []
        for rank in ("0", "1"):
            with (out / f"said-{rank}.txt").open("w") as said:
                own = {**os.environ, **shared, "RANK": rank, "LOCAL_RANK": rank}
                processes.append(subprocess.Popen(program, env=own, stdout=said, stderr=subprocess.STDOUT))
        try:
            codes = [process.wait(LIMIT_S + 60) for process in processes]
        finally:
            for process in processes:
                process.kill()
        said = {rank: (out / f"said-{rank}.txt").read_text()[-3000:] for rank in ("0", "1")}
        assert codes == [0, 0], said
        return out

    return launch


@pytest.fixture(scope="session")
def two_processes(launched: Callable[[str, dict[str, str]], Path]) -> Path:
    """What two processes on gloo left, with whole and with sharded weights."""
    return launched("ddp,fsdp2", {"ACCELERATE_USE_CPU": "true"})
