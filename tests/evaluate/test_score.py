"""`lalm score` on predictions files of ours: figures by hand, every bad row named, files compared item by item."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lalm.cli import main
from lalm.data.predictions import read_predictions
from lalm.errors import DataError
from lalm.evaluate.score import as_text, compare_runs, score_rows


def row(identity: str, gold: str, answer: str | None, **more: Any) -> dict[str, Any]:
    """A predictions row; frames are written `intent type=value type=value`."""

    def frame(text: str) -> dict[str, Any]:
        intent, *slots = text.split()
        return {
            "intent": intent,
            "slots": [dict(zip(("type", "value"), slot.split("="), strict=True)) for slot in slots],
        }

    return {
        "id": identity,
        "gold": frame(gold),
        "prediction": None if answer is None else frame(answer),
        "raw": "",
        "status": "failed" if answer is None else "ok",
        "latency_s": 0.1,
        **more,
    }


ROWS = [
    row(
        "1", "order size=large drink=latte", "order size=large drink=latte", text="a large latte", heard="a large latte"
    ),
    row("2", "order size=small", "order size=small milk=oat", text="a small one", heard="a small on"),
    row("3", "order size=small", None, text="small please"),
    row("4", "cancel", "order", status="repaired"),
]


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows), encoding="utf-8")
    return path


def test_scores_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = write(tmp_path / "p.jsonl", ROWS)
    assert main(["score", str(file), "--json", "--out", str(tmp_path / "s.json")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert json.loads((tmp_path / "s.json").read_text(encoding="utf-8")) == printed
    values = {name: (metric["value"], metric["n"]) for name, metric in printed["metrics"].items()}
    assert values == {
        "intent_accuracy": (2 / 4, 4),
        # right: size, drink, size; extra: milk; missed: size of 3
        "entity_f1": (2 * 3 / (2 * 3 + 1 + 1), 4),
        "slu_f1": (2 * 6 / (2 * 6 + 2 + 2), 4),
        "exact_match": (1 / 4, 4),
        "command_acceptance": (2 / 4, 4),
        "extra_slots": (1 / 3, 3),
        "wer": (1 / 6, 2),
        "wer_orthographic": (1 / 6, 2),
        "cer": (1 / 24, 2),  # an "e" of 13 and 11 characters
    }
    assert printed["status"] == {"ok": 2, "repaired": 1, "failed": 1}
    assert printed["counts"]["entity_f1"] == [3.0, 1.0, 1.0]
    for metric in printed["metrics"].values():
        assert metric["low"] <= metric["value"] <= metric["high"]


def test_chosen_metrics_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = write(tmp_path / "p.jsonl", ROWS[:2])
    assert main(["score", str(file), "--metrics", "exact_match, wer"]) == 0
    out = capsys.readouterr().out
    assert "exact_match" in out
    assert "0.5000" in out
    assert "answers: 2 ok, 0 repaired, 0 failed" in out
    assert main(["score", str(file), "--metrics", "exakt_match"]) == 2
    assert "Did you mean 'exact_match'?" in capsys.readouterr().err


def test_a_metric_without_anything_to_count_is_null():
    scores = score_rows([row("1", "on", "on")], ["entity_f1", "wer", "intent_accuracy"], num_resamples=20)
    assert scores["metrics"]["entity_f1"] == {"value": None, "low": None, "high": None, "n": 1}
    assert scores["metrics"]["wer"] == {"value": None, "low": None, "high": None, "n": 0}
    assert scores["metrics"]["intent_accuracy"]["value"] == 1
    json.dumps(scores, allow_nan=False)
    assert "none" in as_text(scores)


def test_every_bad_row_is_named(tmp_path: Path):
    good = ROWS[0]
    bad: list[Any] = [
        "{not json",
        [1, 2],
        {key: value for key, value in good.items() if key != "gold"},
        {**good, "id": 7},
        {**good, "id": "a", "status": "okay"},
        {**good, "id": "b", "prediction": None},
        {**good, "id": "c", "status": "failed"},
        {**good, "id": "d", "gold": {"intent": "x", "slots": [{"type": "a"}]}},
        {**good, "id": "e", "text": 5},
        good,
        {**good},
    ]
    file = write(tmp_path / "p.jsonl", bad)
    with pytest.raises(DataError) as caught:
        read_predictions(file)
    problems = "\n".join(caught.value.problems)
    assert [f"line {number}:" in problems for number in range(1, 12)] == [True] * 9 + [False, True]
    assert "field 'gold' is missing" in problems
    assert "allowed: ok, repaired, failed" in problems
    assert "stands on line 10 already" in problems
    for empty in ("", "\n\n"):
        (tmp_path / "empty.jsonl").write_text(empty)
        with pytest.raises(DataError, match="holds no predictions"):
            read_predictions(tmp_path / "empty.jsonl")
    with pytest.raises(DataError, match="cannot be read"):
        read_predictions(tmp_path / "missing.jsonl")


def test_line_separators_within_a_text_do_not_end_a_line(tmp_path: Path):
    odd = {**ROWS[0], "raw": "a\u2028b\u0085c"}
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps(odd, ensure_ascii=False) + "\n", encoding="utf-8")
    assert read_predictions(path)[0]["raw"] == odd["raw"]


def test_runs_are_compared_item_by_item(tmp_path: Path):
    right = [row(str(i), "on", "on") for i in range(40)]
    half = [row(str(i), "on", "on" if i % 2 else "off") for i in range(40)]
    a, b = write(tmp_path / "a.jsonl", right), write(tmp_path / "b.jsonl", half[::-1])
    found = compare_runs([a], [b], "intent_accuracy")
    assert found["difference"] == 0.5
    assert found["verdict"] == "better"
    assert compare_runs([b], [a], "intent_accuracy")["verdict"] == "worse"
    assert compare_runs([a, b], [b, a], "intent_accuracy") == {
        "difference": 0.0,
        "low": 0.0,
        "high": 0.0,
        "differing": 0,
        "verdict": "undecided",
    }
    # fewer extra slots are better
    chatty = write(tmp_path / "c.jsonl", [row(str(i), "on", "on a=b") for i in range(40)])
    assert compare_runs([a], [chatty], "extra_slots")["verdict"] == "better"
    corrected = write(tmp_path / "d.jsonl", [row(str(i), "off" if i == 7 else "on", "on") for i in range(40)])
    with pytest.raises(
        DataError, match=r"d\.jsonl: holds other items than the other runs \('7' has another right answer\)"
    ):
        compare_runs([a], [corrected], "intent_accuracy")
    with pytest.raises(DataError, match=r"'0' is not in both"):
        compare_runs([a], [write(tmp_path / "e.jsonl", right[1:])], "intent_accuracy")
    nothing = compare_runs([a], [b], "wer")
    assert nothing == {"difference": None, "low": None, "high": None, "verdict": "undecided"}
    with pytest.raises(DataError, match="other items"):
        compare_runs([a], [write(tmp_path / "d.jsonl", right[1:])], "intent_accuracy")
