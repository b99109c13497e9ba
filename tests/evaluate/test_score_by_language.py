"""Scores by language: the same figures as of each language's rows alone, counts that add up, units of the row's language."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lalm.cli import main
from lalm.evaluate.score import score_rows

METRICS = ("intent_accuracy", "exact_match", "wer", "cer")


def row(number: int, language: str, right: bool, text: str, heard: str) -> dict:
    frame = {"intent": "on", "slots": []}
    made = {"id": f"{language}-{number}", "gold": frame, "prediction": frame if right else {**frame, "intent": "off"}}
    made |= {"raw": "", "status": "ok", "latency_s": 0.1, "text": text, "heard": heard}
    return made if language == "en" else {**made, "language": language}


ROWS = [
    *(row(i, "en", i % 4 > 0, "turn it on", "turn it on") for i in range(8)),
    *(row(i, "fr", i % 2 > 0, "allume-la", "allume la lampe") for i in range(6)),
    *(row(i, "zh", True, "打开灯", "打开等") for i in range(2)),
]


def test_each_language_scores_as_its_rows_alone_and_counts_add_up():
    found = score_rows(ROWS, METRICS, num_resamples=50)
    parts = found["by_language"]
    assert list(parts) == ["en", "fr", "zh"]
    assert {key: part["metrics"]["intent_accuracy"]["value"] for key, part in parts.items()} == {
        "en": 0.75,
        "fr": 0.5,
        "zh": 1,
    }
    assert parts["fr"] == score_rows([r for r in ROWS if r.get("language") == "fr"], METRICS, num_resamples=50)
    # one word of two is added in French; one character of three is wrong in Chinese, where the unit is the character
    assert parts["fr"]["metrics"]["wer"]["value"] == pytest.approx(1 / 2)
    assert parts["zh"]["metrics"]["wer"]["value"] == parts["zh"]["metrics"]["cer"]["value"] == pytest.approx(1 / 3)
    for name in METRICS:
        assert np.sum([part["counts"][name] for part in parts.values()], axis=0).tolist() == found["counts"][name]
    assert "by_language" not in score_rows(ROWS[:8], METRICS)


def test_the_command_parts_one_language_on_request_and_several_always(tmp_path: Path, capsys):
    file = tmp_path / "p.jsonl"
    file.write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    assert main(["score", str(file), "--metrics", "intent_accuracy"]) == 0
    printed = capsys.readouterr().out
    assert printed.index("answers: 16 ok") < printed.index("English (en)") < printed.index("Chinese (zh)")
    file.write_text("\n".join(map(json.dumps, ROWS[:8])), encoding="utf-8")
    assert main(["score", str(file), "--metrics", "intent_accuracy", "--json"]) == 0
    assert "by_language" not in json.loads(capsys.readouterr().out)
    assert main(["score", str(file), "--metrics", "intent_accuracy", "--by", "language", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["by_language"] == {"en": {key: found[key] for key in ("metrics", "counts", "status")}}


def test_a_row_of_no_known_language_is_named(tmp_path: Path, capsys):
    (tmp_path / "p.jsonl").write_text(json.dumps({**ROWS[0], "language": "jp"}), encoding="utf-8")
    assert main(["score", str(tmp_path / "p.jsonl")]) == 2
    assert "line 1: field 'language': 'jp' is no known language. Did you mean 'ja'" in capsys.readouterr().err
