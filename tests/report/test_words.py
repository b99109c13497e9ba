"""Sentences of the conclusion and remarks, from results whose answer is known."""

from __future__ import annotations

import pytest
from plain_results import cell, comparison, write_results

from lalm.report.conclusion import conclude
from lalm.report.folder import load_study
from lalm.report.gain import Gain
from lalm.report.more import gain_words, more_speech
from lalm.report.remarks import remarks
from lalm.report.standings import Standings
from lalm.report.words import metric

SHARE = metric("exact_match")


def standings(folder, cells, comparisons=(), references=()):
    return Standings(load_study(write_results(folder, cells, list(references), list(comparisons))))


def said(found: Standings) -> str:
    conclusion = conclude(found, more_speech(found))
    return " ".join([conclusion.headline, *conclusion.sentences])


def three_points(best=0.9):
    return [cell("text_only", 0, 0.6), cell("curriculum", 0.1, 0.8), cell("curriculum", 1.0, best)]


def test_a_decided_gain_is_a_reason_to_record(tmp_path):
    text, few, full = cells = three_points()
    pairs = [comparison(full, text, 0.22, 0.38, "better"), comparison(few, text, 0.12, 0.28, "better")]
    words = said(standings(tmp_path, cells, pairs))
    assert words.startswith(
        "Use the recordings, with curriculum: 100 recordings make the model 30 points better than text alone; 10 of them already 20 points."
    )
    assert "Text alone, without a single recording, reaches 60.0 % (55.0 to 65.0) exact match." in words
    assert "+30.0, 95 % interval +22.0 to +38.0 against text alone" in words


def test_an_undecided_gain_is_not_sold_as_one(tmp_path):
    text, _, full = cells = three_points(best=0.63)
    words = said(standings(tmp_path, cells, [comparison(full, text, -0.02, 0.08, "undecided")]))
    assert words.startswith("Undecided: 100 recordings with curriculum make no difference")
    assert "Use the recordings" not in words


def test_speech_that_hurts_is_said_to(tmp_path):
    text, few, full = cells = three_points(best=0.4)
    found = standings(tmp_path, cells, [comparison(full, text, -0.28, -0.12, "worse")])
    assert said(found).startswith("Train on text alone")
    notes = " ".join(remarks(found))
    assert "Worse than text alone in spite of its recordings: curriculum at 100 recordings (100 %) (−20.0)" in notes
    assert "Curriculum is best at 10 % of the recordings and gets worse with more" in notes
    assert few["metrics"]["exact_match"]["low"] > full["metrics"]["exact_match"]["high"]


def test_comparisons_are_read_from_either_side(tmp_path):
    text, _, full = cells = three_points()
    found = standings(tmp_path, cells, [comparison(text, full, -0.38, -0.22, "worse")])
    sides = {curve.label: curve.own[-1] for curve in found.study.cells}
    turned = found.between(sides["curriculum"], sides["text_only"])
    assert (turned.value, turned.low, turned.high, turned.verdict) == (pytest.approx(0.3), 0.22, 0.38, "better")


def test_rivals_are_told_apart_only_where_they_were(tmp_path):
    cells = [
        cell(s, share, v)
        for s, values in (("curriculum", (0.7, 0.72, 0.8)), ("direct_mixing", (0.6, 0.7, 0.8)))
        for share, v in zip((0.02, 0.1, 1.0), values, strict=True)
    ]
    verdicts = ((0.04, 0.16, "better"), (-0.03, 0.07, "undecided"), (-0.05, 0.05, "undecided"))
    pairs = [comparison(a, b, *rest) for a, b, rest in zip(cells[:3], cells[3:], verdicts, strict=True)]
    found = standings(tmp_path, cells, pairs)
    assert (
        "Against direct mixing, curriculum is clearly better at 2 %, not told apart at 10 % and 100 % of the recordings."
        in said(found)
    )
    leaders = [
        (leader.curve.label, [s.curve.label for s in beaten], [s.curve.label for s in left])
        for leader, beaten, left in found.winners()
    ]
    assert leaders == [
        ("curriculum", ["direct_mixing"], []),
        ("curriculum", [], ["direct_mixing"]),
        ("curriculum", [], ["direct_mixing"]),
    ]


@pytest.mark.parametrize(
    ("low", "high", "verdict", "headline"),
    [
        (
            -0.07,
            0.03,
            "undecided",
            "Undecided between multitask and curriculum: with 100 recordings, they reach 65.0 %",
        ),
        (0.01, 0.1, "better", "Adapt with multitask: it reaches 65.0 %"),
    ],
)
def test_without_text_alone_schemes_are_chosen_where_they_were_told_apart(tmp_path, low, high, verdict, headline):
    cells = [
        cell(s, share, v)
        for s, values in (("multitask", (0.7, 0.65)), ("curriculum", (0.6, 0.67)))
        for share, v in zip((0.1, 1.0), values, strict=True)
    ]
    found = standings(tmp_path, cells, [comparison(cells[1], cells[3], low, high, verdict)])
    assert said(found).startswith(headline)


@pytest.mark.parametrize(("verdict", "first"), [("better", "more_text"), ("undecided", "curriculum")])
def test_a_scheme_of_fewer_shares_is_advised_where_it_clearly_wins(tmp_path, verdict, first):
    cells = [cell("curriculum", 0.1, 0.5), cell("curriculum", 1.0, 0.53), cell("more_text", 1.0, 0.59)]
    other = cell("direct_mixing", 1.0, 0.4)
    low, high = (0.03, 0.1) if verdict == "better" else (-0.02, 0.14)
    pairs = [comparison(cells[2], cells[1], low, high, verdict), comparison(cells[1], other, 0.08, 0.18, "better")]
    found = standings(tmp_path, [*cells, other], pairs)
    assert found.with_speech()[0].label == first
    assert said(found).startswith(f"Adapt with {first.replace('_', ' ')}: it reaches")
    assert "direct_mixing" not in [curve.label for curve in found.with_speech()]


def test_the_cascade_is_compared_at_all_recordings(tmp_path):
    cells = three_points()
    cascade = {"name": "cascade", **cell("curriculum", 1.0, 0.7), "run": "runs/cascade-100-s0"}
    pair = comparison(cells[2], cascade, 0.12, 0.28, "better")
    assert "curriculum is better than it (+20.0, 95 % interval +12.0 to +28.0)" in said(
        standings(tmp_path, cells, [pair], [cascade])
    )


def test_two_points_are_too_few_for_a_curve(tmp_path):
    found = standings(tmp_path, [cell("text_only", 0, 0.6), cell("curriculum", 1.0, 0.8)])
    more = more_speech(found)
    assert more.gains == ()
    assert "at least three are needed" in more.reason
    assert more.reason in said(found)


def test_gains_start_at_the_budgets_and_end_beyond_the_pool(tmp_path):
    more = more_speech(standings(tmp_path, three_points()))
    assert [(gain.start, gain.more, gain.beyond) for gain in more.gains] == [
        (10, 10, False),
        (10, 20, False),
        (100, 10, True),
        (100, 20, True),
    ]


def test_all_right_is_not_taken_for_certain(tmp_path):
    """A bootstrap sees no error where every answer is right; one utterance of the test set is still assumed."""
    exact = [
        cell("text_only", 0, 0.9, half=0.0),
        cell("curriculum", 0.1, 0.95, half=0.0),
        cell("curriculum", 1.0, 1.0, half=0.0),
    ]
    found = standings(tmp_path, exact)
    gain = more_speech(found).gains[0]
    assert gain.high - gain.low > 0.005
    assert "up to 1.5 % may" in " ".join(remarks(found))  # the rule of three: 3 of 200


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        (Gain(10, 20, 0.041, 0.011, 0.068, False), "20 more recordings: +4 points, between 1 and 7"),
        (Gain(10, 20, 0.012, 0.004, 0.021, False), "20 more recordings: +1.2 points, between 0.4 and 2.1"),
        (Gain(10, 20, 0.01, 0.0, 0.05, False), "20 more recordings: +1 point, between 0 and 5"),
        (Gain(10, 50, 0.001, 0.0, 0.004, False), "50 more recordings: next to nothing, less than half a point"),
        (Gain(10, 20, -0.041, -0.068, -0.011, False), "20 more recordings: −4 points, between −1 and −7"),
    ],
)
def test_a_gain_in_words(gain, words):
    assert gain_words(gain, SHARE) == words


def test_failed_answers_and_wide_intervals_are_remarked(tmp_path):
    cells = [cell("text_only", 0, 0.6, half=0.08, status={"ok": 80, "repaired": 10, "failed": 110})]
    notes = remarks(standings(tmp_path, cells))
    assert any("could not be read" in note and "text only at no recordings (0 %): 110 of 200" in note for note in notes)
    assert any("intervals reach ±8 points" in note for note in notes)
    assert any("one seed" in note for note in notes)
    assert any("There is no oracle text reference: no transcripts" in note for note in notes)


def test_numbers_have_a_sign_only_where_they_are_not_zero():
    assert [SHARE.signed(v) for v in (0.0421, -0.0421, 0.0001, -0.0001, None)] == ["+4.2", "−4.2", "0.0", "0.0", "–"]
    assert SHARE.number(0.87349) == "87.3"
    assert metric("extra_slots").shown(0.126) == "0.13 per answer"
    assert not metric("wer").higher_is_better
    assert metric("unknown_metric").higher_is_better
