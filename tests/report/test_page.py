"""The page of a study: whole, closed in itself, and saying what the results say."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fake_study import results_of
from plain_results import cell, comparison, write_results

from lalm.cli import main
from lalm.errors import UserError
from lalm.report.build import build_report
from lalm.rundir import write_json

LOADING = {"src", "srcset", "poster", "background", "data", "action", "xlink:href"}


class Tags(HTMLParser):
    """Start tags with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)


def page_of(folder: Path) -> str:
    return build_report([folder]).read_text(encoding="utf-8")


def text_of(element: ET.Element) -> str:
    return " ".join(" ".join(element.itertext()).split())


def tables(page: str) -> list[dict[str, list[str]]]:
    """Each table as row name -> fields; the group's title stands before the name."""
    result = []
    for table in ET.fromstring(page).iter("table"):
        rows, group = {}, ""
        for row in table.iter("tr"):
            if row.get("class") == "group":
                group = text_of(row) + " | "
                continue
            first, *others = list(row)
            rows[group + text_of(first)] = [text_of(other) for other in others]
        result.append(rows)
    return result


def test_nothing_is_loaded_from_elsewhere(page):
    for tag, attributes in Tags(page).found:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base", "img")
        for name, value in attributes.items():
            if name in LOADING:
                assert value.startswith("data:"), (tag, name, value)
            assert not name.startswith("on")
            assert name != "style" or "url(" not in value.replace("url(#", "")
            if name == "href":
                assert not re.match(r"(?i)[a-z]+:|//", value)
    assert "http" not in page
    assert "@import" not in page
    assert re.findall(r"url\((?!#)", page) == []


def test_markup_is_well_formed_and_ids_are_unique(page):
    root = ET.fromstring(page)
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    targets = [element.get("href")[1:] for element in root.iter() if (element.get("href") or "").startswith("#")]
    assert set(targets) <= set(ids)
    assert len(list(root.iter("svg"))) == 3


def shown(score) -> str:
    return f"{100 * score['value']:.1f} {100 * score['low']:.1f} to {100 * score['high']:.1f}"


def test_figures_in_the_table_are_those_of_the_results(study, page):
    results = results_of(study)
    table = tables(page)[0]
    shares = [0, 0.05, 0.1, 1]
    assert table["recordings"] == ["0 0 %", "3 5 %", "6 10 %", "60 100 %"]
    seen = 0
    for scheme in ("text_only", "direct_mixing", "curriculum", "speech_only", "cascade"):
        rows = [c for c in results["cells"] if c["scheme"] == scheme]
        rows = rows or [c for c in results["references"] if c["name"] == scheme]
        for share, field in zip(shares, table[scheme.replace("_", " ")], strict=True):
            values = [c["metrics"]["command_acceptance"]["value"] for c in rows if c["speech_share"] == share]
            if values:
                assert float(field.split()[0]) == pytest.approx(100 * np.mean(values), abs=0.0501)
                seen += 1
            else:
                assert field == "–"
    assert seen == 1 + 3 + 3 + 1 + 4
    for curve in results["curves"]:
        name = curve["label"].replace("_", " ")
        for point in curve["points"]:
            if not point.get("borrowed"):
                field = table[name][shares.index(point["speech_share"])]
                assert field == shown(point["metrics"]["command_acceptance"])


def test_other_metrics_times_and_seeds_stand_in_their_tables(study, page):
    results = results_of(study)
    _, others, cost, *_ = tables(page)
    curve = next(c for c in results["curves"] if c["label"] == "curriculum")
    last = curve["points"][-1]
    assert others["SLU-F1, % | curriculum"][3].startswith(f"{100 * last['metrics']['slu_f1']['value']:.1f}")
    assert others["extra slots, per answer | curriculum"][3].startswith(
        f"{last['metrics']['extra_slots']['value']:.2f}"
    )
    failed = 100 * last["status"]["failed"] / sum(last["status"].values())
    key = next(key for key in cost if key.endswith("| curriculum") and "could not be read" in key)
    assert cost[key][3] == f"{failed:.1f}"
    assert cost["time a run, mean of the seeds | curriculum"][3] == "2.7 min"  # 160 s
    one = next(c for c in results["cells"] if c["run"] == "runs/curriculum-100-s1")
    row = next(row for row in ET.fromstring(page).iter("tr") if any(a.get("href") == one["run"] for a in row.iter("a")))
    fields = [text_of(field) for field in row]
    assert fields[1:3] == ["60 (100 %)", "1"]
    assert fields[3].startswith(f"{100 * one['metrics']['command_acceptance']['value']:.1f} (")
    assert fields[-3] == " / ".join(str(one["status"][word]) for word in ("ok", "repaired", "failed"))
    assert fields[-1] == one["config_hash"]


def test_every_comparison_is_there_with_its_verdict(study, page):
    results = results_of(study)
    found = next(table for table in tables(page) if "first against second" in table)
    assert len(found) == 1 + len(results["comparisons"])
    for one in results["comparisons"]:
        name = f"{one['a']} against {one['b']}".replace("_", " ")
        difference, _, verdict = found[name]
        assert float(difference.replace("−", "-")) == pytest.approx(100 * one["difference"], abs=0.0501)
        assert verdict == one["verdict"]


def test_recordings_of_examples_can_be_played(study, page, tmp_path):
    clips = [element.get("src") for element in ET.fromstring(page).iter("audio")]
    assert len(clips) == len(results_of(study)["examples"])
    for clip in clips:
        kind, _, data = clip.partition(",")
        assert kind == "data:audio/mpeg;base64"
        path = tmp_path / "clip.mp3"
        path.write_bytes(base64.b64decode(data))
        samples, rate = soundfile.read(path)
        assert rate == 16_000
        assert np.abs(samples).max() > 0.1


def test_examples_say_what_was_heard_and_answered(study, page):
    example = results_of(study)["examples"][0]
    rows = [
        json.loads(line)
        for line in (study / example["runs"][0] / "predictions" / "test.jsonl").read_text().splitlines()
    ]
    row = next(row for row in rows if row["id"] == example["id"])
    shown = next(e for e in ET.fromstring(page).iter("article") if example["id"] in text_of(e))
    words = text_of(shown)
    assert row["text"] in words
    assert row["heard"] in words
    for slot in row["gold"]["slots"]:
        assert f"{slot['type']}: {slot['value']}" in words
    assert any(chip.get("class") == "chip wrong" for chip in shown.iter("span"))


def test_the_page_is_redrawn_from_the_folder_alone_on_another_machine(study, page, copied):
    """The corpus is where the copy cannot see it: its audio paths are made to point nowhere."""
    for path in copied.rglob("test.jsonl"):
        path.write_text(path.read_text(encoding="utf-8").replace(str(study.parent), "/nowhere"), encoding="utf-8")
    (copied / "report.html").unlink(missing_ok=True)
    there = page_of(copied)
    assert there.count("data:audio/mpeg") > 0
    assert there == page


def test_missing_pieces_are_said_and_not_fatal(copied):
    shutil.rmtree(copied / "examples")
    shutil.rmtree(copied / "runs" / "curriculum-5-s0")
    page = page_of(copied)
    assert page.count("No recording: the recording examples/") == len(results_of(copied)["examples"])
    assert "1 run folders hold no run.json" in page
    shutil.rmtree(copied / "runs")
    (copied / "study.yaml").unlink()
    page = page_of(copied)
    assert "their predictions are not in the folder" in page
    assert 'href="runs/' not in page


def test_examples_outside_the_folder_are_not_put_into_the_page(copied, tmp_path):
    secret = tmp_path / "secret.mp3"
    secret.write_bytes(b"not for the page")
    results = results_of(copied)
    for example, name in zip(results["examples"], ("../secret.mp3", str(secret), "examples/link.mp3"), strict=False):
        example["audio"] = name
    (copied / "examples" / "link.mp3").symlink_to(secret)
    write_json(copied / "results.json", results)
    page = page_of(copied)
    assert base64.b64encode(secret.read_bytes()).decode() not in page
    assert page.count("No recording:") == 3


@pytest.mark.filterwarnings("ignore:Glyph 7")
def test_hostile_text_stays_text(copied):
    evil = "<script>alert(1)</script>\"' onload=x & $\\alpha$ --> \x07"
    results = results_of(copied)
    results["title"] = results["question"] = evil
    for one in [*results["cells"], *results["curves"]]:
        one["scheme"] = (one["scheme"] or "") + evil
    for one in results["curves"]:
        one["label"] += evil
    for one in results["comparisons"]:
        one["a"] += evil
    results["cells"][0]["run"] = f"runs/{evil}"
    write_json(copied / "results.json", results)
    path = copied / "runs" / "curriculum-100-s0" / "predictions" / "test.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        row.update(heard=evil, raw=evil + "\ud83d", text=evil)
        row["gold"]["slots"][0]["value"] = evil
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    page = page_of(copied)
    assert all(tag != "script" for tag, _ in Tags(page).found)
    assert not any(name.startswith("on") for _, attributes in Tags(page).found for name in attributes)
    ET.fromstring(page)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    for fmt in ("markdown", "latex"):
        text = build_report([copied], copied / f"evil.{fmt}", fmt).read_text(encoding="utf-8")
        assert "$\\alpha$" not in text


def test_how_it_was_made_is_there_with_the_strictest_licence_on_top(page):
    made = page[page.index("How it was made") :]
    licences = made[made.index("Licences") :]
    order = [licences.index(word) for word in ("non-commercial", "Apache-2.0", "MIT")]
    assert order == sorted(order)
    for word in (
        "torch 2.9.1",
        "python 3.11.9",
        "2 cores",
        "abc1234",
        "0; 1",
        "recordings to draw from",
        "smol with cascade",
    ):
        assert word in made


def test_no_torch_is_imported(study, tmp_path):
    """In a process where torch, transformers and peft cannot be imported."""
    script = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "peft", "accelerate"):
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocker())
from pathlib import Path
from lalm.cli import main
study, out = sys.argv[1:]
for fmt in ("html", "markdown", "latex"):
    assert main(["report", study, "--out", f"{out}/study.{fmt}", "--format", fmt]) == 0
runs = [f"{study}/runs/curriculum-100-s{seed}" for seed in (0, 1)]
assert main(["report", *runs, "--out", f"{out}/runs.html"]) == 0
import lalm.study.collect
"""
    done = subprocess.run([sys.executable, "-c", script, str(study), str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"study.html", "study.markdown", "study.latex", "runs.html"}


def test_links_start_at_the_page(study, tmp_path):
    page = build_report([study], tmp_path / "deep" / "page.html").read_text(encoding="utf-8")
    hrefs = [a["href"] for tag, a in Tags(page).found if tag == "a"]
    assert hrefs
    assert all((tmp_path / "deep" / href).resolve().is_dir() for href in hrefs)


def test_documented_fields_alone_make_a_page(tmp_path):
    cells = [cell("text_only", 0, 0.6)]
    cells += [
        cell(scheme, share, value)
        for scheme, values in (("curriculum", (0.7, 0.8)), ("direct_mixing", (0.66, 0.8)))
        for share, value in zip((0.1, 1.0), values, strict=True)
    ]
    pairs = [
        comparison(cells[1], cells[3], 0.01, 0.07, "better"),
        comparison(cells[2], cells[4], -0.03, 0.03, "undecided"),
    ]
    page = page_of(write_results(tmp_path / "study", cells, comparisons=pairs))
    ET.fromstring(page)
    assert "exact match" in page
    assert "oracle text (none: no transcripts)" in page
    winners = next(table for table in tables(page) if "against the other schemes" in table.get("recordings", []))
    assert "clear winner" in winners["10 recordings (10 %)"][2]
    assert winners["100 recordings (100 %)"][2].startswith("undecided")


def test_a_share_alone_or_text_alone_make_a_page(tmp_path):
    for name, cells in {
        "text": [cell("text_only", 0, 0.6)],
        "all": [cell("speech_only", 1.0, 0.4)],
        "none": [cell("text_only", 0, 0.0), cell("curriculum", 0.5, None)],
    }.items():
        if name == "none":
            cells[1]["metrics"]["exact_match"] = {"value": None, "low": None, "high": None, "n": 0}
        ET.fromstring(page_of(write_results(tmp_path / name, cells)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r.pop("cells"), "cells"),
        (lambda r: r["cells"][3].pop("speech_share"), "cells.3.speech_share: this key is required"),
        (lambda r: r["cells"][0].update(speech_share="ten"), "cells.0.speech_share"),
        (lambda r: r["comparisons"][1].update(verdict="maybe"), "comparisons.1.verdict"),
        (lambda r: r.update(primary_metric="accuracy"), "'accuracy' is none of the metrics scored"),
        (lambda r: r.update(cells=[]), "cells"),
    ],
)
def test_damaged_results_are_named(copied, change, words):
    results = results_of(copied)
    change(results)
    write_json(copied / "results.json", results)
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        build_report([copied])
    assert str(copied / "results.json") in str(caught.value)


def test_folders_that_hold_no_report_are_refused(copied, tmp_path, capsys):
    assert main(["report", str(tmp_path / "missing")]) == 2
    assert "there is no such folder" in capsys.readouterr().err
    empty = tmp_path / "empty"
    empty.mkdir()
    assert main(["report", str(empty)]) == 2
    assert "neither a study" in capsys.readouterr().err
    assert main(["report", str(copied), str(copied / "runs" / "curriculum-100-s0")]) == 2
    assert "one study or of several runs" in capsys.readouterr().err
    (copied / "results.json").write_text('{"cells": [', encoding="utf-8")
    assert main(["report", str(copied)]) == 2
    assert "not valid JSON" in capsys.readouterr().err
    (copied / "results.json").unlink()
    (copied / "runs" / "curriculum-100-s0" / "scores" / "test.json").unlink()
    assert main(["report", str(copied)]) == 2
    error = capsys.readouterr().err
    assert "23 of 24 runs are done" in error
    assert "Traceback" not in error
