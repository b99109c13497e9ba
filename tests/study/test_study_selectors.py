"""Selectors as an axis of a study: which runs, what they share, what is compared with what, and what is said of it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

from lalm.config import load_recipe
from lalm.data.pools import load_pools
from lalm.errors import ConfigError
from lalm.report.terminal import standings_text
from lalm.rundir import RunDir, read_json
from lalm.study.plan import Run, load_study, runs
from lalm.study.run import run_study
from lalm.study.single import train
from lalm.train.checkpoint import ADAPTER_FILE

GRID: dict[str, Any] = {
    "schemes": [{"name": "curriculum", "speech_passes": 1}],
    "speech_shares": [0.5],
    "selectors": ["random", "coverage"],
}


@pytest.fixture
def write(study_file: Path, study_values: dict[str, Any], tmp_path: Path):
    """The tiny study with other keys; its file."""

    def made(**changes: Any) -> Path:
        values = {**copy.deepcopy(study_values), **GRID, **changes}
        values["recipe"]["data"]["root"] = str(study_file.parent / "corpus")
        (tmp_path / "study.yaml").write_text(yaml.safe_dump(values))
        return tmp_path / "study.yaml"

    return made


@pytest.fixture
def planned(write):
    def made(**changes: Any) -> list[Run]:
        return runs(*load_study(write(**changes)))

    return made


def test_the_grid_has_a_run_a_selector_where_there_is_something_to_choose(planned):
    made = planned(schemes=["text_only", "curriculum"], speech_shares=[0, 0.5, 1.0], seeds=[0])
    assert {run.name: run.selector for run in made} == {
        "text_only-0-s0": None,
        "curriculum-random-50-s0": "random",
        "curriculum-coverage-50-s0": "coverage",
        "curriculum-100-s0": None,
    }
    for run in made:
        chosen = run.recipe.data.selector
        assert (chosen.name if chosen else None) == run.selector
    assert [run.name for run in planned(selectors=[], seeds=[0])] == ["curriculum-50-s0"]


def test_selectors_share_what_comes_before_the_recordings(planned):
    made = planned()
    assert {len({run.prefix for run in made if run.seed == seed}) for seed in (0, 1)} == {1}
    assert None not in {run.prefix for run in made}


def test_one_selector_may_be_asked_for_with_several_options(planned):
    made = planned(selectors=[{"name": "coverage", "ngram": 0}, "coverage", "random"], seeds=[0])
    assert sorted(run.selector for run in made) == ["coverage-ngram_0.0", "coverage-ngram_0.2", "random"]


def test_a_selector_of_the_recipe_is_that_of_its_cells(planned, study_values):
    recipe = copy.deepcopy(study_values["recipe"])
    recipe["data"]["selector"] = "coverage"
    (run,) = planned(recipe=recipe, selectors=[], seeds=[0])
    assert (run.name, run.selector) == ("curriculum-50-s0", "coverage")
    with pytest.raises(ConfigError, match=r"selectors: the recipe has a data\.selector, too"):
        planned(recipe=recipe)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"selectors": ["randum"]}, r"'randum'.*Did you mean 'random'"),
        ({"selectors": [{"name": "coverage", "words": 1}]}, r"selectors\.coverage\.words.*Did you mean 'word'"),
        ({"selectors": ["random", "random"]}, r"the same run twice"),
        ({"speech_shares": [0, 1]}, r"selectors choose among recordings at shares between 0 and 1"),
        ({"selector": ["random"]}, r"selector.*Did you mean 'selectors'"),
    ],
)
def test_what_cannot_be_right_is_refused(changes, said, planned):
    with pytest.raises(ConfigError, match=rf"(?s){said}"):
        planned(**changes)


@pytest.fixture
def finished(write, tmp_path) -> Path:
    """A study of two selectors, two seeds."""
    return run_study(write(), tmp_path / "out")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc, as Linux has it")
def test_a_study_of_selectors_ends_with_which_of_them_beat_random(finished, tmp_path):
    results = read_json(finished / "results.json")
    assert [(cell["selector"], cell["seed"]) for cell in results["cells"]] == [
        ("random", 0), ("random", 1), ("coverage", 0), ("coverage", 1)
    ]  # fmt: skip
    assert set(results["selectors"]) == {"random", "coverage"}
    assert [curve["label"] for curve in results["curves"]] == [
        "curriculum (selector random)",
        "curriculum (selector coverage)",
    ]
    (compared,) = results["comparisons"]
    assert compared["a"] == "curriculum (selector coverage) 50 %"
    assert compared["b"] == "curriculum (selector random) 50 %"
    assert compared["a_runs"] == ["runs/curriculum-coverage-50-s0", "runs/curriculum-coverage-50-s1"]
    chosen = {}
    for cell in results["cells"]:
        run = RunDir(finished / cell["run"])
        recipe = load_recipe(run.recipe)
        chosen[run.root.name] = [row.id for row in load_pools(recipe.data).speech]
        assert len(chosen[run.root.name]) == cell["num_speech"] == 2
    shared = {}
    for name in chosen:
        info = read_json(finished / "runs" / name / "run.json")
        shared.setdefault(name[-2:], []).append(info["shared_steps"])
    assert {seed: sorted(steps) for seed, steps in shared.items()} == {"s0": [0, 4], "s1": [0, 4]}
    assert len(list((finished / "stages").glob("*.safetensors"))) == 2
    name = "curriculum-coverage-50-s0"
    alone = train(load_recipe(RunDir(finished / "runs" / name).recipe), tmp_path / "alone", quiet=True)
    weights = load_file(RunDir(finished / "runs" / name).adapter / ADAPTER_FILE)
    assert all(value.equal(weights[key]) for key, value in load_file(alone.adapter / ADAPTER_FILE).items())
    said = standings_text(finished)
    assert "No selector beats a random draw of as many recordings" in said
    assert "At 2 recordings (50 %), command acceptance: coverage not told apart from random" in said
