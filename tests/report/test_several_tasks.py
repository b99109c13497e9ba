"""Several tasks on the page: the table from the logs of runs, and remarks where they do harm and nowhere else."""

from __future__ import annotations

import shutil

import pytest
from fake_study import make_study, results_of

from lalm.report.ablations import task_gains
from lalm.report.build import build_report
from lalm.report.folder import load_study
from lalm.report.of_tasks import runs_tasks, stages, study_tasks
from lalm.report.runs import load_runs
from lalm.report.signs import run_signs, study_signs
from lalm.report.standings import Standings
from lalm.rundir import RunDir, write_json, write_jsonl

SEVERAL = {"name": "multitask", "base": "curriculum", "tasks": {"transcribe": 1.0, "intent_only": 0.5}}


def log(cosine: float = 0.4, dev=()) -> list[dict]:
    rows = [
        {"step": 10, "stage": "text", "loss": 2.0, "loss/task/slu": 2.1, "loss/task/transcribe": 1.5},
        {"step": 20, "stage": "text", "loss": 1.0, "loss/task/slu": 1.1, "cosine/slu/slu": 0.9}
        | {"cosine/transcribe/transcribe": 0.8, "cosine/slu/transcribe": 0.25},
        {"step": 30, "stage": "mixed", "loss": 0.5, "loss/task/slu": 0.4, "loss/task/transcribe": 0.7},
        {"step": 40, "stage": "mixed", "loss": 0.3, "loss/task/slu": 0.2, "cosine/slu/slu": 0.7}
        | {"cosine/transcribe/transcribe": 0.6, "cosine/slu/transcribe": cosine},
    ]
    return rows + [{"step": step, "stage": "mixed", **values} for step, values in dev]


@pytest.fixture(scope="module")
def study(tmp_path_factory, monkeypatch_module):
    """A curriculum of one task and one of three, which is much worse at all recordings; cosines of -0.3 and -0.1 there."""
    import fake_study

    monkeypatch_module.setitem(fake_study.TRUTH, "multitask", (0.35, 0.0, 1.0, 1.0))
    folder = make_study(
        tmp_path_factory.mktemp("several"),
        num_test=60,
        schemes=["curriculum", SEVERAL],
        speech_shares=[0.1, 1],
        only_at={},
        cascade=None,
    )
    for cell in results_of(folder)["cells"]:
        if cell["scheme"] == "multitask":
            cosine = 0.2 if cell["speech_share"] < 1 else (-0.3, -0.1)[cell["seed"]]
            write_jsonl(RunDir(folder / cell["run"]).log, log(cosine))
    return folder


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def fields(table) -> dict[str, list[list[str]]]:
    return {group.title: [[entry.text for entry in row] for row in group.rows] for group in table.groups}


def test_one_task_and_several_are_cells_with_plain_options_and_compared(study):
    results = results_of(study)
    one, several = (
        next(cell for cell in results["cells"] if cell["scheme"] == name) for name in ("curriculum", "multitask")
    )
    assert several["options"]["base"] == "curriculum"
    assert several["options"]["tasks"].split("+") == sorted(SEVERAL["tasks"]), "the study file has its keys sorted"
    assert several["speech_passes"] == one["speech_passes"] == 3.0
    assert [{pair["a"], pair["b"]} for pair in results["comparisons"]] == [
        {"curriculum 10 %", "multitask 10 %"},
        {"curriculum 100 %", "multitask 100 %"},
    ]


def test_the_end_of_a_stage_holds_each_tasks_last_loss_and_the_cosines():
    text, mixed = stages(log(-0.2))
    assert (text.name, mixed.name) == ("text", "mixed")
    assert text.losses == {"slu": 1.1, "transcribe": 1.5}
    assert mixed.losses == {"slu": 0.2, "transcribe": 0.7}
    assert mixed.cosines == {("slu", "slu"): 0.7, ("transcribe", "transcribe"): 0.6, ("slu", "transcribe"): -0.2}
    assert stages([{"step": 1, "stage": "text", "loss": 1.0, "loss/task/slu": 1.0}]) == []


def test_a_study_shows_the_last_stage_with_seeds_averaged(study):
    table = study_tasks(load_study(study))
    assert [entry.text for entry in table.header] == ["task", "loss a token", "slu", "transcribe"]
    assert fields(table) == {
        "multitask, 6 recordings (10 %)": [["slu", "0.2", "0.70", "0.20"], ["transcribe", "0.7", "0.20", "0.60"]],
        "multitask, 60 recordings (100 %)": [["slu", "0.2", "0.70", "−0.20"], ["transcribe", "0.7", "−0.20", "0.60"]],
    }


def test_tasks_against_each_other_and_worse_than_one_alone_are_remarked(study):
    conflict, worse, *others = study_signs(Standings(load_study(study)))
    assert conflict.startswith("Tasks pull the weights in opposite directions")
    assert "transcribe and slu, −0.20 (multitask at 60 recordings (100 %))" in conflict
    assert "6 recordings" not in conflict
    (pair,) = [
        one for one in results_of(study)["comparisons"] if one["speech_share"] == 1 and one["verdict"] != "undecided"
    ]
    points = abs(100 * pair["difference"])
    assert worse.startswith("Several tasks are worse than the one alone: ")
    assert f"multitask at 60 recordings (100 %), −{points:.1f}" in worse
    page = build_report([study]).read_text(encoding="utf-8")
    assert "<h2>Several tasks</h2>" in page
    for remark in (conflict, worse):
        assert remark in page
    assert "opposite directions" not in " ".join(others)


def test_what_several_tasks_gain_is_said_and_which_of_them_carries_it(study, tmp_path):
    (few, many) = task_gains(Standings(load_study(study)))
    assert few.startswith("At 6 recordings (10 %), the own task with ")
    assert "intent only + transcribe is " in few
    assert "worse than the own task alone (−" in many
    assert many.endswith("Which task carries that, no run tells: none leaves one out.")

    results = results_of(study)
    (whole,) = (one for one in results["curves"] if (one["scheme"], one["role"]) == ("multitask", "cell"))
    share = {one["speech_share"]: one["runs"][0] for one in whole["points"]}
    for left, gain in (("transcribe", 0.1), ("intent_only", -0.02)):
        kept = next(task for task in SEVERAL["tasks"] if task != left)
        options = {key: value for key, value in whole["options"].items() if not key.startswith(f"tasks.{left}.")}
        runs = {
            one["speech_share"]: [run.replace("multitask", f"without-{left}") for run in one["runs"]]
            for one in whole["points"]
        }
        less = [{**one, "runs": runs[one["speech_share"]]} for one in whole["points"]]
        for one in less:
            value = one["metrics"]["command_acceptance"]["value"]
            one["metrics"] = {"command_acceptance": {**one["metrics"]["command_acceptance"], "value": value - gain}}
        results["curves"].append(
            {**whole, "label": f"without {left}", "options": {**options, "tasks": kept}, "points": less}
        )
        results["comparisons"].append(
            {
                "a": "multitask 100 %",
                "b": f"without {left} 100 %",
                "a_runs": [share[1.0]],
                "b_runs": runs[1.0],
                "speech_share": 1.0,
                "metric": "command_acceptance",
                "difference": gain,
                "low": gain - 0.03,
                "high": gain + 0.03,
                "verdict": "better" if gain > 0.03 else "undecided",
            }
        )
    copy = tmp_path / "ablation"
    shutil.copytree(study, copy)
    write_json(copy / "results.json", results)
    (few, many) = task_gains(Standings(load_study(copy)))
    assert "no run tells" in few, "compared at all recordings only"
    assert many.endswith(
        "With each task less without it: transcribe +10.0, +7.0 to +13.0; intent only −2.0, −5.0 to +1.0; transcribe carries most."
    )
    page = build_report([copy]).read_text(encoding="utf-8")
    assert "transcribe carries most." in page


def test_nobody_asks_which_task_carries_it_where_there_is_one(study, tmp_path):
    results = results_of(study)
    for row in (*results["curves"], *results["cells"]):
        if row.get("scheme") == "multitask":
            kept = {key: value for key, value in row["options"].items() if not key.startswith("tasks.intent_only.")}
            row["options"] = {**kept, "tasks": "transcribe"}
    copy = tmp_path / "one"
    shutil.copytree(study, copy)
    write_json(copy / "results.json", results)
    said = task_gains(Standings(load_study(copy)))
    assert len(said) == 2
    assert all("the own task with transcribe is " in one and one.endswith(").") for one in said)


def test_another_base_is_no_comparison(study, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(study, copy)
    results = results_of(copy)
    for row in [*results["cells"], *results["curves"]]:
        if row["scheme"] == "multitask":
            row["options"]["base.speech_passes"] = 1.0
    write_json(copy / "results.json", results)
    assert not any(remark.startswith("Several tasks are worse") for remark in study_signs(Standings(load_study(copy))))


def test_transcripts_read_far_better_than_recordings_are_heard(study, tmp_path):
    found = [one for one in study_signs(Standings(load_study(study))) if one.startswith("Much is lost in hearing")]
    assert len(found) == 1
    results = results_of(study)
    value = next(
        one["points"][-1]["metrics"]["command_acceptance"]["value"]
        for one in results["curves"]
        if one["scheme"] == "multitask" and one["role"] == "cell"
    )
    assert "multitask at 60 recordings (100 %), " in found[0]
    assert f"read and {100 * value:.1f} % heard" in found[0]
    copy = tmp_path / "copy"
    shutil.copytree(study, copy)
    results["curves"] = [curve for curve in results["curves"] if curve["role"] != "oracle_text"]
    write_json(copy / "results.json", results)
    assert not any("lost in hearing" in one for one in study_signs(Standings(load_study(copy))))


def run(folder, rows):
    made = RunDir(folder)
    made.recipe.parent.mkdir(parents=True, exist_ok=True)
    made.recipe.write_text("scheme: multitask\n", encoding="utf-8")
    write_json(made.info, {"seed": 0})
    write_jsonl(made.log, rows)
    return folder


@pytest.mark.parametrize(
    ("dev", "words"),
    [
        ([(20, {"dev/exact_match": 0.8}), (40, {"dev/exact_match": 0.7})], "exact match on dev from 80.0 % at step 20 to 70.0 % at 40"),
        ([(20, {"dev/wer": 0.1}), (40, {"dev/wer": 0.2})], "word error rate on dev from 10.0 % at step 20 to 20.0 % at 40"),
        ([(40, {"dev/loss": 1.2})], "loss 1.2 on dev and 0.3 in training"),
        ([(20, {"dev/exact_match": 0.8}), (40, {"dev/exact_match": 0.79})], None),
        ([(20, {"dev/exact_match": 0.6}), (40, {"dev/exact_match": 0.8})], None),
        ([(20, {"dev/loss": 0.4}), (40, {"dev/loss": 0.8})], None),
    ],
)  # fmt: skip
def test_training_rows_learnt_by_heart_are_seen_on_dev(tmp_path, dev, words):
    found = run_signs(load_runs([run(tmp_path / "one", log(dev=dev))]))
    assert len(found) == (words is not None)
    assert words is None or words in found[0]


def test_runs_by_themselves_show_every_stage(tmp_path):
    folder = run(tmp_path / "one", log(-0.5))
    runs = load_runs([folder])
    assert list(fields(runs_tasks(runs))) == ["one, stage text", "one, stage mixed"]
    (remark,) = run_signs(runs)
    assert "transcribe and slu, −0.50 (one)" in remark
    page = build_report([folder]).read_text(encoding="utf-8")
    assert remark in page
    assert "cosine of the gradient" in page
    assert "| transcribe | 0.7 | −0.50 | 0.60 |" in build_report([folder], fmt="markdown").read_text(encoding="utf-8")


def test_a_run_of_one_task_shows_nothing_of_tasks(tmp_path):
    rows = [{"step": 10, "stage": "text", "loss": 1.0, "loss/task/slu": 1.0}]
    runs = load_runs([run(tmp_path / "one", rows)])
    assert (runs_tasks(runs), run_signs(runs)) == (None, [])
    assert "Several tasks" not in build_report([tmp_path / "one"]).read_text(encoding="utf-8")
