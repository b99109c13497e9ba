"""Predictions rows of questions: the words are the answer, asking back is seen, and every bad row is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lalm.data.predictions import read_predictions
from lalm.errors import DataError
from lalm.evaluate.parse import asks_back
from lalm.evaluate.predict import prediction_row
from lalm.evaluate.prediction_rows import readings
from lalm.evaluate.score import compare_rows, score_rows
from lalm.records import Example, Frame, Reading, Turn

TURNS = (Turn("narrator", "Mia has two cats.", Path("/sounds/n.flac"), 2.0), Turn("user", "What is it called?"))
QUESTION = Example("q", "Answer.", "Tom", turns=TURNS, answers=("Tom", "tom"), ambiguous=True, language="fr")


def test_what_a_question_was_answered_with_is_read_as_words():
    row = prediction_row(QUESTION, "Which cat do you mean?", 0.1)
    assert (row["status"], row["prediction"], row["answers"], row["ambiguous"]) == (
        "ok",
        {"intent": None, "slots": []},
        ["Tom", "tom"],
        True,
    )
    assert row["turns"] == [
        {"role": "narrator", "text": "Mia has two cats.", "audio": "/sounds/n.flac"},
        {"role": "user", "text": "What is it called?", "audio": None},
    ]
    reference, hypothesis = readings(row)
    assert reference == Reading(None, None, ("Tom", "tom"), True, "fr")
    assert hypothesis == Reading(Frame(None), None, ("Which cat do you mean?",), True, "fr")


def test_metrics_of_labels_do_not_count_questions():
    row = prediction_row(QUESTION, "Which cat do you mean?", 0.1)
    names = ["intent_accuracy", "entity_f1", "slu_f1", "exact_match", "command_acceptance", "extra_slots"]
    scores = score_rows([row], names, num_resamples=10)["metrics"]
    assert {name: score["n"] for name, score in scores.items()} == dict.fromkeys(names, 0)


def test_an_answer_of_nothing_failed_and_an_answer_of_json_is_still_words():
    assert (prediction_row(QUESTION, " ", 0.1)["status"], prediction_row(QUESTION, " ", 0.1)["prediction"]) == (
        "failed",
        None,
    )
    assert readings(prediction_row(QUESTION, "", 0.1))[1].frame is None
    row = prediction_row(QUESTION, '{"intent": "on", "slots": []}', 0.1)
    assert row["prediction"] == {"intent": None, "slots": []}


def test_rows_of_frames_are_what_they_were():
    row = prediction_row(
        Example("a", "Extract.", "", text="on", frame=Frame("on")), '{"intent": "on", "slots": []}', 0.1
    )
    assert set(row) == {"id", "gold", "prediction", "raw", "status", "latency_s", "text"}
    assert readings(row) == (Reading(Frame("on"), "on"), Reading(Frame("on"), None))
    # asked about ambiguity alone, with no answer that is right: still a question
    assert prediction_row(Example("b", "", "", ambiguous=True), "Which?", 0.1)["answers"] == []


@pytest.mark.parametrize(
    ("raw", "asks"),
    [
        ("Which cat?", True),
        ('"Which cat?" ', True),
        ("哪只猫？", True),
        ("Tom. Or is it Kit?", True),
        ("Tom?!", False),
        ("Which? Tom.", False),
        ("", False),
    ],
)
def test_asking_back_ends_with_a_question_mark(raw, asks):
    assert asks_back(raw) is asks


GOOD = {
    "id": "q",
    "gold": {"intent": None},
    "prediction": {"intent": None},
    "status": "ok",
    "raw": "Tom",
    "answers": [],
}
BAD = {
    "answers of another type": ({"answers": "Tom"}, "field 'answers' is 'Tom', a list of strings is needed"),
    "an answer of another type": ({"answers": ["Tom", 3]}, "field 'answers' is ['Tom', 3], a list of strings"),
    "ambiguous in words": ({"ambiguous": "yes"}, "field 'ambiguous' is 'yes', true, false or null"),
    "no words": ({"raw": None}, "field 'raw' is None, a string is needed"),
    "turns of another type": ({"turns": "Mia"}, "field 'turns' is 'Mia', a list of {'role', 'text', 'audio'}"),
    "a turn without a role": ({"turns": [{"text": "Mia"}]}, "field 'turns' is [{'text': 'Mia'}], a list of"),
    "words of another type": (
        {"turns": [{"role": "user", "text": 3}]},
        "field 'turns' is [{'role': 'user', 'text': 3}], a list",
    ),
    "language of another type": ({"language": 3}, "field 'language' is 3, a string is needed"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_row_of_a_question_is_named(tmp_path, kind):
    change, reason = BAD[kind]
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps({**GOOD, "id": "first"}) + "\n" + json.dumps({**GOOD, **change}), encoding="utf-8")
    with pytest.raises(DataError) as error:
        read_predictions(path)
    assert error.value.problems[0].startswith(f"{path}, line 2: {reason}")


def test_ambiguous_without_answers_is_no_question(tmp_path):
    path = tmp_path / "p.jsonl"
    row = {key: value for key, value in GOOD.items() if key != "answers"}
    path.write_text(json.dumps({**row, "ambiguous": True}), encoding="utf-8")
    with pytest.raises(DataError, match="stands there without 'answers'"):
        read_predictions(path)


def test_questions_about_one_passage_are_drawn_together():
    def about(passage: str, number: int, answer: str) -> dict:
        turns = (Turn("narrator", passage), Turn("user", f"Question {number}?"))
        return prediction_row(
            Example(f"{passage}-{number}", "Answer.", "Tom", turns=turns, answers=("Tom",)), answer, 0.1
        )

    answers = ["Tom", "Ann", "Tom", "Tom", "Ann", "Tom"]
    once = [about(f"Passage {place}.", 0, answer) for place, answer in enumerate(answers)]
    # five questions a passage that are all right or all wrong say no more about other passages than one does
    five = [about(f"Passage {place}.", number, answer) for place, answer in enumerate(answers) for number in range(5)]
    found = [score_rows(rows, ["squad_em"])["metrics"]["squad_em"] for rows in (once, five)]
    assert (found[0]["n"], found[1]["n"]) == (6, 30)
    for name in ("value", "low", "high"):
        assert found[1][name] == pytest.approx(found[0][name])
    assert found[1]["high"] - found[1]["low"] > 0.4
    wrong = [[{**row, "raw": "Ann"} for row in rows] for rows in (once, five)]
    apart = [compare_rows([right], [other], "squad_em") for right, other in zip((once, five), wrong, strict=True)]
    assert apart[1] == pytest.approx(apart[0])
