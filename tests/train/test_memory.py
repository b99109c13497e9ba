"""A budget of memory is kept, its estimate is near the truth, and memory that runs out is no end."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lalm.config import load_recipe, to_yaml
from lalm.errors import ConfigError
from lalm.records import Example
from lalm.study.single import train
from lalm.train.checkpoint import ADAPTER_FILE
from lalm.train.distributed import Alone
from lalm.train.memory import Portions, portions
from lalm.train.setup import load_model

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc, as Linux has it")


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[int, dict[str, Any], str, Path]]:
    """A function that trains in a process of its own: exit code, what it found, what it said, its folder."""

    def run(limit_mb: int = 0, **settings: Any) -> tuple[int, dict[str, Any], str, Path]:
        out = tmp_path_factory.mktemp("limited")
        program = [
            sys.executable,
            str(Path(__file__).parent / "limited.py"),
            str(out),
            str(limit_mb),
            json.dumps(settings),
        ]
        done = subprocess.run(program, capture_output=True, text=True, timeout=600)
        return done.returncode, json.loads(done.stdout or "{}"), done.stderr, out

    return run


@pytest.fixture(scope="module")
def unlimited(limited):
    return limited()


def same(a: Path, b: Path) -> bool:
    left, right = load_file(a / "weights.safetensors"), load_file(b / "weights.safetensors")
    return left.keys() == right.keys() and all(torch.allclose(left[k], right[k], atol=1e-5) for k in left)


def test_the_estimate_is_near_what_a_step_takes(unlimited):
    code, found, _, _ = unlimited
    assert code == 0
    assert found["estimate"] > 100e6, "large enough to be seen"
    assert found["estimate"] == pytest.approx(found["peak"], rel=0.35)


@pytest.mark.parametrize(
    "settings", [{"gradient_checkpointing": True}, {"mixed": True}], ids=lambda one: next(iter(one))
)
def test_the_estimate_holds_with_what_changes_it(limited, settings):
    code, found, said, _ = limited(**settings)
    assert code == 0, said
    assert 0.85 * found["peak"] < found["estimate"] < 2 * found["peak"]


def test_memory_that_runs_out_halves_what_is_computed_at_once_and_changes_nothing_else(limited, unlimited):
    _, found, _, whole = unlimited
    code, _, said, out = limited(limit_mb=int(found["peak"] * 0.75 / 2**20))
    assert code == 0, said
    assert "Memory ran out; going on with 4 rows at once" in said
    assert same(out, whole)


def test_memory_that_runs_out_again_is_an_error_that_says_what_to_do(limited, unlimited):
    code, _, said, _ = limited(limit_mb=int(unlimited[1]["peak"] * 0.2 / 2**20))
    assert code != 0
    assert "train.gradient_checkpointing" in said


def test_a_budget_is_kept_and_changes_nothing_else(limited, unlimited):
    _, found, _, whole = unlimited
    budget = found["model"] + found["estimate"] / 3
    code, kept, said, out = limited(max_memory_gb=budget / 1e9)
    assert code == 0, said
    assert kept["peak"] < 0.6 * found["peak"]
    assert same(out, whole)


def test_a_budget_that_is_too_small_is_an_error_before_training(recipe, tmp_path):
    (tmp_path / "recipe.yaml").write_text(to_yaml(recipe), encoding="utf-8")
    small = load_recipe(tmp_path / "recipe.yaml", ["train.max_memory_gb=0.00001"])
    with pytest.raises(ConfigError, match=r"train.max_memory_gb: 1e-05 is less than"):
        train(small, tmp_path / "run", quiet=True)


@pytest.mark.parametrize("strategy", ["fsdp2", "zero2"])
def test_a_budget_is_refused_where_processes_take_the_same_turns(strategy, recipe, examples):
    class Team(Alone):
        """As the launcher's configuration makes it."""

    Team.strategy = strategy
    cfg = recipe.train.model_copy(update={"max_memory_gb": 1.0})
    with pytest.raises(ConfigError, match="with FSDP2 and ZeRO"):
        portions(load_model(recipe), [], examples["text"], cfg, False, Team())


class Lengths:
    """A model of rows whose ids are their lengths."""

    def __init__(self, **given: Any) -> None:
        self.module = torch.nn.Linear(1, 1)
        vars(self).update(given)

    def num_tokens(self, example: Example) -> int:
        return int(example.id)


@pytest.mark.parametrize(
    ("lengths", "model", "strategy", "portions_of"),
    [
        ([100, 110, 120, 130, 140], {}, "none", [3, 2]),  # 4 * 130 is more than 512
        ([128, 128, 128, 128, 128], {}, "ddp", [4, 1]),
        ([600, 10, 700, 10], {}, "none", [1, 1, 1, 1]),
        ([10] * 9, {}, "none", [8, 1]),  # no more rows than were asked for
        ([600] * 9, {"rows_share": True}, "none", [8, 1]),
        ([600] * 9, {}, "fsdp2", [8, 1]),
    ],
)
def test_on_a_processor_few_positions_at_once(lengths, model, strategy, portions_of):
    class Team(Alone):
        """As the launcher's configuration makes it."""

    Team.strategy = strategy
    rows = [Example(str(length), "do", "yes", text="words") for length in lengths]
    micro = (tuple(("text", index) for index in range(len(rows))), True)
    found = Portions(Lengths(**model), 8, Team()).cut([micro], {"text": rows})
    assert [row for portion, _ in found for row in portion] == rows
    assert [len(portion) for portion, _ in found] == portions_of
    assert all(counts for _, counts in found)


def test_a_budget_does_not_change_the_run(recipe, tmp_path):
    (tmp_path / "recipe.yaml").write_text(to_yaml(recipe), encoding="utf-8")
    without = ["tuner.lora_dropout=0"]
    plain = train(load_recipe(tmp_path / "recipe.yaml", without), tmp_path / "plain", quiet=True)
    budget = train(
        load_recipe(tmp_path / "recipe.yaml", [*without, "train.max_memory_gb=0.006"]), tmp_path / "b", quiet=True
    )
    left, right = load_file(plain.adapter / ADAPTER_FILE), load_file(budget.adapter / ADAPTER_FILE)
    assert all(torch.allclose(left[name], right[name], atol=1e-6) for name in left)
