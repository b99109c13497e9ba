"""Runs on a Ray cluster are those of this machine, and one whose process is killed is taken up by another."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lalm.errors import UserError
from lalm.rundir import RunDir, read_json
from lalm.study.plan import load_study, runs
from lalm.study.run import run_study
from lalm.train.checkpoint import ADAPTER_FILE

ray = pytest.importorskip("ray", reason="ray is not installed (pip install 'lalm[ray]')")
OFTEN = ["recipe.train.save_steps=1", "recipe.train.save_total_limit=50", "seeds=[0]"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Two workers on this machine."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


def tasks() -> list[int]:
    """Ray's processes that are at a run."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"ray::_in_a_child" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(one) for one in path.read_text().split()] if path.exists() else []


class Killer(threading.Thread):
    """Kills the Ray process of the first run that has a checkpoint and is not finished."""

    def __init__(self, out: Path) -> None:
        super().__init__(daemon=True)
        self.out, self.killed, self.name_of_run, self.at = out, None, "", 0.0
        self.over = threading.Event()

    def run_of(self, pid: int) -> str:
        """The run that a Ray process is at: its child has the log open."""
        for child in children(pid):
            target = os.readlink(f"/proc/{child}/fd/1")
            if target.endswith("worker.log"):
                return Path(target).parent.name
        return ""

    def run(self) -> None:
        while not self.over.is_set():
            for pid in tasks():
                try:
                    name = self.run_of(pid)
                except OSError:
                    continue
                folder = self.out / "runs" / name
                if name and list(folder.glob("checkpoint-*/state.json")) and not (folder / "run.json").exists():
                    self.at = time.time()
                    os.kill(pid, signal.SIGKILL)
                    self.killed, self.name_of_run = pid, name
                    return
            time.sleep(0.001)


def test_no_cluster_is_begun(study_file, tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if ray._private.services.find_gcs_addresses():
        pytest.skip("a Ray cluster runs on this machine already")
    with pytest.raises(UserError, match=r"no cluster can be reached.*--executor local"):
        run_study(study_file, tmp_path / "study", executor="ray")
    assert not (tmp_path / "study").exists()


def test_runs_on_ray_are_those_of_this_machine_though_one_is_killed(cluster, study_file, tmp_path):
    local = run_study(study_file, tmp_path / "local", OFTEN)
    killer = Killer(tmp_path / "ray")
    killer.start()
    there = run_study(study_file, tmp_path / "ray", OFTEN, executor="ray")
    killer.over.set()
    killer.join()
    for run in runs(*load_study(study_file, OFTEN)):
        left, right = (load_file(RunDir(one / "runs" / run.name).adapter / ADAPTER_FILE) for one in (local, there))
        assert left.keys() == right.keys()
        assert all(torch.equal(left[name], right[name]) for name in left), run.name
    cells = [[{**cell, "seconds": 0} for cell in read_json(one / "results.json")["cells"]] for one in (local, there)]
    assert cells[0] == cells[1]
    assert killer.killed is not None, "no run was caught in its middle"
    kept = min(
        (there / "runs" / killer.name_of_run).glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1])
    )
    assert kept.stat().st_mtime < killer.at, "it did not go on from its checkpoint"


def test_an_executor_that_is_none_is_said(study_file, tmp_path):
    with pytest.raises(UserError, match=r"--executor rey: there is no such executor\. Did you mean 'ray'"):
        run_study(study_file, tmp_path / "study", executor="rey")


def test_what_is_wrong_with_a_run_is_said_on_ray_too(cluster, study_file, tmp_path):
    with pytest.raises(UserError, match="diverged"):
        run_study(study_file, tmp_path / "study", ["recipe.train.learning_rate=1e30", "seeds=[0]"], executor="ray")
