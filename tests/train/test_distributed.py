"""Two processes train as one does: the same steps whatever their rows hold, the same weights on both, one run folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import several
import torch
import yaml
from safetensors.torch import load_file

from lalm.config import Recipe, load_recipe
from lalm.errors import ConfigError
from lalm.evaluate.predict import predict_run
from lalm.rundir import RunDir
from lalm.study.single import train
from lalm.train import distributed
from lalm.train.align import align
from lalm.train.checkpoint import ADAPTER_FILE, load_trained
from lalm.train.setup import attach, load_model
from lalm.train.steps import plan_steps

ROOT = Path(__file__).parents[2]
STRATEGIES = ("ddp", "fsdp2")
CONFIGURATIONS = {"ddp": "ddp", "fsdp2": "fsdp2", "zero2": "deepspeed_zero2"}
LIMIT_S = 900


def difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def log(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def plan(recipe: Recipe, examples, name: str, num_processes: int):
    cfg = several.prepared(recipe, name, num_processes)
    seed = several.RUNS[name][1]
    return plan_steps(load_model(cfg), several.stages(seed), several.mixture(examples, seed), cfg.train, num_processes)


@pytest.fixture(scope="module")
def alone(recipe, tmp_path_factory) -> dict[str, tuple[dict[str, torch.Tensor], list[dict]]]:
    """Weights and log of every run in this one process; and the weights before training."""
    result = {}
    for name in several.RUNS:
        folder = tmp_path_factory.mktemp(name)
        weights = several.run(several.prepared(recipe, name, 1), name, folder / "run")
        start = several.run(several.prepared(recipe, name, 1, learning_rate=1e-30), name, folder / "start")
        assert difference(weights, start) > 1e-2
        result[name] = (weights, log(folder / "run"))
    return result


def test_the_runs_hold_every_kind_of_step(recipe, examples):
    """Recordings on both, on one, on none; and a process without any row."""
    kinds: Counter[str] = Counter()
    for name in several.RUNS:
        for step in plan(recipe, examples, name, 2):
            shares = [[row for micro in step.micro_batches[rank::2] for row in micro] for rank in (0, 1)]
            heard = [any(pool == "speech" for pool, _ in rows) for rows in shares]
            kinds["both" if all(heard) else "one" if any(heard) else "none"] += 1
            kinds["idle"] += not all(shares)
    assert all(kinds[kind] >= 3 for kind in ("both", "one", "none", "idle")), kinds


@pytest.mark.parametrize("name", several.RUNS)
def test_the_steps_hold_the_rows_of_one_process(name, recipe, examples):
    def rows(num_processes: int):
        return [(step.stage, step.micro_batches) for step in plan(recipe, examples, name, num_processes)]

    assert rows(1) == rows(2)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", several.RUNS)
def test_both_end_with_the_weights_of_one_process(name, strategy, two_processes, alone):
    first, second = (load_file(two_processes / f"{strategy}-{name}-{rank}.safetensors") for rank in (0, 1))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert difference(first, alone[name][0]) < 1e-4


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", several.RUNS)
def test_one_log_tells_of_all_rows_by_modality_and_task(name, strategy, two_processes, alone):
    lines, expected = log(two_processes / strategy / name), alone[name][1]
    assert [line["step"] for line in lines] == list(range(1, len(expected) + 1))
    kinds = set()
    for line, whole in zip(lines, expected, strict=True):
        # cosines between tasks need whole gradients in one place, which sharded weights do not have
        one = {key: value for key, value in whole.items() if strategy == "ddp" or not key.startswith("cosine/")}
        assert line.keys() == one.keys()
        kinds |= line.keys()
        numbers = {key: value for key, value in one.items() if key not in ("time", "stage")}
        assert {key: line[key] for key in numbers} == pytest.approx(numbers, rel=2e-3)
    assert kinds >= {"loss/text", "loss/speech", "loss/task/slu", "loss/task/other"}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_checkpoint_is_whole_and_read_by_one_process(strategy, two_processes, recipe):
    for name in ("lora", "full"):
        (folder,) = RunDir(two_processes / strategy / name).checkpoints()[-1:]
        cfg = several.prepared(recipe, name, 1)
        model = load_model(cfg)
        trainable, _ = attach(cfg, model)
        load_trained(model, folder)
        ended = load_file(two_processes / f"{strategy}-{name}-0.safetensors")
        assert all(torch.equal(model.module.get_parameter(key), ended[key]) for key in trainable)
        moments = load_file(folder / "optimizer.safetensors")
        assert {key.split("/")[1] for key in moments} == {"step", "exp_avg", "exp_avg_sq"}
        for index, key in enumerate(trainable):
            assert moments[f"{index}/exp_avg"].shape == ended[key].shape


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_broken_off_and_taken_up_they_end_at_the_same_weights(strategy, two_processes):
    whole, broken = (load_file(two_processes / f"{strategy}-{kind}-0.safetensors") for kind in ("whole", "broken"))
    assert all(torch.equal(whole[key], broken[key]) for key in whole)
    other = load_file(two_processes / f"{strategy}-broken-1.safetensors")
    assert all(torch.equal(whole[key], other[key]) for key in whole)
    assert [line["step"] for line in log(two_processes / strategy / "broken") if "dev/exact_match" not in line] == [
        line["step"] for line in log(two_processes / strategy / "whole") if "dev/exact_match" not in line
    ]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_main_process_judges_for_all(strategy, two_processes, recipe):
    run = RunDir(two_processes / strategy / "whole")
    scores = [line["dev/exact_match"] for line in log(run.root) if "dev/exact_match" in line]
    assert scores == several.SCORES
    assert [path.name for path in run.checkpoints()] == ["checkpoint-3", "checkpoint-5"]
    best = load_file(run.checkpoint(3) / ADAPTER_FILE)
    ended = load_file(two_processes / f"{strategy}-whole-1.safetensors")
    assert sorted(float(tensor.sum()) for tensor in best.values()) == sorted(float(t.sum()) for t in ended.values())


def test_deepspeed_does_the_same(launched, alone, recipe, examples):
    pytest.importorskip("deepspeed")
    environment = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2", "DS_ACCELERATOR": "cpu"}
    out = launched("zero2", environment)
    whole, broken = (load_file(out / f"zero2-{kind}-0.safetensors") for kind in ("whole", "broken"))
    assert difference(whole, broken) == 0
    compared = []
    for name in several.RUNS:
        first, second = (load_file(out / f"zero2-{name}-{rank}.safetensors") for rank in (0, 1))
        assert difference(first, second) == 0
        mixed = [step for step in plan(recipe, examples, name, 2) if step.stage == 1]
        heard = [any(pool == "speech" for micro in step.micro_batches for pool, _ in micro) for step in mixed]
        hears = any(not key.startswith("llm.") for key in first)
        if all(heard) or not hears:  # what hears is not left out of steps without recordings there
            compared.append(name)
            assert difference(first, alone[name][0]) < 2e-4, name
    assert len(compared) >= 3


# -- the command -----------------------------------------------------------------------------------------------------


def launch(strategy: str, recipe: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """`accelerate launch` with a configuration that comes along, on two processes, with GPUs hidden."""
    command = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch"]
    command += ["--config_file", str(ROOT / "recipes" / "accelerate" / f"{CONFIGURATIONS[strategy]}.yaml")]
    command += ["--num_processes", "2", "--main_process_port", "0"]
    command += ["-m", "lalm", "train", str(recipe), "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    environment |= {"CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False)


def write_recipe(path: Path, corpus: Path, accumulation: int) -> Path:
    train_section = {
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": accumulation,
        "bf16": False,
        "learning_rate": 1e-2,
        "logging_steps": 1,
    }
    values = {
        "data": {"corpus": {"name": "barista", "test_size": 2}, "root": str(corpus), "speech_share": 1.0},
        "backbone": {"name": "smol", "tiny": True, "connector": "mlp"},
        "tuner": {"name": "lora", "r": 4},
        "train": train_section,
        "evaluate": {"max_new_tokens": 8},
    }
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture(scope="module")
def one(corpus, tmp_path_factory) -> RunDir:
    """A run by one process."""
    folder = tmp_path_factory.mktemp("one")
    return train(load_recipe(write_recipe(folder / "recipe.yaml", corpus, 2)), folder / "run", quiet=True)


@pytest.mark.parametrize("strategy", CONFIGURATIONS)
def test_a_launched_run_is_a_run_like_any_other(strategy, one, corpus, tmp_path):
    if strategy == "zero2":
        pytest.importorskip("deepspeed")
    done = launch(strategy, write_recipe(tmp_path / "recipe.yaml", corpus, 1), tmp_path / "run")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("Done: ") == 1
    weights, expected = (load_file(folder / "adapter" / ADAPTER_FILE) for folder in (tmp_path / "run", one.root))
    assert difference(weights, expected) < 1e-4
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert info["num_processes"] == 2
    steps = json.loads(one.info.read_text())["steps"]
    assert info["steps"] == steps
    assert done.stderr.count(f"step {steps}/{steps} ") == 1
    assert len(predict_run(tmp_path / "run").read_text().splitlines()) == 2


def test_what_is_wrong_is_said_once_and_nothing_is_written(corpus, tmp_path):
    recipe = write_recipe(tmp_path / "recipe.yaml", corpus, 1)
    recipe.write_text(recipe.read_text().replace(str(corpus), str(tmp_path / "gone")))
    done = launch("ddp", recipe, tmp_path / "run")
    assert done.returncode != 0
    assert done.stderr.count("does not exist, so the corpus 'barista' cannot be read") == 1
    assert "fault of ours" not in done.stderr
    assert not (tmp_path / "run").exists()


# -- one process, and launches that are of no use ----------------------------------------------------------------------


def test_one_process_begins_nothing(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert type(distributed.team.__wrapped__()) is distributed.Alone
    assert not torch.distributed.is_initialized()
    alone = distributed.Alone()
    assert (alone.part([1, 2, 3]), alone.together([1, 2, 3])) == ([1, 2, 3], [1, 2, 3])
    assert (alone.gather("a"), alone.from_main("a")) == (["a"], "a")


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"ACCELERATE_MIXED_PRECISION": "fp16"}, r"mixed_precision: fp16.*Allowed: no, bf16"),
        ({"ACCELERATE_USE_FSDP": "true"}, r"fsdp_version: 1 .*version 2"),
        ({"ACCELERATE_USE_MEGATRON_LM": "true"}, r"Megatron-LM.*Allowed: MULTI_GPU"),
    ],
)
def test_a_launch_that_lalm_has_no_use_for_is_refused(environment, said, monkeypatch):
    for name in ("ACCELERATE_MIXED_PRECISION", "ACCELERATE_USE_FSDP", "FSDP_VERSION", "ACCELERATE_USE_MEGATRON_LM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=said):
        distributed.Several()


def test_a_command_for_one_process_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(ConfigError, match="lalm align works in one process"):
        align(tmp_path / "recipe.yaml", tmp_path / "out")
