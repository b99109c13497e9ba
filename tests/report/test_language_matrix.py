"""Studies across languages: variants of the data, results by language, the matrix, and what recordings are worth."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
import pytest
import soundfile
import yaml
from fake_study import log_rows, results_of, run_info
from matplotlib.backends.backend_agg import FigureCanvasAgg

from lalm.config import to_yaml
from lalm.data.manifest import write_manifest
from lalm.data.pools import load_pools
from lalm.errors import ConfigError
from lalm.evaluate.score import score_rows
from lalm.records import Frame, Stage, Utterance
from lalm.report import heat_map
from lalm.report.build import build_report
from lalm.report.folder import load_study as load_folder
from lalm.report.languages import language_table, worth, worth_words
from lalm.report.standings import Standings
from lalm.report.tables import score_table
from lalm.report.words import metric
from lalm.rundir import RunDir, read_json, write_json, write_jsonl, write_text
from lalm.sections import PluginChoice
from lalm.study.answers import Answers
from lalm.study.collect import collect
from lalm.study.plan import Run, load_study, runs
from lalm.train.provenance import languages_of
from lalm.train.setup import make_examples, plan

METRICS = ("exact_match", "wer")
VARIANTS = {
    "zero": {"data": {"languages": {"en": {}}}},
    "T": {"data": {"languages": {"en": {}, "fr": {"num_text": 10, "speech_items": 0}}}, "speech_shares": [0, 1]},
    "T+S": {
        "data": {"languages": {"en": {}, "fr": {"num_text": 10, "speech_items": 10}}},
        "schemes": ["curriculum"],
        "speech_shares": [0],
    },
}


def write_corpus(root: Path) -> Path:
    """English and French: text, a pool of recordings and a test set each."""
    root.mkdir()
    for number in range(4):
        tone = 0.2 * np.sin(2 * np.pi * (220 + 60 * number) * np.arange(6400) / 16_000)
        soundfile.write(root / f"{number}.wav", tone, 16_000)
    rows = []
    for language, split, number in (("en", "train", 40), ("fr", "train", 20), ("en", "test", 30), ("fr", "test", 60)):
        for index in range(number):
            said = Utterance(
                f"{language}-{split}-{index:02d}",
                f"say {language} {index}",
                frame=Frame("on"),
                language=language,
                split=split,
            )
            heard = Utterance(
                f"{said.id}-s", said.text, root / f"{2 * (split == 'test') + index % 2}.wav", said.frame, language,
                duration_s=0.4, split=split, source="recorded",
            )  # fmt: skip
            rows += [said, heard] if split == "train" else [heard]
    write_manifest(root / "manifest.jsonl", rows)
    return root / "manifest.jsonl"


def accuracy(run: Run, language: str) -> float:
    """What a made-up run gets right: French gains from English speech, and more from its own."""
    level = {"zero": 0.2, "T": 0.4, "T+S": 0.5}[str(run.variant)] + 0.2 * run.share
    return level if language == "fr" else 0.8


def write_run(out: Path, run: Run) -> None:
    pools = load_pools(run.recipe.data)
    folder, rng = RunDir(out / "runs" / run.name), Random(run.name)
    for name in ("test", "oracle_text"):
        rows = []
        for row in pools.test:
            right = Random(row.id).random() < accuracy(run, row.language) + 0.1 * (name == "oracle_text")
            frame = {"intent": "on" if right else "off", "slots": []}
            made = {"id": row.id, "gold": {"intent": "on", "slots": []}, "prediction": frame, "raw": "", "status": "ok"}
            made |= {"latency_s": 0.1, "text": row.text} | ({"language": "fr"} if row.language == "fr" else {})
            heard = {"audio": str(row.audio), "heard": row.text if rng.random() < 0.5 else "say it"}
            rows.append({**made, **(heard if name == "test" else {})})
        write_jsonl(folder.predictions(name), rows)
        write_json(folder.scores(name), score_rows(rows, METRICS, 100))
    stages = plan(run.recipe, make_examples(run.recipe, pools))
    write_text(folder.recipe, to_yaml(run.recipe))
    write_json(
        folder.info,
        {**run_info(run, len(pools.speech)), "num_text": len(pools.text), "languages": languages_of(pools, stages)},
    )
    write_jsonl(folder.log, log_rows())


def study_file(folder: Path, **changes) -> Path:
    values = {
        "title": "What English speech buys for French",
        "recipe": {
            "data": {"corpus": "jsonl", "root": str(folder / "corpus" / "manifest.jsonl")},
            "backbone": {"name": "smol", "tiny": True},
            "evaluate": {"metrics": list(METRICS), "num_resamples": 100},
        },
        "schemes": ["text_only", "curriculum"],
        "speech_shares": [0, 0.5, 1],
        "seeds": [0, 1],
        "variants": VARIANTS,
        "primary_metric": "exact_match",
        **changes,
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("languages")
    write_corpus(folder / "corpus")
    asked, base = load_study(study_file(folder))
    todo = runs(asked, base)
    out = folder / "study"
    for run in todo:
        write_run(out, run)
    write_text(out / "study.yaml", (folder / "study.yaml").read_text(encoding="utf-8"))
    collect(out, asked, todo)
    return out


def test_variants_are_run_where_they_say(study):
    names = sorted(path.name for path in (study / "runs").iterdir() if path.name.endswith("s0"))
    assert names == [
        "T+S-curriculum-0-s0",
        "T-curriculum-100-s0",
        "T-text_only-0-s0",
        "zero-curriculum-100-s0",
        "zero-curriculum-50-s0",
        "zero-text_only-0-s0",
    ]
    trained = {cell["run"]: cell["trained_on"] for cell in results_of(study)["cells"]}
    assert trained["runs/zero-curriculum-50-s0"] == {"en": {"num_text": 40, "num_speech": 20, "num_synthetic": 0}}
    assert trained["runs/T+S-curriculum-0-s0"] == {
        "en": {"num_text": 40, "num_speech": 0, "num_synthetic": 0},
        "fr": {"num_text": 10, "num_speech": 10, "num_synthetic": 0},
    }


def test_points_and_comparisons_of_a_language_are_those_of_its_rows(study):
    results = results_of(study)
    assert {cell["language"] for cell in results["cells"]} == {"mul"}
    for point in results["by_language"]["points"]:
        name = "oracle_text" if point["modality"] == "text" else "test"
        shares = []
        for run in point["runs"]:
            rows = [json.loads(line) for line in (study / run / "predictions" / f"{name}.jsonl").open(encoding="utf-8")]
            own = [row for row in rows if row.get("language", "en") == point["language"]]
            assert point["n"] == len(own)
            shares.append(np.mean([row["prediction"] == row["gold"] for row in own]))
        assert point["value"] == pytest.approx(np.mean(shares))
        assert point["low"] <= point["value"] <= point["high"]
    values = {(p["runs"][0], p["language"], p["modality"]): p["value"] for p in results["by_language"]["points"]}
    found = results["by_language"]["comparisons"]
    assert {one["language"] for one in found} == {"en", "fr"}
    for one in found:
        sides = [values[runs[0], one["language"], "speech"] for runs in (one["a_runs"], one["b_runs"])]
        assert one["difference"] == pytest.approx(sides[0] - sides[1])
    pairs = [frozenset((one["a"], one["b"])) for one in results["comparisons"]]
    assert len(pairs) == len(set(pairs)) == 14, "six points: every pair once, but not two shares of one variant"
    gains = [one for one in found if one["language"] == "fr" and {one["a"], one["b"]} >= {"curriculum (zero) 100 %"}]
    assert any("text_only (zero) 0 %" in (one["a"], one["b"]) and one["verdict"] != "undecided" for one in gains)


def test_the_page_draws_the_matrix_and_says_what_recordings_are_worth(study):
    page = build_report([study]).read_text(encoding="utf-8")
    assert 'aria-label="exact match by what was trained on and the language of the test"' in page
    assert "English: 40 texts, 20 recordings" in page
    assert "10 recordings in French are worth as much as about" in page
    assert "Paired comparisons by language" in page
    table = language_table(load_folder(study))
    assert [entry.text for entry in table.header] == [
        "trained on",
        "English, heard",
        "French, heard",
        "English, read",
        "French, read",
    ]
    assert "curriculum (T+S)" in [row[0].text for row in table.groups[0].rows]
    assert "French" in build_report([study], fmt="markdown").read_text(encoding="utf-8")


def test_recordings_are_not_credited_with_other_text(study):
    """The best way has French text that the text-only runs of other variants have not: nothing is said of text alone."""
    standings = Standings(load_folder(study))
    by_variant = {curve.trait("variant"): curve for curve in standings.study.cells if curve.scheme == "curriculum"}
    assert standings.text_only(by_variant["T+S"]) is None
    assert standings.text_only(by_variant["T"]).curve.trait("variant") == "T"

    assert [entry.text for entry in score_table(standings.study, [standings.metric], "x").header] == [
        "recordings", "0 to 10", "20", "40"
    ], "at share 0 a variant has ten recordings"  # fmt: skip
    page = build_report([study]).read_text(encoding="utf-8")
    assert "(T+S)" in page
    assert "(t+s)" not in page


def test_what_was_not_heard_was_not_trained_on(study, tmp_path):
    """A scheme that reads alone hears nothing of the recordings that its budget holds."""
    asked, base = load_study(study.parent / "study.yaml")
    run = next(one for one in runs(asked, base) if one.variant == "T+S")
    recipe = run.recipe.model_copy(update={"scheme": PluginChoice(name="text_only")})
    pools = load_pools(recipe.data)
    assert len(pools.speech) == 10
    found = languages_of(pools, plan(recipe, make_examples(recipe, pools)))
    assert found["fr"] == {"num_text": 10, "num_speech": 0, "num_synthetic": 0}
    (part,) = [Stage("French", {"text": 0.0, "text@fr": 1.0}, epochs=1)]
    assert {language: one["num_text"] for language, one in languages_of(pools, [part]).items()} == {"en": 0, "fr": 10}


def test_a_metric_that_applies_to_no_row_of_a_run_has_no_value(study, tmp_path):
    """Nothing is heard where transcripts are answered, so their word error rate is not known."""
    out = tmp_path / "study"
    shutil.copytree(study, out)
    asked, base = load_study(study.parent / "study.yaml", ["primary_metric=wer"])
    collect(out, asked, runs(asked, base))
    values = read_json(out / "results.json")["by_language"]["points"]
    assert {point["value"] is None for point in values if point["modality"] == "text"} == {True}
    assert {point["value"] is None for point in values if point["modality"] == "speech"} == {False}
    answers = Answers(out)
    runs_of = next(point["runs"] for point in values)
    found = answers.compare(runs_of, runs_of, "wer", ("test", "oracle_text"))
    assert found == {"difference": None, "low": None, "high": None, "verdict": "undecided"}
    assert np.isnan(answers.resample(runs_of, "wer", "oracle_text")).all()
    assert "French" in build_report([out]).read_text(encoding="utf-8")


def test_the_figure_of_twelve_languages_can_be_read(study, tmp_path, monkeypatch):
    codes = ["ar", "de", "en", "es", "fr", "hu", "ko", "nl", "pl", "pt", "ru", "vi"]
    rows = [
        {**points((0, 0, 0.1234, 0.1, 0.2))[0], "language": code, "modality": modality}
        for code in codes
        for modality in ("speech", "text")
    ]
    write_json(
        tmp_path / "results.json",
        {**read_json(study / "results.json"), "by_language": {"points": rows, "comparisons": []}},
    )
    drawn = []
    monkeypatch.setattr(heat_map, "svg", lambda figure, *_: drawn.append(figure) or "")
    heat_map.language_matrix(load_folder(tmp_path))
    FigureCanvasAgg(drawn[0]).draw()
    for axes in drawn[0].axes:
        boxes = sorted((text.get_window_extent() for text in axes.texts), key=lambda box: box.x0)
        assert len(boxes) == 12
        assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
        names = axes.get_xticklabels()
        assert [name.get_text() for name in names][:2] == ["Arabic", "German"]
        assert {name.get_rotation() for name in names} == {40.0}, "they lean over, so as not to lie on each other"


def points(*rows: tuple[int, int, float, float, float]) -> list[dict]:
    """Points in French of a run each: English recordings, French recordings, value, low, high."""
    return [
        {
            "name": "curriculum", "speech_share": 0.0, "runs": [f"runs/{i}"], "language": "fr", "modality": "speech",
            "trained_on": {"en": {"num_text": 800, "num_speech": en}, "fr": {"num_text": 115, "num_speech": fr}},
            "metric": "exact_match", "value": value, "low": low, "high": high, "n": 300,
        }
        for i, (en, fr, value, low, high) in enumerate(rows)
    ]  # fmt: skip


def worth_of(study: Path, tmp_path: Path, rows: list[dict]) -> list:
    results = read_json(study / "results.json")
    write_json(tmp_path / "results.json", {**results, "by_language": {"points": rows, "comparisons": []}})
    return worth(load_folder(tmp_path))


def test_worth_by_hand(study, tmp_path):
    """The curve is 0.4, 0.5 at 100 and 0.7 at 800: 0.6 lies half way between the last two, 0.45 half way to the first."""
    curve = [(0, 0, 0.4, 0.3, 0.5), (100, 0, 0.5, 0.4, 0.6), (800, 0, 0.7, 0.6, 0.8)]
    (found,) = worth_of(study, tmp_path, points(*curve, (0, 115, 0.6, 0.45, 0.75)))
    assert (found.equal, found.low, found.high) == (450, 50, None)
    assert worth_words(found, metric("exact_match")) == (
        "115 recordings in French are worth as much as about 450 recordings in English (50 to more than 800): with the same "
        "text, exact match on French is 60.0 %."
    )
    (found,) = worth_of(study, tmp_path, points(*curve, (0, 115, 0.9, 0.85, 0.95)))
    assert "worth more than all 800 recordings in English that were measured" in worth_words(
        found, metric("exact_match")
    )
    (found,) = worth_of(study, tmp_path, points(*curve, (0, 115, 0.3, 0.2, 0.5)))
    assert (found.equal, found.low, found.high) == (0, 0, 100)
    assert worth_of(study, tmp_path, points(curve[0], (0, 115, 0.6, 0.5, 0.7))) == [], "no curve to read from"


def test_a_falling_curve_is_raised_and_other_text_is_no_basis(study, tmp_path):
    rows = points((0, 0, 0.5, 0.4, 0.6), (100, 0, 0.4, 0.3, 0.5), (200, 0, 0.6, 0.5, 0.7), (0, 115, 0.55, 0.5, 0.6))
    (found,) = worth_of(study, tmp_path, rows)
    assert found.equal == 150
    rows[-1]["trained_on"]["fr"]["num_text"] = 800
    assert worth_of(study, tmp_path, rows) == []


def test_synthetic_speech_is_given_on_both_sides_and_the_best_way_counts_on_both(study, tmp_path):
    rows = points((0, 0, 0.4, 0.3, 0.5), (800, 0, 0.6, 0.5, 0.7), (0, 115, 0.55, 0.5, 0.6), (0, 0, 0.7, 0.6, 0.8))
    rows[-1]["trained_on"]["fr"]["num_synthetic"] = 800
    (found,) = worth_of(study, tmp_path, rows)
    assert found.equal == 600, "what synthetic French buys is no worth of English"
    worse = points((0, 115, 0.45, 0.4, 0.5))[0]
    (found,) = worth_of(study, tmp_path, [{**worse, "name": "direct_mixing", "runs": ["runs/9"]}, *rows])
    assert (found.equal, found.value) == (600, 0.55)


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ({"a b": {}}, "a variant is named with letters"),
        ({"T": {"schemes": ["curiculum"]}}, "Did you mean 'curriculum'"),
        ({"T": {"speech_shares": [2]}}, r"variants\.T\.speech_shares must be shares between 0 and 1"),
        ({"T": {"dat": {}}}, "Did you mean 'data'"),
    ],
)
def test_mistakes_in_variants_are_named(tmp_path, variants, message):
    with pytest.raises(ConfigError, match=message):
        load_study(study_file(tmp_path, variants=variants))
