"""Curves of growth with a tiny model: every point can be measured, in one process and in two, and is drawn."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from lalm.bench import growth, growth_worker
from lalm.bench.growth import CURVES, as_text, curves, draw
from lalm.errors import UserError
from lalm.rundir import read_json


@pytest.mark.parametrize("name", CURVES)
def test_a_point_of_every_curve_is_measured(name, tmp_path):
    work = growth_worker._Work(CURVES[name].tiny_sizes[0], True, tmp_path)
    seconds = getattr(growth_worker, f"_{name}")(work)
    assert seconds
    assert all(value > 0 for value in seconds.values())


def test_two_processes_take_the_steps_together_and_one_answers():
    found = growth._point({"curve": "processes", "size": 2, "tiny": True, "threads": 1})
    assert found["seconds"]["two steps"] > 0
    assert found["peak_mib"] > 100


def test_curves_are_written_and_drawn(tmp_path, monkeypatch, capsys):
    """With points made up: more rows, more seconds."""
    monkeypatch.setattr(
        growth, "_point", lambda asked: {"seconds": {"reading": asked["size"] / 50}, "peak_mib": 100 + asked["size"]}
    )
    curves(["rows"], tmp_path, repetitions=2, threads=1)
    found = read_json(tmp_path / "growth-rows.json")
    assert [point["size"] for point in found["points"]] == list(CURVES["rows"].sizes)
    assert draw(found) == (tmp_path / "growth-rows.svg").read_text()
    drawing = (tmp_path / "growth-rows.svg").read_text()
    assert ElementTree.fromstring(drawing).tag.endswith("svg")
    said = capsys.readouterr().out
    assert "100000" in said
    assert as_text(found) in said
    assert "2000.00" in said


@pytest.mark.parametrize(("names", "repetitions"), [(["row"], 1), ([], 0)])
def test_what_cannot_be_measured_is_said(names, repetitions, tmp_path):
    with pytest.raises(UserError, match=r"rows|repetitions"):
        curves(names, Path(tmp_path), repetitions, 1)
