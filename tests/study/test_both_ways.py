"""Runs that are judged with the grammar and without it: files, results and the report's table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from lalm import plugins
from lalm.config import to_yaml
from lalm.report.build import build_report
from lalm.rundir import RunDir, write_text
from lalm.study.collect import collect
from lalm.study.plan import load_study, runs
from lalm.study.worker import work


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, study_values: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    """Text alone with two seeds, and its cascade, in this process."""
    folder = tmp_path_factory.mktemp("both")
    plugins.load("corpora", "barista").make_tiny(folder / "corpus", seed=0)
    recipe = study_values["recipe"]
    recipe = {**recipe, "evaluate": {**recipe["evaluate"], "constrained": True}}
    values = {**study_values, "recipe": recipe, "schemes": ["text_only"], "speech_shares": [0]}
    (folder / "study.yaml").write_text(yaml.safe_dump(values))
    study, base = load_study(folder / "study.yaml")
    todo = runs(study, base)
    for run in todo:
        write_text(RunDir(folder / "runs" / run.name).recipe, to_yaml(run.recipe))
        work(folder, run.name, oracle_text=False)
    return folder, collect(folder, study, todo)


def test_a_run_is_judged_both_ways(results):
    folder, found = results
    assert len(found["cells"]) == 2
    for cell in found["cells"]:
        run = RunDir(folder / cell["run"])
        held, free = (json.loads(run.scores(name).read_text()) for name in ("test", "test_free"))
        assert (cell["metrics"], cell["status"]) == (held["metrics"], held["status"])
        assert (cell["free_metrics"], cell["free_status"]) == (free["metrics"], free["status"])
        assert cell["status"] == {"ok": 2, "repaired": 0, "failed": 0}
        assert cell["free_status"]["ok"] == 0, "six tokens are no answer"
        assert run.predictions("test_free").is_file()
    assert "free_metrics" not in found["references"][-1]


def test_the_difference_is_paired_and_drawn(results):
    folder, found = results
    (row,) = found["grammar"]
    cells = found["cells"]
    assert row["runs"] == [cell["run"] for cell in cells]
    values = [
        sum(cell[key]["command_acceptance"]["value"] for cell in cells) / 2 for key in ("metrics", "free_metrics")
    ]
    assert [row["value"], row["free_value"]] == pytest.approx(values)
    assert row["difference"] == pytest.approx(values[0] - values[1])
    assert row["free_low"] <= row["free_value"] <= row["free_high"]
    assert row["low"] <= row["difference"] <= row["high"]
    assert row["status"] == {"ok": 4}
    assert sum(row["free_status"].values()) == 4
    page = build_report([folder]).read_text(encoding="utf-8")
    assert "Answers with and without the grammar" in page
    assert "0 / 0 of 4" in page
    assert "Answers with and without the grammar" in build_report([folder], fmt="markdown").read_text()


def test_free_answers_are_compared_too_and_what_they_decide_otherwise_is_remarked(results):
    folder, found = results
    runs = [cell["run"] for cell in found["cells"]]
    pair = {
        "a": "curriculum 0 %",
        "b": "text_only 0 %",
        "a_runs": runs[:1],
        "b_runs": runs[1:],
        "metric": "command_acceptance",
    }
    pair |= {"difference": 0.02, "low": -0.01, "high": 0.05, "verdict": "undecided", "speech_share": 0.0}
    free = {**pair, "difference": 0.12, "low": 0.05, "high": 0.2, "verdict": "better"}
    other = folder / "otherwise"
    other.mkdir()
    (other / "results.json").write_text(json.dumps({**found, "comparisons": [pair], "free_comparisons": [free]}))
    page = build_report([other]).read_text(encoding="utf-8")
    assert "1 paired comparisons of free answers" in page
    assert (
        "Decided otherwise by free answers, without the grammar: curriculum 0 % is better than text only 0 % (+12.0)."
        in page
    )
    assert "Paired comparisons of free answers" in build_report([other], fmt="markdown").read_text()


def test_results_hold_the_comparisons_of_free_answers(study_values, tmp_path):
    """Against the predictions that the runs left, averaged by hand."""
    plugins.load("corpora", "barista").make_tiny(tmp_path / "corpus", seed=0)
    recipe = study_values["recipe"]
    recipe = {**recipe, "evaluate": {**recipe["evaluate"], "constrained": True}}
    values = {
        **study_values,
        "recipe": recipe,
        "schemes": ["text_only", "speech_only"],
        "speech_shares": [0, 1],
        "seeds": [0],
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(values))
    study, base = load_study(tmp_path / "study.yaml")
    todo = [run for run in runs(study, base) if run.role == "cell"]
    for run in todo:
        write_text(RunDir(tmp_path / "runs" / run.name).recipe, to_yaml(run.recipe))
        work(tmp_path, run.name, oracle_text=False)
    found = collect(tmp_path, study, todo)
    (held,), (free,) = found["comparisons"], found["free_comparisons"]
    assert (held["a"], held["b"]) == (free["a"], free["b"])
    by_run = {cell["run"]: cell["free_metrics"]["command_acceptance"]["value"] for cell in found["cells"]}
    assert free["difference"] == pytest.approx(by_run[free["a_runs"][0]] - by_run[free["b_runs"][0]])


def test_a_study_of_free_answers_says_nothing_of_it(results):
    folder, found = results
    for cell in found["cells"]:
        del cell["free_metrics"], cell["free_status"]
    del found["grammar"], found["free_comparisons"]
    other = folder / "free"
    other.mkdir()
    (other / "results.json").write_text(json.dumps(found))
    assert "without the grammar" not in build_report([other]).read_text(encoding="utf-8")
