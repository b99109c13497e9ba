"""Accuracy under noise and the modality gap on the pages of studies and of runs."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from random import Random
from typing import Any

import pytest
from fake_study import METRICS
from test_page import Tags, tables, text_of

from lalm.cli import main
from lalm.config import EvaluateSection
from lalm.errors import UserError
from lalm.evaluate import gap, robustness
from lalm.report.build import build_report
from lalm.rundir import RunDir, read_json, write_json, write_jsonl

CFG = EvaluateSection(metrics=METRICS, num_resamples=200)
LEVELS = (24.0, 12.0, 0.0)
FIRST, SECOND = "curriculum-100-s0", "text_only-0-s1"


def worse(rows: list[dict[str, Any]], share: float) -> list[dict[str, Any]]:
    """The answers with a share of the intents wrong."""
    rng = Random(share)
    hit = [rng.random() < share and row["prediction"] is not None for row in rows]
    return [
        {**row, "prediction": {**row["prediction"], "intent": "no"}} if one else row
        for row, one in zip(rows, hit, strict=True)
    ]


def answers(run: Path) -> list[dict[str, Any]]:
    text = RunDir(run).predictions("test").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def add_noise(run: Path, published: bool = True) -> dict[str, Any]:
    """What `lalm predict --noise` leaves in a run folder."""
    clean = answers(run)
    noisy = {level: worse(clean, 0.5 - level / 50) for level in LEVELS}
    summary = {
        "kind": "robustness",
        "set": "test",
        "num": len(clean),
        "num_without_recording": 0,
        "noise": {"folder": "kitchen", "files": ["a.wav"], "sha256": "0", "seed": 0},
        **robustness.summarise(clean, noisy, CFG),
        "published": robustness.published("barista") if published else None,
    }
    for level, rows in noisy.items():
        write_jsonl(RunDir(run).predictions(robustness.part("test", level)), rows)
    write_json(RunDir(run).robustness("test"), summary)
    return summary


def add_gap(run: Path) -> dict[str, Any]:
    """What `lalm gap` leaves in a run folder."""
    spoken = answers(run)
    parts = {"text": worse(spoken, 0.05), "recording": worse(spoken, 0.3)}
    summary = {
        "kind": "gap",
        "set": "test",
        "num": len(spoken),
        **gap.summarise(parts, CFG),
        "reasons": {"synthetic": "no manifest of synthetic speech was named (--synthetic)"},
    }
    for name, rows in parts.items():
        write_jsonl(RunDir(run).predictions(gap.part("test", name)), rows)
    write_json(RunDir(run).gap("test"), summary)
    return summary


def table_of(page: str, row: str, column: str) -> dict[str, list[str]]:
    """The table that has such a row and such a column."""
    return next(one for one in tables(page) if row in one and column in next(iter(one.values())))


def runs_in(study: Path) -> list[Path]:
    found = [study / "runs" / name for name in (FIRST, SECOND)]
    assert all(run.is_dir() for run in found), sorted(path.name for path in (study / "runs").iterdir())
    return found


def shown(score: dict[str, Any]) -> str:
    return f"{100 * score['value']:.1f} {100 * score['low']:.1f} to {100 * score['high']:.1f}"


def test_a_study_draws_accuracy_against_noise_beside_published_figures(copied):
    plain = ET.fromstring(build_report([copied]).read_text(encoding="utf-8"))
    first, _ = (add_noise(run) for run in runs_in(copied))
    page = build_report([copied]).read_text(encoding="utf-8")
    root = ET.fromstring(page)
    assert len(list(root.iter("svg"))) == len(list(plain.iter("svg"))) + 1
    figure = next(f for f in root.iter("figure") if "ratio of speech to noise" in text_of(f))
    (svg,) = figure.iter("svg")
    assert svg.get("aria-label") == "command acceptance against the ratio of speech to noise"
    names = ("curriculum, 60 recordings, seed 0", "text only, no recordings, seed 1")
    table = table_of(page, names[0], "12 dB")
    assert table["run"] == ["clean", "24 dB", "12 dB", "0 dB", "mean of the levels", "mean minus clean"]
    assert names[1] in table
    metrics = [first["clean"], *first["levels"], first["mean"]]
    assert table[names[0]][:5] == [shown(one["metrics"]["command_acceptance"]) for one in metrics]
    lost = first["mean"]["metrics"]["command_acceptance"]["difference_to_clean"]["difference"]
    assert float(table[names[0]][5].split()[0].replace("−", "-")) == pytest.approx(100 * lost, abs=0.051)
    engine = next(row for row in table if row.endswith("| Picovoice Rhino"))
    assert engine.startswith("Published by others, mean over 6 to 24 dB")
    assert table[engine] == ["–", "–", "–", "–", "97.6", "–"]
    text = text_of(root)
    assert "a mean over 6 to 24 dB, without intervals" in text
    assert "Picovoice's speech-to-intent benchmark" in text
    assert "What differs: The engines answered all recordings" in text
    assert "80 recordings, noise from kitchen at 24, 12, 0 dB" in text
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    assert all(tag != "img" for tag, _ in Tags(page).found)


def test_every_point_of_the_figure_is_drawn_at_its_value(copied):
    """The points of the left panel, read back from the drawing: equal steps in value are equal steps on the page."""
    run = runs_in(copied)[0]
    summary = add_noise(run, published=False)
    page = build_report([copied]).read_text(encoding="utf-8")
    figure = next(f for f in ET.fromstring(page).iter("svg") if "ratio of speech" in (f.get("aria-label") or ""))
    paths = [p.get("d", "") for p in figure.iter() if p.tag.endswith("path") and "#0072b2" in (p.get("style") or "")]
    line = max((d for d in paths if "C" not in d), key=lambda d: d.count("L"))
    points = [tuple(map(float, part.split())) for part in line.replace("M", "L").split("L") if part.strip()]
    levels = sorted(summary["levels"], key=lambda level: level["snr_db"])
    values = [level["metrics"]["command_acceptance"]["value"] for level in levels]
    assert len(points) == len(values) == 3
    (x0, y0), (x1, y1), (x2, y2) = points
    assert x1 - x0 == pytest.approx(x2 - x1)
    assert (y1 - y0) / (y2 - y1) == pytest.approx((values[1] - values[0]) / (values[2] - values[1]), rel=1e-3)


def test_runs_alone_are_drawn_too_and_their_parts_are_no_sets(copied, tmp_path):
    run = runs_in(copied)[0]
    summary = add_noise(run)
    found = add_gap(run)
    page = build_report([run], tmp_path / "run.html").read_text(encoding="utf-8")
    assert "ratio of speech to noise" in page
    table = table_of(page, run.name, "24 dB")
    assert table[run.name][0] == shown(summary["clean"]["metrics"]["command_acceptance"])
    text = text_of(ET.fromstring(page))
    assert "Scores on test-" not in text
    assert "test-snr" not in text
    gaps = table_of(page, f"{run.name}, 80 items of test | command acceptance, %", "synthetic speech")
    fields = gaps[f"{run.name}, 80 items of test | command acceptance, %"]
    written, heard = (found["modalities"][name]["metrics"]["command_acceptance"] for name in ("text", "recording"))
    assert fields[:4] == [shown(written), "–", shown(heard), "–"]
    difference = found["differences"][0]["metrics"]["command_acceptance"]
    assert fields[4].startswith(f"+{100 * difference['difference']:.1f} ")
    assert fields[4].endswith(", better")
    assert "No synthetic speech: no manifest of synthetic speech was named (--synthetic)." in text


def test_the_gap_stands_in_the_study_by_run(copied):
    run = runs_in(copied)[0]
    found = add_gap(run)
    page = build_report([copied]).read_text(encoding="utf-8")
    name = "curriculum, 60 recordings, seed 0 (80 items)"
    fields = table_of(page, name, "text minus recordings")[name]
    assert fields[0] == shown(found["modalities"]["text"]["metrics"]["command_acceptance"])
    assert "ratio of speech to noise" not in page


@pytest.mark.parametrize("fmt", ["markdown", "latex"])
def test_tables_alone_hold_both(copied, fmt):
    run = runs_in(copied)[0]
    add_noise(run)
    add_gap(run)
    for folder in (copied, run):
        text = build_report([folder], fmt=fmt).read_text(encoding="utf-8")
        assert "IBM Watson" in text
        assert "text minus recordings" in text


def test_a_corpus_without_published_figures_has_one_panel(copied):
    add_noise(runs_in(copied)[0], published=False)
    page = build_report([copied]).read_text(encoding="utf-8")
    assert "ratio of speech to noise" in page
    assert "ublished" not in page


def test_the_model_card_states_the_sets_alone(copied):
    from lalm.config import load_recipe
    from lalm.export.card import results

    run = RunDir(runs_in(copied)[0])
    before = results(run, load_recipe(run.recipe))
    add_noise(run.root)
    add_gap(run.root)
    assert results(run, load_recipe(run.recipe)) == before


@pytest.mark.parametrize("name", ["robustness", "gap"])
def test_damaged_summaries_are_named(copied, capsys, name):
    run = runs_in(copied)[0]
    add_noise(run)
    add_gap(run)
    path = RunDir(run).scores(f"test-{name}")
    value = read_json(path)
    del value["levels" if name == "robustness" else "modalities"]
    write_json(path, value)
    assert main(["report", str(copied)]) == 2
    assert f"test-{name}.json" in capsys.readouterr().err
    write_json(path, ["nothing"])
    with pytest.raises(UserError, match=f"test-{name}"):
        build_report([copied])
