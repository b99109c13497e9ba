"""Several tasks in a study: names of runs and curves, shared beginnings, rows by task."""

from __future__ import annotations

import yaml

from lalm import plugins
from lalm.records import Example, Stage
from lalm.study.curves import curves
from lalm.study.of_tasks import flat, tasks_in_words, telling
from lalm.study.plan import load_study, runs

BOTH = {"name": "multitask", "base": "direct_mixing", "tasks": {"transcribe": 1.0, "intent_only": 1.0}}


def planned(tmp_path, study_values, **changes):
    plugins.load("corpora", "barista").make_tiny(tmp_path / "corpus", seed=0)
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({**study_values, "seeds": [0], **changes}, sort_keys=False))
    study, base = load_study(tmp_path / "study.yaml")
    return runs(study, base)


def test_options_within_options_become_names_and_plain_values():
    options = {
        "base": {"name": "curriculum", "speech_passes": 3.0},
        "tasks": [{"name": "a", "weight": 1.0, "options": {"kinds": ["x", "y"]}}, {"name": "b", "weight": 0.5}],
        "stage_weights": {"text": {"main": 0.0}},
        "temperature": 1.0,
    }
    assert flat(options) == {
        "base": "curriculum",
        "base.speech_passes": 3.0,
        "tasks": "a+b",
        "tasks.a.weight": 1.0,
        "tasks.a.options.kinds": "x+y",
        "tasks.b.weight": 0.5,
        "stage_weights.text.main": 0.0,
        "temperature": 1.0,
    }


def test_what_tells_options_apart_is_named_once():
    whole = {"base": "curriculum", "base.passes": 3, "tasks": "a+b", "tasks.a.weight": 1, "tasks.b.weight": 1}
    less = {"base": "curriculum", "base.passes": 3, "tasks": "a", "tasks.a.weight": 1}
    lighter = {**whole, "tasks.b.weight": 0.5}
    assert telling(whole, [whole, less]) == ["tasks"], "that b has a weight follows"
    assert telling(whole, [less, lighter]) == ["tasks", "tasks.b.weight"]
    assert telling(whole, [whole]) == []


def test_ablations_have_runs_and_curves_of_their_own(tmp_path, study_values):
    one_less = {**BOTH, "tasks": {"transcribe": 1.0}}
    todo = planned(tmp_path, study_values, schemes=["direct_mixing", BOTH, one_less], speech_shares=[1.0])
    assert [run.name for run in todo] == [
        "direct_mixing-100-s0",
        "multitask-tasks_transcribe+intent_only-100-s0",
        "multitask-tasks_transcribe-100-s0",
    ]
    score = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 10}
    cells = [
        {"scheme": run.scheme, "options": flat(run.recipe.scheme.options), "speech_share": 1.0, "num_speech": 4}
        | {"seed": 0, "run": run.name, "seconds": 1.0, "metrics": {"exact_match": score}, "status": {}}
        for run in todo
    ]
    assert [curve["label"] for curve in curves(cells, [], "exact_match")] == [
        "direct_mixing",
        "multitask (tasks transcribe+intent_only)",
        "multitask (tasks transcribe)",
    ]


def test_a_multitask_curriculum_shares_its_beginning_and_one_over_text_alone_needs_no_recordings(
    tmp_path, study_values
):
    schemes = [{**BOTH, "base": "curriculum"}, {**BOTH, "base": "text_only"}]
    todo = planned(tmp_path, study_values, schemes=schemes, speech_shares=[0, 0.5, 1.0])
    by_base = {base: [run for run in todo if run.recipe.scheme.options["base"]["name"] == base] for base in ("curriculum", "text_only")}  # fmt: skip
    assert [run.share for run in by_base["curriculum"]] == [0.5, 1.0]
    assert [run.share for run in by_base["text_only"]] == [0.0]
    assert len({run.prefix for run in by_base["curriculum"]}) == 1
    assert by_base["curriculum"][0].prefix is not None
    assert by_base["text_only"][0].prefix is None


def test_rows_are_counted_by_task_with_how_often_they_are_seen():
    def rows(task, number):
        return [Example(f"{task}-{i}", "", "", text="x", task=task) for i in range(number)]

    pools = {"text": rows("slu", 10), "speech": rows("slu", 4), "text:transcribe": rows("transcribe", 6)}
    stages = [Stage("a", {"text": 1.0}, 2), Stage("b", {"text": 1.0, "speech": 3.0, "text:transcribe": 0.5}, 1)]
    (said,) = tasks_in_words(pools, stages)
    assert said.splitlines() == [
        "Tasks: rows, and how often rows are seen in all",
        "  slu         10 text, 4 speech; seen 42 times",
        "  transcribe  6 text; seen 3 times",
    ]
    parts = {**pools, "text@en:transcribe": pools["text:transcribe"]}
    assert tasks_in_words(parts, [*stages, Stage("c", {"text@en:transcribe": 1.0}, 1)])[0].endswith(
        "6 text; seen 9 times"
    )
    assert tasks_in_words({"text": pools["text"]}, stages) == []
