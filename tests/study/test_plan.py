"""A study as data: its runs, what they share, and what is refused before anything is trained."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from lalm import plugins
from lalm.errors import ConfigError
from lalm.study.plan import Run, load_study, num_workers, runs


@pytest.fixture
def planned(study_file: Path, study_values: dict[str, Any], tmp_path: Path):
    """Runs of the tiny study with some of its keys changed."""

    def make(**changes: Any) -> list[Run]:
        values = copy.deepcopy(study_values)
        for key, value in changes.items():
            section, _, name = key.partition("__")
            if name:
                values["recipe"].setdefault(section, {})[name] = value
            else:
                values[section] = value
        values["recipe"]["data"]["root"] = str(study_file.parent / "corpus")
        (tmp_path / "study.yaml").write_text(yaml.safe_dump(values))
        return runs(*load_study(tmp_path / "study.yaml"))

    return make


def test_the_grid_is_schemes_by_shares_by_seeds(planned):
    made = planned()
    names = {
        f"{scheme}-{share}-s{seed}"
        for scheme in ("direct_mixing", "curriculum")
        for share in (25, 100)
        for seed in (0, 1)
    }
    assert {run.name for run in made} == names
    assert len(made) == 8
    for run in made:
        assert run.recipe.data.speech_share == run.share
        assert run.recipe.data.budget_seed == run.recipe.train.seed == run.seed
        assert run.recipe.scheme.name == run.scheme
        assert run.recipe.data.root.is_absolute()
    assert {run.recipe.scheme.options["speech_passes"] for run in made if run.scheme == "curriculum"} == {1.0}


def test_runs_that_can_share_a_first_stage_say_so_and_come_first(planned):
    made = planned()
    assert [run.scheme for run in made[:4]] == ["curriculum"] * 4
    prefixes = {(run.scheme, run.seed): run.prefix for run in made}
    assert prefixes["curriculum", 0] != prefixes["curriculum", 1]
    assert all((prefix is None) == (scheme == "direct_mixing") for (scheme, _), prefix in prefixes.items())


def test_text_only_runs_once_a_seed_and_only_at_is_obeyed(planned):
    made = planned(
        schemes=["text_only", "curriculum", "speech_only"],
        speech_shares=[0, 0.02, 1],
        only_at={"speech_only": [1]},
    )
    shares = {
        scheme: sorted({run.share for run in made if run.scheme == scheme})
        for scheme in ("text_only", "curriculum", "speech_only")
    }
    assert shares == {"text_only": [0], "curriculum": [0.02, 1], "speech_only": [1]}
    assert "curriculum-2-s0" in {run.name for run in made}


def test_the_cascade_is_tuned_at_every_share_with_the_same_scheme(planned):
    cascade = {"scheme": "curriculum"}
    made = [run for run in planned(cascade=cascade, speech_shares=[0, 0.5]) if run.role == "cascade"]
    assert {(run.share, run.recipe.scheme.name, run.seed) for run in made} == {
        (0, "text_only", 0),
        (0, "text_only", 1),
        (0.5, "curriculum", 0),
        (0.5, "curriculum", 1),
    }
    for run in made:
        assert run.name.startswith("cascade-")
        assert run.recipe.backbone.options["connector"]["name"] == "cascade"
        assert run.recipe.scheme.options.get("speech_passes", 1) == 1


def test_one_scheme_may_be_asked_for_with_several_options(planned):
    schemes = [{"name": "curriculum", "speech_passes": 1}, "curriculum"]
    names = [run.name for run in planned(schemes=schemes, seeds=[0], speech_shares=[1])]
    assert sorted(names) == ["curriculum-speech_passes_1.0-100-s0", "curriculum-speech_passes_3.0-100-s0"]


def test_a_scheme_of_ones_own_can_be_studied(planned, study_values, tmp_path, monkeypatch):
    monkeypatch.setattr(plugins, "_user_roots", [])
    folder = tmp_path / "mine" / "schemes"
    folder.mkdir(parents=True)
    (folder / "once_only.py").write_text(
        '"""One epoch."""\n'
        "from lalm.plugins import PluginConfig\n"
        "from lalm.records import Stage\n\n\n"
        "class Config(PluginConfig):\n    pass\n\n\n"
        "def plan(cfg, pools):\n    return [Stage('once', {'text': 1.0}, 1)]\n"
    )
    recipe = {**study_values["recipe"], "data": {**study_values["recipe"]["data"]}, "plugins": [str(tmp_path / "mine")]}
    made = planned(schemes=["once_only"], recipe=recipe)
    assert {run.scheme for run in made} == {"once_only"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"speech_shares": [0.5, 1.5]}, r"speech_shares must be shares between 0 and 1"),
        ({"speech_shares": []}, r"speech_shares"),
        ({"only_at": {"curriculum": [2]}}, r"only_at\.curriculum must be shares"),
        ({"only_at": {"curiculum": [1]}}, r"only_at\.curiculum.*Did you mean 'curriculum'"),
        ({"seeds": []}, r"seeds is empty"),
        ({"schemes": []}, r"schemes is empty"),
        ({"seeds": [0, 0]}, r"same run twice"),
        ({"schemes": ["curriculum"], "speech_shares": [0]}, r"asks for no run"),
        ({"schemes": ["curiculum"]}, r"'curiculum'.*Did you mean 'curriculum'"),
        ({"schemes": [{"name": "curriculum", "speech_pases": 1}]}, r"speech_pases.*Did you mean 'speech_passes'"),
        ({"primary_metric": "wer"}, r"primary_metric: 'wer' is none of the recipe's evaluate\.metrics"),
        ({"primary_metrics": "wer"}, r"primary_metrics.*Did you mean 'primary_metric'"),
        ({"cascade": {"scheme": "text_only"}}, r"cascade\.scheme: 'text_only' is none"),
        ({"train__metric_for_best_model": "intent_accuracy"}, r"fixed epochs.*Take out train\.metric_for_best_model"),
        (
            {"train__early_stopping_patience": 2, "train__eval_steps": 5},
            r"early_stopping_patience and train\.eval_steps",
        ),
        ({"train__learning_rat": 1}, r"learning_rat.*Did you mean 'learning_rate'"),
    ],
)
def test_what_cannot_be_right_is_refused_with_its_remedy(changes, said, planned):
    with pytest.raises(ConfigError, match=rf"(?s){said}"):
        planned(**changes)


def test_workers_are_one_a_core_at_most_four_and_no_more_than_runs(planned, study_file, monkeypatch):
    study, _ = load_study(study_file, ["workers=null"])
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    assert num_workers(study, 30) == 4
    assert num_workers(study, 3) == 3
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    assert num_workers(study, 30) == 1
    assert num_workers(load_study(study_file, ["workers=7"])[0], 30) == 7
