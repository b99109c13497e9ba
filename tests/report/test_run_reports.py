"""Reports of run folders, and tables in Markdown and LaTeX."""

from __future__ import annotations

import json
import re
import shutil
import xml.etree.ElementTree as ET

import pytest
from fake_study import results_of
from test_page import tables, text_of

from lalm.cli import main
from lalm.errors import UserError
from lalm.evaluate.score import compare_runs
from lalm.records import Frame
from lalm.report import listen
from lalm.report.build import build_report
from lalm.rundir import read_json, write_json


def runs_of(study):
    return [study / "runs" / name for name in ("curriculum-100-s0", "direct_mixing-100-s0")]


def test_two_runs_are_scored_and_compared(study, tmp_path):
    a, b = runs_of(study)
    page = build_report([a, b], tmp_path / "runs.html").read_text(encoding="utf-8")
    root = ET.fromstring(page)
    scores, _, compared = tables(page)
    for index, run in enumerate((a, b)):
        value = read_json(run / "scores" / "test.json")["metrics"]["command_acceptance"]["value"]
        assert scores["command acceptance, %"][index].startswith(f"{100 * value:.1f}")
    files = [[run / "predictions" / "test.jsonl"] for run in (a, b)]
    expected = compare_runs(*files, "command_acceptance")
    difference, _, verdict = compared[f"{a.name} minus {b.name}, on test | command acceptance"]
    assert float(difference.replace("−", "-")) == pytest.approx(100 * expected["difference"], abs=0.051)
    assert verdict == expected["verdict"]
    assert len(list(root.iter("svg"))) == 2
    assert "http" not in page
    assert "seed 0, 40 text rows, 60 recordings" in text_of(root)


def test_one_run_is_reported_into_its_folder(copied, capsys):
    run = copied / "runs" / "curriculum-100-s0"
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out.strip() == f"Done: {run / 'report.html'}"
    assert ET.fromstring((run / "report.html").read_text(encoding="utf-8")) is not None


def test_predictions_that_were_not_scored_are_scored_now(copied, tmp_path):
    run = copied / "runs" / "curriculum-100-s0"
    expected = read_json(run / "scores" / "test.json")["metrics"]["slu_f1"]["value"]
    (run / "scores" / "test.json").unlink()
    page = build_report([run], tmp_path / "run.html").read_text(encoding="utf-8")
    assert tables(page)[0]["SLU-F1, %"][0].startswith(f"{100 * expected:.1f}")


def test_other_utterances_are_not_compared(copied, tmp_path):
    a, b = runs_of(copied)
    path = b / "predictions" / "test.jsonl"
    path.write_text("\n".join(path.read_text(encoding="utf-8").splitlines()[5:]), encoding="utf-8")
    page = build_report([a, b], tmp_path / "runs.html").read_text(encoding="utf-8")
    assert "are not compared on test: they answered different utterances (75 are in both)" in page


def test_a_log_that_was_cut_off_or_resumed_is_drawn(copied, tmp_path):
    run = runs_of(copied)[0]
    with (run / "log.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"step": 20, "stage": "text", "loss": 0.5}\n{"step": 70, "sta')
    page = build_report([run], tmp_path / "run.html").read_text(encoding="utf-8")
    assert "1 lines of the log could not be read" in page
    (run / "log.jsonl").unlink()
    shutil.rmtree(run / "scores")
    shutil.rmtree(run / "predictions")
    page = build_report([run], tmp_path / "run.html").read_text(encoding="utf-8")
    assert "The log holds no losses." in page
    assert "No scores yet." in page


def test_unfinished_and_damaged_runs_are_refused(copied):
    run = runs_of(copied)[0]
    (run / "scores" / "test.json").write_text("[]", encoding="utf-8")
    with pytest.raises(UserError, match="is no scores file"):
        build_report([run])
    (run / "scores" / "test.json").write_text('{"metrics": {"slu_f1": {"low": 1}}}', encoding="utf-8")
    with pytest.raises(UserError, match=r"metrics\.slu_f1\.value: this key is required"):
        build_report([run])
    (run / "run.json").unlink()
    with pytest.raises(UserError, match=r"run\.json is missing"):
        build_report([run])


def test_markdown_holds_the_figures_of_the_results(study, tmp_path):
    text = build_report([study], tmp_path / "t.md", "markdown").read_text(encoding="utf-8")
    point = next(c for c in results_of(study)["curves"] if c["label"] == "curriculum")["points"][-1]
    score = {key: 100 * point["metrics"]["command_acceptance"][key] for key in ("value", "low", "high")}
    line = next(line for line in text.splitlines() if line.startswith("| curriculum |"))
    last = line.strip("| ").split(" | ")[-1]
    assert last.replace("*", "") == f"{score['value']:.1f} ({score['low']:.1f} to {score['high']:.1f})"
    widths = {line.count("|") for line in text.split("\n\n")[1].splitlines()}
    assert widths == {6}
    assert "Paired comparisons" in text
    assert re.search(r"\| 6 recordings \| [+−]\d+ points?, between", text)


def test_latex_is_plain_and_balanced(study, tmp_path):
    text = build_report([study], tmp_path / "t.tex", "latex").read_text(encoding="utf-8")
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 5
    assert not set(re.findall(r"\\(\w*rule|usepackage)\b", text))
    for line in text.splitlines():
        body = re.sub(r"\\[%&_#${}]", "", line)
        assert body.count("{") == body.count("}")
        if body.endswith(r"\\") and "multicolumn" not in body:
            assert body.count("&") in (2, 3, 4)
        if not line.startswith("% "):
            assert "%" not in body
    assert text.isascii()


@pytest.mark.parametrize(
    "changes",
    [
        {"seconds": None, "num_speech": "many", "peak_memory_mb": "big"},
        {"licences": ["MIT"], "hardware": "x", "versions": 3, "model": None},
    ],
    ids=["numbers", "mappings"],
)
def test_a_run_that_says_odd_things_of_itself_is_reported(changes, copied, tmp_path):
    run = runs_of(copied)[0]
    write_json(run / "run.json", {**read_json(run / "run.json"), **changes})
    log = (run / "log.jsonl").read_text(encoding="utf-8")
    (run / "log.jsonl").write_text(log + '\n{"step": 60, "stage": "text", "dev/exact_match": null}\n', encoding="utf-8")
    assert "command acceptance" in build_report([run], tmp_path / "run.html").read_text(encoding="utf-8")
    assert "command acceptance" in build_report([copied], tmp_path / "study.html").read_text(encoding="utf-8")


def test_utterances_with_other_labels_are_not_compared(copied, tmp_path):
    a, b = runs_of(copied)
    path = b / "predictions" / "test.jsonl"
    first, *rest = path.read_text(encoding="utf-8").splitlines()
    changed = json.dumps({**json.loads(first), "gold": {"intent": "another", "slots": []}})
    path.write_text("\n".join([changed, *rest]), encoding="utf-8")
    page = build_report([a, b], tmp_path / "runs.html").read_text(encoding="utf-8")
    assert f"they answered different utterances ({len(rest)} are in both)" in page


def test_an_answer_in_words_is_marked_by_the_right_ones():
    row = {
        "id": "q",
        "gold": {"intent": None, "slots": []},
        "prediction": {"intent": None, "slots": []},
        "status": "ok",
    }
    turns = [
        {"role": "narrator", "text": "It is in London.", "audio": "a.wav"},
        {"role": "user", "text": "Where is it?"},
    ]
    question = {**row, "answers": ["in London"], "turns": turns}
    wrong, right = (listen._reply("run", {**question, "raw": raw}, Frame(None)) for raw in ("in Paris", "In London."))
    assert (wrong.intent.text, wrong.intent.state, right.intent.state) == ("in Paris", "wrong", "right")
    assert listen._request(question) == "Where is it?"
    due = {**question, "answers": [], "ambiguous": True}
    asked, told = (listen._reply("run", {**due, "raw": raw}, Frame(None)) for raw in ("Which one?", "in Paris"))
    assert (asked.intent.state, told.intent.state) == ("right", "wrong")
