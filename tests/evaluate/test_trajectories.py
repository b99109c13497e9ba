"""Figures of dialogues worked out by hand: what counts at which turn, replies that share a row's weight, and the draw."""

from __future__ import annotations

import numpy as np
import pytest

from lalm.evaluate import stats
from lalm.evaluate.trajectories import NAMES, count, differences, score

ASKED = "Which cat do you mean?"


def said(text: str) -> dict:
    return {"role": "assistant", "text": text, "asks": text.endswith("?"), "latency_s": 0.1}


USER = {"role": "user", "text": "The black one.", "audio": None}


def clear(name: str, text: str, *answers: str, passage: str | None = None) -> dict:
    turns = [said(text)]
    return {
        "id": name,
        "passage": passage or name,
        "ambiguous": False,
        "reply": None,
        "turns": turns,
        "answers": answers,
    }


def ambiguous(name: str, reply: int, turns: list, *answers: str, passage: str | None = None) -> dict:
    row = {
        "id": name,
        "passage": passage or name,
        "ambiguous": True,
        "reply": reply,
        "turns": turns,
        "answers": answers,
    }
    return {**row, "clarification": ASKED}


def values(*trajectories: dict) -> dict[str, float | None]:
    return {name: found["value"] for name, found in score(trajectories, 100)["metrics"].items()}


def test_clear_requests():
    found = values(
        clear("right", "the sofa.", "sofa"),
        clear("half", "red sofa", "sofa"),
        clear("asks", "Which sofa?", "which sofa"),
        clear("wrong", "bed", "sofa", "couch"),
    )
    assert found["turn_em"] == found["trajectory_em"] == 1 / 4
    # one word of two right, the one of one found: F1 2/3; asking counts 0 whatever its words
    assert found["turn_f1"] == found["trajectory_f1"] == pytest.approx((1 + 2 / 3) / 4)
    assert found["asks_when_clear"] == 1 / 4
    assert found["clarification_precision"] == 0
    assert found["clarification_recall"] is None
    assert found["question_overlap"] is None


def test_after_a_question_each_reply_has_its_part_of_the_row():
    found = values(
        ambiguous("a", 0, [said(ASKED), USER, said("Tom")], "Tom"),
        ambiguous("a", 1, [said(ASKED), USER, said("Tom")], "Kit"),
        clear("b", "Eve", "Eve"),
    )
    # row a: one of two replies is answered rightly; row b is right
    assert found["turn_em"] == found["trajectory_em"] == (1 / 2 + 1) / 2
    assert (found["clarification_recall"], found["clarification_precision"], found["asks_when_clear"]) == (1, 1, 0)
    assert found["question_overlap"] == 1


def test_an_ambiguous_request_that_was_answered_at_once():
    found = values(*(ambiguous("a", number, [said("Tom")], name) for number, name in enumerate(("Tom", "Kit"))))
    assert found["trajectory_em"] == 1 / 2, "what one of the two would have wanted to know"
    assert found["turn_em"] is None, "no answer was due"
    assert (found["clarification_recall"], found["clarification_precision"]) == (0, None)


def test_a_dialogue_that_ends_with_a_question():
    twice = [said(ASKED), USER, said("Tom or Kit?"), USER, said("Which one, Tom?")]
    found = values(ambiguous("a", 0, twice, "Tom"))
    assert found["turn_em"] == found["trajectory_f1"] == 0
    once = [said("Whose cat?"), USER, said("Tom or Kit?"), USER, said("Tom")]
    found = values(ambiguous("a", 0, once, "Tom"))
    assert (found["turn_em"], found["trajectory_em"]) == (1 / 2, 1), "two answers were due, the second is right"
    # "whose cat" and "which cat do you mean" share one word of two and five
    assert found["question_overlap"] == pytest.approx(2 * 1 / (2 + 5))


def some() -> list[dict]:
    rng = np.random.default_rng(0)
    rows = []
    for number in range(40):
        passage = f"p{number // 4}"
        text = ("Tom", "Kit", "Tom Kit", "Who?")[rng.integers(4)]
        if number % 2:
            rows.append(clear(f"c{number}", text, "Tom", passage=passage))
        else:
            turns = [said(ASKED), USER, said(text)] if rng.random() < 0.7 else [said(text)]
            rows += [
                ambiguous(f"a{number}", reply, turns, name, passage=passage)
                for reply, name in enumerate(("Tom", "Kit"))
            ]
    return rows


def test_intervals_draw_passages_whole():
    rows = some()
    counts = count(rows)
    found = score(rows, 500, seed=3)
    for name in NAMES:
        assert counts[name].shape == (10, 2)
        value, low, high = stats.interval(counts[name], lambda c: c[..., 0] / c[..., 1], 500, 3)
        assert [found["metrics"][name][key] for key in ("value", "low", "high")] == pytest.approx([value, low, high])
        assert found["counts"][name] == pytest.approx(counts[name].sum(axis=0))
    assert found["metrics"]["trajectory_em"]["n"] == 40
    assert found["metrics"]["clarification_recall"]["n"] == 20
    alone = score([{**row, "passage": row["id"]} for row in rows], 500, seed=3)["metrics"]["trajectory_em"]
    assert alone["value"] == pytest.approx(found["metrics"]["trajectory_em"]["value"])
    assert alone["low"] != found["metrics"]["trajectory_em"]["low"]


def test_differences_are_paired_and_know_which_way_is_better():
    rows = some()
    worse = [
        {**row, "turns": [said("Who?")]} if not row["ambiguous"] else {**row, "turns": [said("no")]} for row in rows
    ]
    found = differences(worse, rows)
    assert found["trajectory_em"]["verdict"] == "worse"
    assert found["clarification_recall"]["verdict"] == "worse"
    assert found["asks_when_clear"]["verdict"] == "worse", "more is not better"
    assert found["asks_when_clear"]["difference"] > 0
    same = differences(rows, rows)
    assert all(one["difference"] == 0 and one["verdict"] == "undecided" for one in same.values())
