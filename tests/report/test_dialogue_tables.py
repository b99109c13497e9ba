"""Dialogues on the pages of studies and of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_page import tables

from lalm.cli import main
from lalm.errors import UserError
from lalm.evaluate import trajectories
from lalm.report.build import build_report
from lalm.rundir import RunDir, read_json, write_json

FIRST, SECOND = "curriculum-100-s0", "text_only-0-s1"
ASKED = {"role": "assistant", "text": "Which?", "asks": True, "latency_s": 0.1}


def talk(num_right: int) -> list[dict[str, Any]]:
    """Ten clear requests, so many answered rightly, and five ambiguous ones that were asked about."""
    rows: list[dict[str, Any]] = []
    for number in range(15):
        said = {"role": "assistant", "text": "Tom" if number < num_right else "Kit", "asks": False, "latency_s": 0.1}
        row = {"id": str(number), "passage": str(number), "ambiguous": number >= 10, "reply": None, "answers": ["Tom"]}
        turns = [ASKED, {"role": "user", "text": "That.", "audio": None}, said] if number >= 10 else [said]
        rows.append({**row, "turns": turns, "clarification": "Which one?"})
    return rows


def add_dialogues(run: Path, num_right: int, noisy: bool = False) -> dict[str, Any]:
    """What `lalm converse` leaves in a run folder."""
    clean = talk(num_right)
    summary: dict[str, Any] = {"kind": "dialogue", "set": "test", "num": 15, "num_ambiguous": 5, "max_turns": 3}
    summary |= trajectories.score(clean, 200)
    if noisy:
        summary["levels"] = [{"snr_db": level, **trajectories.score(talk(4), 200)} for level in (6.0, 12.0)]
    write_json(RunDir(run).dialogue_scores("test"), summary)
    return summary


def test_a_study_shows_its_dialogues(copied):
    runs = [copied / "runs" / name for name in (FIRST, SECOND)]
    assert "Dialogues" not in build_report([copied]).read_text(encoding="utf-8")
    first = add_dialogues(runs[0], 8, noisy=True)
    add_dialogues(runs[1], 5)
    assert "test-dialogue" not in RunDir(runs[0]).sets(), "the summary is no set"
    page = build_report([copied]).read_text(encoding="utf-8")
    names = ("text only, no recordings, seed 1", "curriculum, 60 recordings, seed 0")
    found = next(one for one in tables(page) if any("EM, turns, %" in row for row in one.values()))
    assert list(found) == [
        "run",
        *(f"without noise | {name}" for name in names),
        f"12 dB | {names[1]}",
        f"6 dB | {names[1]}",
    ]
    score = first["metrics"]["turn_f1"]
    cell = found[f"without noise | {names[1]}"][2]
    assert cell == f"{100 * score['value']:.1f} {100 * score['low']:.1f} to {100 * score['high']:.1f}"
    assert found[f"12 dB | {names[1]}"][1].startswith("26.7")
    assert "Dialogues on test (15 dialogues, 5 ambiguous)" in page


def test_runs_by_themselves_and_as_markdown(copied, capsys):
    run = copied / "runs" / FIRST
    add_dialogues(run, 8)
    page = build_report([run]).read_text(encoding="utf-8")
    assert "Dialogues on test" in page
    assert main(["report", str(run), "--format", "markdown"]) == 0
    capsys.readouterr()
    text = next(path for path in run.glob("*.md")).read_text(encoding="utf-8")
    assert "asks when ambiguous" in text


@pytest.mark.parametrize("wrong", [[], {"kind": "dialogue", "set": "test"}])
def test_a_damaged_summary_is_named(copied, wrong):
    run = copied / "runs" / FIRST
    add_dialogues(run, 8)
    write_json(RunDir(run).dialogue_scores("test"), wrong)
    with pytest.raises(UserError, match=r"test-dialogue\.json"):
        build_report([copied])
    assert read_json(RunDir(run).dialogue_scores("test")) == wrong
