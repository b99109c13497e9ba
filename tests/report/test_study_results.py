"""What `collect` writes: curves and comparisons held against the predictions, clips against the recordings."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import soundfile
from fake_study import make_study, results_of
from plain_results import cell

from lalm.data.predictions import read_predictions
from lalm.errors import DataError
from lalm.evaluate.score import compare_runs
from lalm.study.answers import Answers
from lalm.study.curves import curves
from lalm.study.examples import MAX_DURATION_S, keep_examples


def accepted(study, run) -> dict[str, float]:
    """Per utterance, written anew: intent right and every labelled slot there."""
    result = {}
    for row in read_predictions(study / run / "predictions" / "test.jsonl"):
        found = row["prediction"] or {"intent": None, "slots": []}
        right = found["intent"] == row["gold"]["intent"] and all(
            slot in found["slots"] for slot in row["gold"]["slots"]
        )
        result[row["id"]] = float(right)
    return result


def test_the_documented_fields_are_there(study):
    results = results_of(study)
    assert {"cells", "references", "comparisons"} <= set(results)
    for one in results["cells"]:
        assert {"scheme", "tuner", "speech_share", "num_speech", "seed", "language", "metrics"} <= set(one)
        assert {"seconds", "run", "config_hash"} <= set(one)
    assert {row["name"] for row in results["references"]} == {"cascade", "oracle_text"}
    assert len(results["cells"]) == 2 * (1 + 3 + 3 + 1)


def test_points_are_means_over_seeds_with_an_interval_over_utterances(study):
    results = results_of(study)
    curve = next(c for c in results["curves"] if c["label"] == "curriculum")
    assert [p["num_speech"] for p in curve["points"]] == [0, 3, 6, 60]
    assert [p.get("borrowed", False) for p in curve["points"]] == [True, False, False, False]
    for point in curve["points"]:
        values = np.array([list(accepted(study, run).values()) for run in point["runs"]])
        score = point["metrics"]["command_acceptance"]
        assert score["value"] == pytest.approx(values.mean())
        by_utterance = values.mean(axis=0)
        half = 1.96 * by_utterance.std(ddof=1) / np.sqrt(len(by_utterance))  # the normal approximation
        assert (score["high"] - score["low"]) / 2 == pytest.approx(half, rel=0.25, abs=0.01)


def test_covariance_is_that_of_utterances_plus_the_spread_of_seeds(study):
    results = results_of(study)
    curve = next(c for c in results["curves"] if c["label"] == "direct_mixing")
    ids = sorted(accepted(study, curve["points"][0]["runs"][0]))
    means = []
    for point in curve["points"]:
        answers = [accepted(study, run) for run in point["runs"]]
        means.append([np.mean([one[key] for one in answers]) for key in ids])
    expected = np.cov(np.array(means)) / len(ids)
    found = np.array(curve["covariance"])
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    off = ~np.eye(len(found), dtype=bool)
    assert (np.abs(found - expected) / scale)[off].max() < 0.15  # 1000 resamples
    cells = [c for c in results["curves"] if c["role"] == "cell"]
    seeds = [p["seed_values"]["command_acceptance"] for c in cells for p in c["points"] if not p.get("borrowed")]
    pooled = np.mean([np.var(pair, ddof=1) for pair in seeds])
    extra = np.diag(found) - np.diag(expected)
    assert extra == pytest.approx(np.full(len(found), pooled / 2), abs=0.15 * np.diag(expected).max())


def test_comparisons_are_paired_and_seeds_are_averaged(study):
    results = results_of(study)
    pairs = {(c["a"], c["b"]): c for c in results["comparisons"]}
    found = pairs["curriculum 100 %", "cascade 100 %"]
    files = [[study / run / "predictions" / "test.jsonl" for run in found[side]] for side in ("a_runs", "b_runs")]
    again = compare_runs(*files, "command_acceptance")
    assert {key: found[key] for key in again} == again
    means = [np.mean([list(accepted(study, run).values()) for run in found[side]]) for side in ("a_runs", "b_runs")]
    assert found["difference"] == pytest.approx(means[0] - means[1])
    for share in ("5 %", "10 %", "100 %"):
        assert (f"direct_mixing {share}", f"curriculum {share}") in pairs
        assert (f"curriculum {share}", "text_only 0 %") in pairs
        assert (f"curriculum {share}", f"cascade {share}") in pairs
    assert ("text_only 0 %", "cascade 0 %") in pairs


def test_runs_over_other_utterances_are_refused(study, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(study, copy)
    path = copy / "runs" / "curriculum-100-s1" / "predictions" / "test.jsonl"
    path.write_text("\n".join(path.read_text(encoding="utf-8").splitlines()[1:]), encoding="utf-8")
    answers = Answers(copy)
    answers.rows("runs/curriculum-100-s0")
    with pytest.raises(DataError, match="holds other items than the other runs"):
        answers.rows("runs/curriculum-100-s1")


def test_schemes_that_differ_in_an_option_are_curves_of_their_own():
    options = [{"speech_passes": 1.0, "synthetic_passes": 0.0}, {"speech_passes": 3.0, "synthetic_passes": 0.0}]
    cells = [cell("curriculum", share, 0.7, options=one) for one in options for share in (0.1, 1.0)]
    cells += [
        cell("text_only", 0.0, 0.5),
        cell("text_only", 0.0, 0.6, synthetic=True, options={"synthetic_passes": 1.0}),
    ]
    made = curves(cells, [], "exact_match")
    labels = [curve["label"] for curve in made]
    assert labels == [
        "curriculum (speech_passes 1)",
        "curriculum (speech_passes 3)",
        "text_only",
        "text_only (synthetic speech)",
    ]
    assert made[0]["points"][0]["runs"] == ["runs/text_only-0-s0"]
    assert made[0]["points"][0]["metrics"]["exact_match"]["value"] == 0.5  # of text only without synthetic speech


def test_without_predictions_intervals_are_the_means_of_the_seeds_intervals():
    cells = [cell("curriculum", 1.0, 0.7, half=0.04), cell("curriculum", 1.0, 0.8, half=0.06, seed=1)]
    made = curves(cells, [], "exact_match")
    score = made[0]["points"][0]["metrics"]["exact_match"]
    assert (score["value"], score["low"], score["high"]) == pytest.approx((0.75, 0.70, 0.80))
    assert made[0]["covariance"] is None
    assert not curves([cell("speech_only", 1.0, 0.3), cell("text_only", 0.0, 0.5)], [], "exact_match")[0]["points"][
        0
    ].get("borrowed")


def test_examples_are_errors_with_their_recordings(study):
    results = results_of(study)
    examples = results["examples"]
    assert 6 <= len(examples) <= 10
    assert len({example["id"] for example in examples}) == len(examples)
    best, text = examples[0]["runs"]
    right = {run: accepted(study, run) for run in (best, text)}
    assert best == "runs/curriculum-100-s0"
    rows = {row["id"]: row for row in read_predictions(study / best / "predictions" / "test.jsonl")}
    for example in examples:
        wrong = {"best_wrong": best, "text_only_wrong": text}[example["why"]]
        assert right[wrong][example["id"]] == 0
        if example["why"] == "text_only_wrong":
            assert right[best][example["id"]] == 1
        clip, rate = soundfile.read(study / example["audio"])
        source, _ = soundfile.read(rows[example["id"]]["audio"])
        assert len(clip) / rate == pytest.approx(len(source) / 16_000, abs=0.15)
        spectrum = [np.abs(np.fft.rfft(one, 16_000)).argmax() for one in (clip, source)]
        assert spectrum[0] == pytest.approx(spectrum[1], abs=5)  # the same tone, in Hz
    assert {e["why"] for e in examples} == {"best_wrong", "text_only_wrong"}
    assert len(list((study / "examples").iterdir())) == len(examples)
    assert sum(path.stat().st_size for path in (study / "examples").iterdir()) < 200_000


def test_recordings_that_are_gone_or_too_long_are_named(study, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(study, out)
    long = tmp_path / "long.wav"
    soundfile.write(long, np.zeros(int((MAX_DURATION_S + 1) * 8000)), 8000)
    for run in ("curriculum-100-s0", "text_only-0-s0"):
        path = out / "runs" / run / "predictions" / "test.jsonl"
        rows = read_predictions(path)
        for index, row in enumerate(rows):
            row["audio"] = str(long) if index % 2 else "gone.wav"
        path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    examples = keep_examples(out, results_of(out)["curves"], "command_acceptance", Answers(out))
    reasons = {example["reason"] for example in examples}
    assert all(example["audio"] is None for example in examples)
    assert len(reasons) == 2
    assert any("longer than 30 s" in reason for reason in reasons)
    assert list((out / "examples").glob("*.mp3")) == []


def test_a_study_without_transcripts_says_why_there_is_no_oracle(tmp_path):
    out = make_study(
        tmp_path,
        transcripts=False,
        num_test=12,
        schemes=["text_only"],
        speech_shares=[0],
        only_at={},
        seeds=[0],
        cascade=None,
    )
    assert results_of(out)["references"] == [
        {"name": "oracle_text", "metrics": None, "reason": "not all test recordings have a transcript"}
    ]
