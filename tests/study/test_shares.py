"""What a run has of a machine or a cluster: cores, threads, GPUs."""

from __future__ import annotations

from pathlib import Path

import pytest

from lalm.cores import gpus
from lalm.study import executors
from lalm.study.executors import LocalExecutor, Share, share_of_a_run
from lalm.study.plan import load_study, num_workers


@pytest.mark.parametrize(
    ("machines", "threads", "share"),
    [
        ([{"CPU": 2.0}], 1, Share(2, 1, 0)),
        ([{"CPU": 8.0}, {"CPU": 16.0}], 4, Share(6, 4, 0)),
        ([{"CPU": 8.0}] * 2, 16, Share(2, 8, 0)),
        ([{"memory": 1.0}], 4, Share(1, 1, 0)),
        ([{"CPU": 0.0}, *[{"CPU": 8.0, "GPU": 1.0}] * 4], 16, Share(4, 8, 1)),
        ([{"CPU": 64.0, "GPU": 8.0}, {"CPU": 32.0, "GPU": 8.0}], 16, Share(16, 4, 1)),
        ([{"CPU": 2.0, "GPU": 4.0}], 1, Share(4, 1, 1)),
    ],
    ids=[
        "one machine",
        "two sizes",
        "more threads than cores",
        "no cores named",
        "pods",
        "large machines",
        "few cores",
    ],
)
def test_the_share_of_a_run_on_a_cluster(machines, threads, share):
    assert share_of_a_run(machines, threads) == share


@pytest.mark.parametrize(
    ("allowed", "there"), [("0,2", ["0", "2"]), ("", []), ("-1", []), ("GPU-ab, GPU-cd", ["GPU-ab", "GPU-cd"])]
)
def test_gpus_are_those_that_the_process_may_use(allowed, there, monkeypatch, study_file):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", allowed)
    assert gpus() == there
    study, _ = load_study(study_file, ["workers=null"])
    assert num_workers(study, 30) == (len(there) or 2), "without GPUs the cores count, of which this test has two"


class Started:
    """Stands in for a process."""

    def __init__(self, target, args, daemon) -> None:
        self.gpu, self.alive = args[-1], True

    def start(self) -> None:
        """Nothing to do."""

    def is_alive(self) -> bool:
        return self.alive


def test_runs_side_by_side_have_a_gpu_each(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3")
    context = type("Context", (), {"Process": Started, "set_forkserver_preload": lambda *_: None})
    monkeypatch.setattr(executors, "_CONTEXT", context)
    where = LocalExecutor(3, 1)
    first, second = (where.start(Path("out"), name, False) for name in ("a", "b"))
    assert [first.gpu, second.gpu] == ["0", "3"]
    second.alive = False
    assert where.start(Path("out"), "c", False).gpu == "3", "the one that came free"
    assert where.start(Path("out"), "d", False).gpu == "0"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert where.start(Path("out"), "e", False).gpu is None
