"""Runs on a Ray cluster are those of this machine, and one whose process is killed is taken up by another."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from killer import Killer
from safetensors.torch import load_file

from lalm.errors import UserError
from lalm.rundir import RunDir, read_json
from lalm.study.executors import executor
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


def test_no_cluster_is_begun(study_file, tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if ray._private.services.find_gcs_addresses():
        pytest.skip("a Ray cluster runs on this machine already")
    with pytest.raises(UserError, match=r"no cluster can be reached.*--executor local"):
        run_study(study_file, tmp_path / "study", executor="ray")
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize("whom", ["run", "parent"])
def test_runs_on_ray_are_those_of_this_machine_though_one_is_killed(whom, cluster, study_file, tmp_path):
    """Killed is the process of the run, as when memory runs out, or Ray's own above it, as when a machine is lost."""
    local = run_study(study_file, tmp_path / "local", OFTEN)
    killer = Killer(tmp_path / "ray", whom)
    killer.start()
    there = run_study(study_file, tmp_path / "ray", OFTEN, executor="ray")
    killer.check()
    for run in runs(*load_study(study_file, OFTEN)):
        left, right = (load_file(RunDir(one / "runs" / run.name).adapter / ADAPTER_FILE) for one in (local, there))
        assert left.keys() == right.keys()
        assert all(torch.equal(left[name], right[name]) for name in left), run.name
    cells = [[{**cell, "seconds": 0} for cell in read_json(one / "results.json")["cells"]] for one in (local, there)]
    assert cells[0] == cells[1]


def test_what_keeps_a_task_from_beginning_is_said(cluster, tmp_path, monkeypatch):
    where = executor("ray", 2)
    started = ray.remote(max_retries=0)(lambda: int("no lalm here")).remote()
    ray.wait([started], timeout=60)
    with pytest.raises(UserError, match=r"could not be begun on the cluster .*no lalm here"):
        where.code(started)


def test_an_executor_that_is_none_is_said(study_file, tmp_path):
    with pytest.raises(UserError, match=r"--executor rey: there is no such executor\. Did you mean 'ray'"):
        run_study(study_file, tmp_path / "study", executor="rey")


def test_what_is_wrong_with_a_run_is_said_on_ray_too(cluster, study_file, tmp_path):
    with pytest.raises(UserError, match="diverged"):
        run_study(study_file, tmp_path / "study", ["recipe.train.learning_rate=1e30", "seeds=[0]"], executor="ray")
