"""`lalm train`, killed without warning at any point and taken up again, ends at the same weights to the last bit."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
import torch
import yaml
from safetensors.torch import load_file

from lalm.rundir import RunDir
from lalm.train.checkpoint import ADAPTER_FILE, TRAINED_FILE

# Imports once what training needs; every line it reads is a command line of lalm, run in a process forked for it.
NURSERY = """
import json, os, sys
from lalm.cli import main
import lalm.study.single, lalm.train.checkpoint, lalm.tuners.full, lalm.tuners.lora, lalm.backbones.smol, peft
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        os._exit(main(json.loads(line)))
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
EVERYTHING = {"optimizer.safetensors", "random.safetensors", "recipe.yaml", "labels.json", "state.json", "tokenizer"}


class Nursery:
    def __init__(self) -> None:
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", NURSERY]
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=ENVIRONMENT)
        os.set_blocking(self.process.stderr.fileno(), False)

    def start(self, *arguments: object) -> int:
        self.process.stdin.write(json.dumps([str(argument) for argument in arguments]) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def end(self) -> int:
        return int(self.process.stdout.readline())

    def run(self, *arguments: object) -> tuple[int, str]:
        self.start(*arguments)
        code = self.end()
        return code, self.process.stderr.read() or ""

    def kill_when(self, ready: Callable[[], bool], *arguments: object) -> bool:
        """Start a command and kill it as soon as `ready`; False if it had ended before."""
        pid = self.start(*arguments)
        while not ready():
            if os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                raise AssertionError("the nursery died")
            if not Path(f"/proc/{pid}").exists():
                break
            time.sleep(0.0005)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return self.end() == -signal.SIGKILL


pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs fork and /proc, as Linux has them")


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    made.process.stdin.close()
    made.process.wait()


def write_recipe(path: Path, corpus: Path, tuner: object) -> Path:
    train = {
        "per_device_train_batch_size": 4,
        "save_steps": 1,
        "logging_steps": 1,
        "bf16": False,
        "learning_rate": 1e-2,
    }
    values = {
        "data": {"corpus": {"name": "barista", "test_size": 2}, "root": str(corpus), "speech_share": 1.0},
        "backbone": {"name": "smol", "tiny": True, "connector": "mlp"},
        "tuner": tuner,
        "scheme": {"name": "curriculum", "num_text_epochs": 3},  # six steps of text, five mixed
        "train": train,
    }
    path.write_text(yaml.safe_dump(values))
    return path


TUNERS = {"lora": {"name": "lora", "r": 4, "lora_dropout": 0.2}, "full": "full"}
FILES = {"lora": ADAPTER_FILE, "full": TRAINED_FILE}


@pytest.fixture(scope="module", params=TUNERS)
def whole(request, nursery, corpus, tmp_path_factory) -> tuple[str, Path, dict[str, torch.Tensor]]:
    """Tuner, recipe and weights of a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp(request.param)
    recipe = write_recipe(folder / "recipe.yaml", corpus, TUNERS[request.param])
    code, said = nursery.run("train", recipe, "--out", folder / "run")
    assert code == 0, said
    return request.param, recipe, load_file(folder / "run" / "adapter" / FILES[request.param])


def same_as(whole, folder: Path) -> bool:
    weights = load_file(folder / "adapter" / FILES[whole[0]])
    return weights.keys() == whole[2].keys() and all(torch.equal(weights[name], whole[2][name]) for name in weights)


def check_that_all_is_whole(folder: Path) -> None:
    for path in RunDir(folder).checkpoints():
        assert {file.name for file in path.iterdir()} >= EVERYTHING, path
        assert json.loads((path / "state.json").read_text())["step"] == int(path.name[11:])


def finish(nursery, whole, folder: Path) -> None:
    check_that_all_is_whole(folder)
    code, said = nursery.run("train", whole[1], "--out", folder, "--resume")
    assert code == 0, said
    assert same_as(whole, folder)
    assert not list(folder.glob(".checkpoint*")), "what the kill left is cleared away"
    steps = [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 12)), "every step is logged once"


def there(folder: Path, pattern: str) -> Callable[[], bool]:
    return (folder / pattern).exists


MOMENTS = {
    "recipe.yaml": "before the first step",
    ".checkpoint-2.part": "when a checkpoint begins to be written",
    ".checkpoint-3.part/optimizer.safetensors": "in the middle of it",
    ".checkpoint-5.part/state.json": "at its end",
    "checkpoint-6": "at the end of the text stage",
    ".checkpoint-4.old": "while an old one is being deleted",
    "checkpoint-11": "after the last step",
    ".adapter.part": "while the result is being written",
}
FOR_BOTH_TUNERS = (".checkpoint-5.part/state.json", "checkpoint-6", "checkpoint-11")


@pytest.mark.parametrize("pattern", MOMENTS)
def test_killed_when_a_certain_file_appears(pattern, nursery, whole, tmp_path):
    if whole[0] != "lora" and pattern not in FOR_BOTH_TUNERS:
        pytest.skip("does not depend on the tuner")
    for attempt in range(5):  # some of them are there for a millisecond
        folder = tmp_path / f"run-{attempt}"
        if nursery.kill_when(there(folder, pattern), "train", whole[1], "--out", folder):
            break
    else:
        pytest.fail(f"{pattern} was never seen")
    finish(nursery, whole, folder)


def test_killed_again_and_again_at_random(nursery, whole, tmp_path):
    folder, rng, kills = tmp_path / "run", Random(whole[0]), 0
    while True:
        kept = RunDir(folder).checkpoints()
        step = (int(kept[-1].name[11:]) if kept else 0) + rng.randint(1, 3)
        if step > 10:
            break
        moment = None

        def ready(step=step) -> bool:
            """A few milliseconds after a step was logged."""
            nonlocal moment
            log = folder / "log.jsonl"
            if moment is None and log.is_file() and f'"step": {step},' in log.read_text():
                moment = time.monotonic() + 0.03 * rng.random()
            return moment is not None and time.monotonic() > moment

        options = ["--resume"] if folder.exists() else []
        if not nursery.kill_when(ready, "train", whole[1], "--out", folder, *options):
            break
        kills += 1
        check_that_all_is_whole(folder)
    assert kills >= 2
    finish(nursery, whole, folder)


def test_a_changed_recipe_and_an_unasked_second_start_are_refused(nursery, whole, tmp_path):
    folder = tmp_path / "run"
    assert nursery.kill_when(there(folder, "checkpoint-3"), "train", whole[1], "--out", folder)
    kept = sorted(path.relative_to(folder) for path in folder.rglob("*"))
    code, said = nursery.run("train", whole[1], "train.learning_rate=0.1", "--out", folder, "--resume")
    assert code == 2
    assert "another recipe" in said
    assert "Traceback" not in said
    code, said = nursery.run("train", whole[1], "--out", folder)
    assert code == 2
    assert "--resume" in said
    assert sorted(path.relative_to(folder) for path in folder.rglob("*")) == kept, "nothing was touched"
    finish(nursery, whole, folder)


def test_a_finished_run_is_left_alone(nursery, whole, tmp_path):
    folder = whole[1].parent / "run"
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert nursery.run("train", whole[1], "--out", folder, "--resume")[0] == 0
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_folder_in_use_is_refused(nursery, whole, tmp_path):
    from lalm.study.processes import in_use

    with in_use(tmp_path / "run"):
        code, said = nursery.run("train", whole[1], "--out", tmp_path / "run")
    assert code == 2
    assert "in use" in said


def test_a_process_of_its_own_killed_in_mid_training(nursery, whole, tmp_path):
    if whole[0] != "lora":
        pytest.skip("does not depend on the tuner")
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "lalm", "train", str(whole[1]), "--out", str(folder)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=ENVIRONMENT)
    while process.poll() is None and not (folder / "checkpoint-4").exists():
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (folder / "run.json").exists()
    finish(nursery, whole, folder)
