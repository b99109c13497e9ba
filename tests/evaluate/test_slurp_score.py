"""The official SLURP scorer's figures: a case worked out by hand, and its own figures on two systems' predictions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lalm.cli import main

SLURP = Path(__file__).parents[3] / "shared" / "data" / "slurp"
NAMES = ["Scenario", "Action", "Intent (scen_act)", "Entities"]
NAMES += ["Entities (distance word)", "Entities (distance char)", "Slu f1", "missing", "total"]


def scored(gold: Path, predictions: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, Any]:
    arguments = ["score", "--corpus", "slurp", "--gold", str(gold), "--predictions", str(predictions), "--json", *flags]
    assert main(arguments) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("name", "flags"),
    [("gold_hermit", ["--gold-transcripts"]), ("multi_slurp_hermit", [])],
    ids=lambda value: str(value),
)
def test_official_figures(name: str, flags: list[str], capsys: pytest.CaptureFixture[str]):
    if not SLURP.is_dir():
        pytest.skip(f"SLURP's gold and prediction files are not in {SLURP}")
    official = json.loads((SLURP / "official_scores.json").read_text(encoding="utf-8"))[name]
    found = scored(SLURP / "test.jsonl", SLURP / f"{name}_predictions.jsonl", capsys, *flags)
    assert list(found) == list(official)
    for figure, expected in official.items():
        assert found[figure] == pytest.approx(expected, abs=1e-9), figure


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def gold_row(number: int, sentence: str, scenario: str, action: str, entities: dict[str, list[int]]) -> dict[str, Any]:
    return {
        "slurp_id": number,
        "sentence": sentence,
        "scenario": scenario,
        "action": action,
        "tokens": [{"surface": word} for word in sentence.split()],
        "entities": [{"type": kind, "span": span} for kind, span in entities.items()],
        "recordings": [{"file": f"{number}-a.flac"}, {"file": f"{number}-b.flac"}],
    }


GOLD = [
    gold_row(1, "Wake me at seven in the morning today", "alarm", "set", {"time": [3, 4, 5, 6], "date": [7]}),
    gold_row(2, "play jazz", "play", "music", {"genre": [1]}),
    gold_row(3, "what is new", "news", "query", {}),
]


def prediction(key: str, value: str, scenario: str, action: str, *entities: tuple[str, str]) -> dict[str, Any]:
    made = [{"type": kind, "filler": words} for kind, words in entities]
    return {key: value, "scenario": scenario, "action": action, "entities": made}


def test_by_hand_from_gold_transcripts(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    answers = [
        prediction("slurp_id", "1", "alarm", "set", ("time", "seven the morning"), ("place", "here")),
        prediction("slurp_id", "2", "play", "podcasts", ("genre", "Jazz")),  # predicted words count as they stand
        prediction("slurp_id", "99", "news", "query"),  # nobody asked
    ]
    found = scored(write(tmp_path / "g", GOLD), write(tmp_path / "p", answers), capsys, "--gold-transcripts")
    assert list(found) == NAMES

    def figures(true: float, false: float, missed: float) -> dict[str, Any]:
        precision, recall = true / (true + false), true / (true + missed)
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        return pytest.approx({"precision": precision, "recall": recall, "f1": f1})

    assert (found["missing"], found["total"]) == (1, 3)
    assert found["Scenario"] == figures(2, 0, 0)
    assert found["Action"] == found["Intent (scen_act)"] == figures(1, 1, 1)
    # exact: time, place and Jazz are wrong (3); time, date and jazz are missed (3)
    assert found["Entities"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0}
    # words: time is a hit at distance 1/4, place is false, date is missed; Jazz is a hit at distance 1/1
    word = (2, 1 / 4 + 1 + 1, 1 / 4 + 1 + 1)
    # characters: time lacks "in " (3 of 20), Jazz differs in one of 4
    char = (2, 3 / 20 + 1 + 1 / 4, 3 / 20 + 1 + 1 / 4)
    assert found["Entities (distance word)"] == figures(*word)
    assert found["Entities (distance char)"] == figures(*char)
    assert found["Slu f1"] == figures(*(a + b for a, b in zip(word, char, strict=True)))


def test_recordings_are_matched_by_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    answers = [
        prediction("file", "1-a.flac", "alarm", "set", ("date", "today"), ("time", "seven in the morning")),
        prediction("file", "1-b.flac", "alarm", "set", ("time", "")),
        prediction("file", "3-a.flac", "news", "query"),
    ]
    answers[1]["entities"].append({"filler": "today"})  # an entity without a type is a wrong one
    found = scored(write(tmp_path / "g", GOLD), write(tmp_path / "p", answers), capsys)
    assert (found["missing"], found["total"]) == (3, 6)
    assert found["Entities"] == pytest.approx({"precision": 2 / 4, "recall": 2 / 4, "f1": 0.5})
    # the empty time costs its whole distance: hits 2 + 1, false 1 + 1, missed 1 + 1
    assert found["Slu f1"] == pytest.approx({"precision": 0.6, "recall": 0.6, "f1": 0.6})


def test_bad_files_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    gold = write(tmp_path / "g", GOLD)
    bad = write(tmp_path / "p", [{"file": "1-a.flac", "scenario": "a"}, {"slurp_id": 1}, {"entities": 3}])
    assert main(["score", "--corpus", "slurp", "--gold", str(gold), "--predictions", str(bad)]) == 2
    message = capsys.readouterr().err
    assert all(f"line {number}" in message for number in (1, 2, 3))
    assert "--gold-transcripts" in message
    assert main(["score", "--corpus", "slurp", "--gold", str(gold)]) == 2
    assert "--predictions" in capsys.readouterr().err
    assert main(["score"]) == 2
    assert "needs a predictions file" in capsys.readouterr().err
