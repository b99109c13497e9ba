"""A whole study on the tiny model: shared stages, a kill in its middle, failing runs, folders that are not its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
import torch
import yaml
from killer import Killer
from safetensors.torch import load_file

from lalm.config import load_recipe
from lalm.errors import ConfigError, DataError, UserError
from lalm.rundir import RunDir, read_json, write_json
from lalm.study.executors import RETRIES
from lalm.study.plan import load_study, runs
from lalm.study.run import _run_all, run_study
from lalm.study.single import train
from lalm.train.checkpoint import ADAPTER_FILE

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc, as Linux has it")


@pytest.fixture(scope="module")
def finished(study_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the study, run without a disturbance."""
    out = tmp_path_factory.mktemp("out") / "study"
    assert run_study(study_file, out) == out
    return out


def names(study_file: Path) -> list[str]:
    return [run.name for run in runs(*load_study(study_file))]


def weights(out: Path, name: str) -> dict[str, torch.Tensor]:
    return load_file(RunDir(out / "runs" / name).adapter / ADAPTER_FILE)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_every_run_is_in_the_results(finished, study_file):
    results = read_json(finished / "results.json")
    cells = {Path(cell["run"]).name: cell for cell in results["cells"]}
    assert sorted(cells) == sorted(names(study_file))
    for name, cell in cells.items():
        folder = RunDir(finished / "runs" / name)
        assert cell["metrics"] == read_json(folder.scores("test"))["metrics"]
        assert set(cell["metrics"]) == {"command_acceptance", "intent_accuracy"}
        assert cell["num_speech"] == {0.25: 1, 1.0: 4}[cell["speech_share"]]
        rows = folder.predictions("test").read_text().splitlines()
        assert len(rows) == results["test"]["num"] == 2
        assert all(Path(json.loads(row)["audio"]).is_file() for row in rows)
    assert results["references"] == [
        {"name": "oracle_text", "metrics": None, "reason": "not all test recordings have a transcript"}
    ]


def test_the_text_stage_of_a_seed_is_trained_once(finished, study_file):
    shared: dict[int, list[int]] = {}
    for run in runs(*load_study(study_file)):
        info = read_json(RunDir(finished / "runs" / run.name).info)
        if run.scheme == "curriculum":
            shared.setdefault(run.seed, []).append(info["shared_steps"])
            assert info["steps"] == 4 + 3, "two epochs of eight sentences, one with a recording or four, by fours"
        else:
            assert info["shared_steps"] == 0
    assert {seed: sorted(steps) for seed, steps in shared.items()} == {0: [0, 4], 1: [0, 4]}
    assert len(list((finished / "stages").glob("*.safetensors"))) == 2


@pytest.mark.parametrize("name", ["curriculum-25-s0", "curriculum-100-s0", "direct_mixing-100-s1"])
def test_weights_are_those_of_a_run_that_shared_nothing(name, finished, tmp_path):
    recipe = load_recipe(RunDir(finished / "runs" / name).recipe)
    alone = train(recipe, tmp_path / name, quiet=True)
    assert same(load_file(alone.adapter / ADAPTER_FILE), weights(finished, name))


def test_seeds_shares_and_schemes_differ(finished, study_file):
    made = [weights(finished, name) for name in names(study_file)]
    assert not any(same(a, b) for i, a in enumerate(made) for b in made[i + 1 :])


def test_a_finished_study_is_gathered_again_and_nothing_is_trained(finished, study_file, capfd):
    before = {path: path.stat().st_mtime_ns for path in (finished / "runs").rglob("*")}
    results = read_json(finished / "results.json")
    run_study(study_file, finished)
    assert {path: path.stat().st_mtime_ns for path in (finished / "runs").rglob("*")} == before
    assert read_json(finished / "results.json")["cells"] == results["cells"]
    assert "8 of 8 runs are there already" in capfd.readouterr().err


def test_the_process_that_leads_a_study_imports_no_torch():
    code = (
        "import sys, lalm.study.run; sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'peft')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# -- stopped ---------------------------------------------------------------------------------------------------------


def processes(mark: str) -> set[int]:
    """Running processes that inherited a mark in their environment."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (
                mark.encode() in (folder / "environ").read_bytes()
                and b"State:\tZ" not in (folder / "status").read_bytes()
            ):
                found.add(int(folder.name))
        except OSError:
            continue
    return found


def test_killed_in_the_middle_it_leaves_no_process_and_goes_on_to_the_same_weights(finished, study_file, tmp_path):
    out, mark = tmp_path / "study", f"mark-{uuid.uuid4()}"
    command = [sys.executable, "-m", "lalm", "study", str(study_file), "--out", str(out)]
    environment = {**os.environ, "LALM_TEST_MARK": mark, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and len(list(out.glob("runs/*/scores/test.json"))) < 2:
        time.sleep(0.002)
    assert len(processes(mark)) >= 3, "the leader, the process it forks from, a worker"
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.stderr.close()
    deadline = time.monotonic() + 60
    while processes(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not processes(mark), "a worker works on without its study"
    done = [path.parts[-3] for path in out.glob("runs/*/scores/test.json")]
    assert 2 <= len(done) < 8
    assert not (out / "results.json").exists()
    stamps = {name: RunDir(out / "runs" / name).info.stat().st_mtime_ns for name in done}
    run_study(study_file, out)
    assert {name: RunDir(out / "runs" / name).info.stat().st_mtime_ns for name in done} == stamps
    for name in names(study_file):
        assert same(weights(out, name), weights(finished, name)), name
    cells = [[{**cell, "seconds": 0} for cell in read_json(one / "results.json")["cells"]] for one in (out, finished)]
    assert cells[0] == cells[1]


OFTEN = ["recipe.train.save_steps=1", "recipe.train.save_total_limit=50"]


def test_a_run_whose_process_is_killed_goes_on_by_itself(finished, study_file, tmp_path, capfd):
    killer = Killer(tmp_path / "study")
    killer.start()
    out = run_study(study_file, tmp_path / "study", OFTEN)
    killer.check()
    assert f"{killer.name_of_run}: killed by signal 9" in capfd.readouterr().err
    assert all(same(weights(out, name), weights(finished, name)) for name in names(study_file))


def test_a_run_that_is_killed_again_and_again_is_given_up(study_file, tmp_path):
    class Killing:
        """Starts nothing, and says that it was killed."""

        workers = 1

        def __init__(self) -> None:
            self.started: list[str] = []

        def start(self, out, name, oracle_text):
            self.started.append(name)

        def code(self, run):
            return -9

        def stop(self, started):
            pass

    where = Killing()
    study, base = load_study(study_file, ["seeds=[0]"])
    todo = runs(study, base)[:1]
    (failed,) = _run_all(tmp_path, todo, study, where)
    assert failed == (todo[0].name, "killed by signal 9 (the system does so when memory runs out)")
    assert where.started == [todo[0].name] * (1 + RETRIES)


def test_runs_with_different_test_sets_are_refused_before_any_training(study_file, tmp_path):
    file = study_file.parent / "variants.yaml"
    values = yaml.safe_load(study_file.read_text())
    file.write_text(yaml.safe_dump({**values, "variants": {"a": {"data": {}}, "b": {"data": {"num_test": 1}}}}))
    with pytest.raises(ConfigError, match=r"have different test sets \(2 and 1 rows, 1 of them the same\)"):
        run_study(file, tmp_path / "study")
    assert not (tmp_path / "study").exists()


def copy_of(finished: Path, out: Path) -> Path:
    shutil.copytree(finished, out)
    (out / "results.json").unlink()
    return out


def test_a_run_that_was_trained_and_not_judged_is_judged_alone(finished, study_file, tmp_path):
    out = copy_of(finished, tmp_path / "study")
    folder = RunDir(out / "runs" / "direct_mixing-25-s0")
    folder.scores("test").unlink()
    folder.predictions("test").unlink()
    trained = folder.info.stat().st_mtime_ns
    run_study(study_file, out)
    assert folder.info.stat().st_mtime_ns == trained
    before = RunDir(finished / "runs" / folder.root.name)
    assert read_json(folder.scores("test")) == read_json(before.scores("test"))


def test_a_plan_without_its_recipes_is_completed(finished, study_file, tmp_path):
    out = tmp_path / "study"
    out.mkdir()
    shutil.copy(finished / "plan.json", out)  # killed while the folder was being made
    for name in names(study_file):
        if name != "direct_mixing-25-s1":
            shutil.copytree(finished / "runs" / name, out / "runs" / name)
    run_study(study_file, out)
    assert same(weights(out, "direct_mixing-25-s1"), weights(finished, "direct_mixing-25-s1"))


def test_runs_of_a_release_that_heard_otherwise_are_not_taken_up(finished, study_file, tmp_path):
    out = copy_of(finished, tmp_path / "study")
    entries = read_json(out / "plan.json")
    assert entries["connector_weights"].keys() == {"ctc-smol.safetensors", "lexicon-en.json.gz"}
    entries["connector_weights"]["ctc-smol.safetensors"] = "0" * 12
    write_json(out / "plan.json", entries)
    with pytest.raises(UserError, match=r"connectors heard otherwise.*--out"):
        run_study(study_file, out)


def test_a_study_of_a_release_with_fewer_options_is_the_same_study(finished, study_file, tmp_path):
    out = copy_of(finished, tmp_path / "study")
    entries = read_json(out / "plan.json")
    for run in entries["runs"]:
        assert "load_in_4bit: false" in run["recipe"]
        run["recipe"] = run["recipe"].replace("  load_in_4bit: false\n", "")
    write_json(out / "plan.json", entries)
    before = read_json(finished / "results.json")["cells"]
    run_study(study_file, out)
    assert read_json(out / "results.json")["cells"] == before
    entries["runs"][0]["recipe"] = entries["runs"][0]["recipe"].replace("seed: 0", "seed: 7")
    write_json(out / "plan.json", entries)
    with pytest.raises(UserError, match=r"holds another study \(1 runs differ"):
        run_study(study_file, out)


def test_processes_of_a_launch_do_not_each_run_the_study(study_file, tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="lalm study works in one process"):
        run_study(study_file, tmp_path / "study")
    assert not (tmp_path / "study").exists()


# -- failing ---------------------------------------------------------------------------------------------------------


def test_failing_runs_are_reported_the_others_are_kept_and_a_new_call_goes_on(finished, study_file, tmp_path):
    out = copy_of(finished, tmp_path / "study")
    mistake, fault, fine = (
        out / "runs" / name for name in ("direct_mixing-25-s0", "curriculum-25-s1", "curriculum-25-s0")
    )
    for run in (mistake, fault, fine):
        shutil.rmtree(run / "scores")
    (mistake / "scores").write_text("not a folder")  # where scores should go: the user can mend that
    os.replace(fault / "adapter", fault / "elsewhere")
    (fault / "run.json").unlink()
    (fault / "adapter").symlink_to(fault / "nowhere")
    with pytest.raises(UserError) as caught:
        run_study(study_file, out)
    said = str(caught.value)
    assert "of 8 runs failed; the others are kept and a new call goes on" in said
    assert f"direct_mixing-25-s0: {mistake / 'scores' / 'test.json'}: cannot be written" in said
    assert "Traceback" not in said
    assert (fine / "scores" / "test.json").is_file()
    assert not (out / "results.json").exists()
    (mistake / "scores").unlink()
    (fault / "adapter").unlink(missing_ok=True)
    run_study(study_file, out)
    assert (out / "results.json").is_file()
    assert same(weights(out, fault.name), weights(finished, fault.name))


def test_a_damaged_shared_stage_is_made_anew(finished, study_file, tmp_path):
    out = copy_of(finished, tmp_path / "study")
    stages = list((out / "stages").iterdir())
    for stage in stages:
        stage.write_bytes(stage.read_bytes()[:40])
    shutil.rmtree(out / "runs" / "curriculum-100-s0")
    run_study(study_file, out)
    assert same(weights(out, "curriculum-100-s0"), weights(finished, "curriculum-100-s0"))
    assert read_json(RunDir(out / "runs" / "curriculum-100-s0").info)["shared_steps"] == 0


def test_a_study_is_judged_again_with_the_weights_that_are_there(finished, study_file, tmp_path):
    out = copy_of(finished, tmp_path / "study")
    change = ["recipe.evaluate.metrics=[command_acceptance, exact_match]", "recipe.evaluate.max_new_tokens=3"]
    with pytest.raises(UserError, match=r"differ in `evaluate` alone: --judge-again"):
        run_study(study_file, out, change)
    with pytest.raises(UserError, match=r"holds another study \(\d+ runs differ, first [\w-]+\)\. Choose another"):
        run_study(study_file, out, [*change, "recipe.train.learning_rate=0.5"], judge_again=True)
    shutil.rmtree(out / "stages")  # what would be needed to train is gone
    run_study(study_file, out, change, judge_again=True)
    for cell in read_json(out / "results.json")["cells"]:
        name = Path(cell["run"]).name
        assert set(cell["metrics"]) == {"command_acceptance", "exact_match"}
        assert same(weights(out, name), weights(finished, name))
        assert (out / "runs" / name / "run.json").read_bytes() == (finished / "runs" / name / "run.json").read_bytes()
        now, before = (
            [
                json.loads(line)["raw"]
                for line in RunDir(at / "runs" / name).predictions("test").read_text().splitlines()
            ]
            for at in (out, finished)
        )
        assert now != before
        assert all(len(one) <= len(other) for one, other in zip(now, before, strict=True))
    run_study(study_file, out, change)  # the folder is the new study's now


# -- refused ---------------------------------------------------------------------------------------------------------


def test_another_studys_folder_and_a_folder_that_holds_none_are_refused(finished, study_file, tmp_path):
    before = sorted(finished.rglob("*"))
    for change in ("recipe.train.learning_rate=0.5", "seeds=[0,1,2]", "speech_shares=[0.25]"):
        with pytest.raises(UserError, match=r"holds another study \(\d+ runs differ.*--out"):
            run_study(study_file, finished, [change])
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("cat")
    with pytest.raises(UserError, match="holds no study"):
        run_study(study_file, tmp_path / "photos")
    assert sorted(finished.rglob("*")) == before
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["cat.jpg"]


def test_a_study_in_use_is_refused(finished, study_file):
    from lalm.study.processes import in_use

    with in_use(finished), pytest.raises(UserError, match="in use by another lalm process"):
        run_study(study_file, finished)


def test_problems_of_the_data_are_found_before_anything_is_made(study_file, tmp_path):
    for change, said in (
        ("recipe.data.root=/nowhere", "does not exist"),
        ("speech_shares=[0.01]", "less than half a recording"),
        ("recipe.data.corpus.test_size=6", "leave no pool"),
    ):
        with pytest.raises(DataError, match=said):
            run_study(study_file, tmp_path / "out", [change])
        assert not (tmp_path / "out").exists()
