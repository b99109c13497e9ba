"""Which selectors beat random, as the page and the terminal say it: from comparisons, and from nothing else."""

from __future__ import annotations

import fake_study
import pytest

from lalm.report.build import build_report
from lalm.report.folder import load_study
from lalm.report.selectors import against_random
from lalm.report.standings import Standings
from lalm.rundir import read_json, write_json


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Three selectors and random, two shares, two seeds; all of one quality, but for made-up answers' luck."""
    return fake_study.make_study(
        tmp_path_factory.mktemp("selectors"),
        num_test=40,
        schemes=["text_only", "curriculum"],
        speech_shares=[0, 0.1, 0.2],
        selectors=["random", "stratified", "coverage", "got_d"],
        only_at={},
        cascade=None,
    )


def decided(study, tmp_path, **verdicts):
    """The same study with other differences to random at 10 %: selector -> (difference, low, high, verdict)."""
    results = read_json(study / "results.json")
    for one in results["comparisons"]:
        for name, (difference, low, high, verdict) in verdicts.items():
            if (
                one["speech_share"] == 0.1
                and one["a"].startswith(f"curriculum (selector {name})")
                and "random" in one["b"]
            ):
                one.update(difference=difference, low=low, high=high, verdict=verdict)
        if one["speech_share"] == 0.2 and "random" in one["b"]:
            one.update(difference=0.0, low=-0.1, high=0.1, verdict="undecided")
    write_json(tmp_path / "results.json", results)
    return Standings(load_study(tmp_path))


def test_only_what_differs_in_one_thing_is_compared_and_random_is_second(study):
    compared = [(one["a"], one["b"]) for one in read_json(study / "results.json")["comparisons"]]
    at_ten = [pair for pair in compared if all("selector" in side and side.endswith(" 10 %") for side in pair)]
    assert len(at_ten) == 6, "four selectors, each with each"
    assert sum("random" in b for _, b in at_ten) == 3
    assert not any("random" in a for a, _ in at_ten)
    assert sum("text_only" in b for _, b in compared) == 8, "each against text alone, at both shares"


def test_the_winners_are_named_and_only_these(study, tmp_path):
    undecided, worse, better = (
        (0.01, -0.02, 0.04, "undecided"),
        (-0.1, -0.2, -0.05, "worse"),
        (0.05, 0.01, 0.09, "better"),
    )
    said = against_random(decided(study, tmp_path, coverage=better, stratified=worse, got_d=undecided))
    assert said[0] == "Better than a random draw of as many recordings: coverage, in one place at least."
    (ten,) = [line for line in said if "(10 %)" in line]
    assert ten.startswith("At 6 recordings (10 %), command acceptance: ")
    assert "coverage beats random (+5.0, 95 % interval +1.0 to +9.0)" in ten
    assert "stratified is worse than random (−10.0" in ten
    assert "got_d not told apart from random (+1.0" in ten
    assert len(said) == 4
    assert "2 seeds averaged" in said[-1]


def test_that_none_beats_random_is_the_headline(study, tmp_path):
    same = (0.0, -0.1, 0.1, "undecided")
    standings = decided(study, tmp_path, coverage=same, stratified=same, got_d=same)
    assert against_random(standings)[0].startswith("No selector beats a random draw of as many recordings")
    page = build_report([tmp_path], tmp_path / "r.html").read_text(encoding="utf-8")
    headline = page.split('class="headline">')[1].split("</p>")[0]
    assert headline == against_random(standings)[0]
    assert "Against curriculum (selector" not in page
    assert "curriculum, selector coverage" in page, "the list of runs names the selector"
    assert "<dt>selector got_d</dt><dd>GOT-D: what brings" in page


def test_a_study_without_selectors_says_nothing_of_them(tmp_path_factory):
    other = fake_study.make_study(tmp_path_factory.mktemp("plain"), num_test=10, schemes=["curriculum"], only_at={})
    assert against_random(Standings(load_study(other))) == []
