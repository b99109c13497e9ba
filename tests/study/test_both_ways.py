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
    assert row["low"] <= row["difference"] <= row["high"]
    assert row["status"] == {"ok": 4}
    assert sum(row["free_status"].values()) == 4
    page = build_report([folder]).read_text(encoding="utf-8")
    assert "Answers with and without the grammar" in page
    assert "0 / 0 of 4" in page
    assert "Answers with and without the grammar" in build_report([folder], fmt="markdown").read_text()


def test_a_study_of_free_answers_says_nothing_of_it(results):
    folder, found = results
    for cell in found["cells"]:
        del cell["free_metrics"], cell["free_status"]
    del found["grammar"]
    other = folder / "free"
    other.mkdir()
    (other / "results.json").write_text(json.dumps(found))
    assert "without the grammar" not in build_report([other]).read_text(encoding="utf-8")
