"""Answers under noise: what is answered, how the figures are made, and what is said of mistakes. On the tiny model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import soundfile
from prediction_rows import made_up, rows_of
from tones import HIGH, LOW, RATE_HZ

from lalm.cli import main
from lalm.config import EvaluateSection
from lalm.data import audio, noise
from lalm.data.manifest import write_manifest
from lalm.errors import UserError
from lalm.evaluate import predict, robustness
from lalm.records import Frame, Utterance
from lalm.rundir import RunDir, read_json


@pytest.fixture
def own(run: Path, tmp_path: Path) -> Path:
    """A copy of the run as it was trained, to be written to."""
    copy = tmp_path / "run"
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("predictions", "scores"))
    return copy


@pytest.fixture(scope="session")
def hiss(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two recordings of noise, one of them shorter than the tones."""
    folder = tmp_path_factory.mktemp("hiss")
    rng = np.random.default_rng(0)
    soundfile.write(folder / "long.flac", 0.1 * rng.standard_normal(2 * RATE_HZ), RATE_HZ)
    soundfile.write(folder / "short.wav", 0.3 * rng.standard_normal(1000), 8000)
    return folder


def without_time(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "latency_s"} for row in rows]


def test_a_set_is_answered_clean_and_at_every_ratio(own: Path, hiss: Path, capsys: pytest.CaptureFixture[str]):
    predict.predict_run(own)
    alone = rows_of(own / "predictions" / "test.jsonl")
    assert main(["predict", str(own), "--noise", str(hiss), "--snr=-25.5,40"]) == 0
    shown = capsys.readouterr().out
    files = {path.name for path in (own / "predictions").iterdir()}
    assert files == {"test.jsonl", "test-snr40.jsonl", "test-snr-25.5.jsonl"}
    clean = rows_of(own / "predictions" / "test.jsonl")
    assert without_time(clean) == without_time(alone)
    summary = read_json(own / "scores" / "test-robustness.json")
    assert shown.rstrip().endswith(f"Done: {own / 'scores' / 'test-robustness.json'}")
    assert "40 dB" in shown
    assert summary["snr_db"] == [40.0, -25.5]
    assert (summary["num"], summary["num_without_recording"], summary["published"]) == (4, 0, None)
    assert summary["noise"] | {"sha256": ""} == {
        "folder": hiss.name,
        "files": ["long.flac", "short.wav"],
        "sha256": "",
        "seed": 0,
    }
    assert summary["clean"]["metrics"]["exact_match"]["value"] == 1.0
    for level in summary["levels"]:
        name = f"test-snr{level['snr_db']:g}"
        rows = rows_of(own / "predictions" / f"{name}.jsonl")
        assert [row["id"] for row in rows] == [row["id"] for row in clean]
        assert [row["audio"] for row in rows] == [row["audio"] for row in clean], "the copies with noise are gone"
        assert {row["snr_db"] for row in rows} == {level["snr_db"]}
        right = np.mean([row["prediction"] == row["gold"] for row in rows])
        assert level["metrics"]["exact_match"]["value"] == right
        scores = read_json(own / "scores" / f"{name}.json")["metrics"]["exact_match"]
        assert {key: level["metrics"]["exact_match"][key] for key in scores} == scores
        assert level["metrics"]["exact_match"]["difference_to_clean"]["difference"] == right - 1
    mean = summary["mean"]["metrics"]["exact_match"]
    assert mean["value"] == np.mean([level["metrics"]["exact_match"]["value"] for level in summary["levels"]])
    assert RunDir(own).sets() == ["test"], "what the summary is made from is no set of its own"


def test_the_model_is_given_the_noisy_files(own: Path, hiss: Path, monkeypatch: pytest.MonkeyPatch):
    """Watched while it answers: the tiny model tells its tones apart by their lengths, which noise leaves as they are."""
    heard: list[list[np.ndarray]] = []
    really = robustness.answered

    def watched(model: Any, examples: Any, *others: Any) -> list[dict[str, Any]]:
        heard.append([audio.load(one.audio) for one in examples])
        return really(model, examples, *others)

    monkeypatch.setattr(robustness, "answered", watched)
    robustness.predict_noisy(own, hiss, "6,12", seed=5)
    clean, *noisy = heard
    assert [len(one) for one in clean] == [len(LOW), len(HIGH) - 320, len(LOW) - 640, len(HIGH) - 960]
    for level, samples in zip((12, 6), noisy, strict=True):
        for index, (speech, mixed) in enumerate(zip(clean, samples, strict=True)):
            rng = noise.generator(5, f"test-{index}")
            assert mixed == pytest.approx(noise.mix(speech, noise.read_noise(hiss), level, rng), abs=2**-23)


def power_of_tone(samples: np.ndarray) -> float:
    """Mean power by whole frames of 32 ms: a tone that starts softly, but not so softly that a frame is left out."""
    frames = samples[: len(samples) // 512 * 512].astype(float)
    return float(np.mean(frames**2))


def test_the_stated_ratio_is_in_the_files_and_one_stretch_at_all_ratios(run: Path, hiss: Path, tmp_path: Path):
    rows = [Utterance(f"test-{index}", audio=run.parent / f"test-{index}.wav") for index in range(4)]
    sources = noise.read_noise(hiss)

    def copies(snr_db: float, seed: int, name: str) -> list[Path]:
        (tmp_path / name).mkdir()
        found = robustness.write_noisy(rows, tmp_path / name, sources, snr_db, seed)
        assert [row.id for row in found] == [row.id for row in rows]
        return [row.audio for row in found]

    soft, loud = copies(20, 3, "soft"), copies(10, 3, "loud")
    voiced = [power_of_tone(audio.load(row.audio)) for row in rows]
    for row, power, *noisy in zip(rows, voiced, soft, loud, strict=True):
        speech = audio.load(row.audio)
        added = [audio.load(path).astype(float) - speech for path in noisy]
        ratios = [10 * np.log10(power / np.mean(one**2)) for one in added]
        assert ratios == pytest.approx([20, 10], abs=0.1)
        assert np.corrcoef(*added)[0, 1] > 0.999
    again, other = copies(10, 3, "again"), copies(10, 4, "other")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in loud]
    assert not {path.read_bytes() for path in other} & {path.read_bytes() for path in loud}


def test_written_rows_are_answered_clean_alone_and_counted(own: Path, hiss: Path, tmp_path: Path):
    soundfile.write(tmp_path / "low.wav", LOW, RATE_HZ)
    rows = [
        Utterance("written", "turn it on", frame=Frame("on")),
        Utterance("said", audio=tmp_path / "low.wav", frame=Frame("on"), source="recorded"),
    ]
    write_manifest(tmp_path / "mixed.jsonl", rows)
    path = robustness.predict_noisy(own, hiss, "30", manifest=tmp_path / "mixed.jsonl")
    assert path == own / "scores" / "mixed-robustness.json"
    assert [row["id"] for row in rows_of(own / "predictions" / "mixed.jsonl")] == ["written", "said"]
    assert [row["id"] for row in rows_of(own / "predictions" / "mixed-snr30.jsonl")] == ["said"]
    summary = read_json(path)
    assert (summary["num"], summary["num_without_recording"]) == (1, 1)
    assert summary["clean"]["metrics"]["exact_match"]["n"] == 1
    assert "1 row without a recording left out" in robustness.as_text(summary)


def test_figures_are_those_of_a_plain_bootstrap():
    rng = np.random.default_rng(1)
    hard = rng.random(150)
    right = {level: hard + 0.1 * rng.standard_normal(150) < edge for level, edge in ((24.0, 0.8), (6.0, 0.6))}
    clean = hard < 0.85
    cfg = EvaluateSection(metrics=("intent_accuracy",), num_resamples=20_000)
    found = robustness.summarise(made_up(clean), {level: made_up(one) for level, one in right.items()}, cfg)

    def theirs(per_item: np.ndarray) -> tuple[float, float]:
        interval = scipy.stats.bootstrap(
            (per_item.astype(float),), np.mean, n_resamples=20_000, method="percentile", rng=2
        ).confidence_interval
        return interval.low, interval.high

    def check(score: dict[str, Any], per_item: np.ndarray, name: str = "value", abs_: float = 0.006) -> None:
        assert score[name] == pytest.approx(per_item.mean())
        assert (score["low"], score["high"]) == pytest.approx(theirs(per_item), abs=abs_)

    both = np.stack(list(right.values())).astype(float)
    check(found["clean"]["metrics"]["intent_accuracy"], clean)
    for level, one in zip(found["levels"], both, strict=True):
        score = level["metrics"]["intent_accuracy"]
        check(score, one)
        # 4,000 draws: a percentile of them errs by 0.002
        check(score["difference_to_clean"], one - clean, "difference", 0.012)
    mean = found["mean"]["metrics"]["intent_accuracy"]
    check(mean, both.mean(axis=0))
    check(mean["difference_to_clean"], both.mean(axis=0) - clean, "difference", 0.012)
    assert mean["n"] == 150
    assert mean["difference_to_clean"]["verdict"] == "worse"
    apart = np.mean([level["metrics"]["intent_accuracy"]["high"] for level in found["levels"]]) - mean["value"]
    assert mean["high"] - mean["value"] < apart, "the average of the intervals would be wider"


def test_a_metric_without_a_count_has_no_figure():
    cfg = EvaluateSection(metrics=("wer",), num_resamples=10)
    rows = made_up(np.array([True, False]))
    found = robustness.summarise(rows, {6.0: rows}, cfg)
    assert found["mean"]["metrics"]["wer"] == {
        "value": None,
        "low": None,
        "high": None,
        "n": 0,
        "difference_to_clean": {"difference": None, "low": None, "high": None, "verdict": "undecided"},
    }
    assert "nothing could be counted" in robustness.as_text({**found, "num_without_recording": 0})


def test_published_figures_come_from_the_corpus():
    found = robustness.published("barista")
    assert found is not None
    assert max(found["values"], key=found["values"].get) == "Picovoice Rhino"
    assert found["metric"] == "command_acceptance"
    assert robustness.published("fsdd") is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--snr", "6"], "--snr belongs to --noise"),
        (["--seed", "1"], "--seed belongs to --noise"),
        (["--noise", "HISS", "--snr", "6,loud"], "'loud' is no ratio in dB"),
        (["--noise", "HISS", "--snr", ""], "'' is no ratio in dB"),
        (["--noise", "HISS", "--snr", "nan"], "no ratio in dB"),
        (["--noise", "HISS", "--snr", "1e9"], "no ratio in dB"),
        (["--noise", "HISS", "--snr", "6,6.0"], "6 stands there twice"),
        (["--noise", "HISS", "--seed", "-1"], "--seed -1"),
        (["--noise", "HISS", "--out", "there.jsonl"], "--out names one file"),
        (["--noise", "nowhere"], "nowhere: there is no such folder"),
        (["--noise", "EMPTY"], "holds no recordings of noise"),
        (["--noise", "HISS", "--split", "tset"], "Did you mean 'test'"),
    ],
)
def test_mistakes_are_said_and_nothing_is_written(
    own: Path, hiss: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
):
    (tmp_path / "empty").mkdir()
    places = {"HISS": str(hiss), "EMPTY": str(tmp_path / "empty")}
    shutil.rmtree(own / "predictions", ignore_errors=True)
    assert main(["predict", str(own), *(places.get(word, word) for word in arguments)]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "[predict]" not in said
    assert not (own / "predictions").exists()


def test_a_run_that_is_not_finished_and_speech_that_cannot_be_used_are_said(own: Path, hiss: Path, tmp_path: Path):
    with pytest.raises(UserError, match="not a finished run folder"):
        robustness.predict_noisy(tmp_path, hiss)
    soundfile.write(tmp_path / "still.wav", np.zeros(4000), RATE_HZ)
    soundfile.write(tmp_path / "high.wav", HIGH, RATE_HZ)
    soundfile.write(tmp_path / "nan.wav", np.full(4000, np.nan), RATE_HZ, subtype="FLOAT")
    rows = [Utterance(name, audio=tmp_path / f"{name}.wav", source="recorded") for name in ("still", "high", "nan")]
    write_manifest(tmp_path / "bad.jsonl", rows)
    with pytest.raises(UserError, match="2 of 3 recordings cannot be used") as caught:
        robustness.predict_noisy(own, hiss, manifest=tmp_path / "bad.jsonl")
    assert "still.wav: is silent" in str(caught.value)
    write_manifest(tmp_path / "words.jsonl", [Utterance("one", "turn it on")])
    with pytest.raises(UserError, match="holds no recordings"):
        robustness.predict_noisy(own, hiss, manifest=tmp_path / "words.jsonl")
