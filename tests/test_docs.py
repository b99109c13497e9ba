"""What the docs say of files, kinds and tests is so: their examples are read by the readers that they describe."""

from __future__ import annotations

import json
import re
import runpy
import shlex
from pathlib import Path

import pytest

from lalm import plugins
from lalm.config import load_recipe
from lalm.data.labels import answer_text
from lalm.data.manifest import read_manifest
from lalm.data.predictions import read_predictions
from lalm.evaluate import gap, robustness, trajectories
from lalm.evaluate.parse import parse_answer
from lalm.evaluate.score import score_rows
from lalm.records import Frame, Slot
from lalm.sections import EvaluateSection

ROOT = Path(__file__).parents[1]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
FORMATS = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")


def json_block(section: str, number: int = 1) -> str:
    """A JSON example of a section of formats.md, the first or a later one, on one line."""
    body = FORMATS.split(f"## {section}")[1]
    return json.dumps(json.loads(body.split("```json\n")[number].split("```")[0]))


def test_the_manifest_example_is_a_manifest(tmp_path: Path):
    (tmp_path / "m.jsonl").write_text(json_block("Manifest") + "\n", encoding="utf-8")
    (row,) = read_manifest(tmp_path / "m.jsonl")
    assert row.frame == Frame("orderDrink", (Slot("size", "large"), Slot("coffeeDrink", "latte")))
    assert row.audio == tmp_path / "audio" / "42.flac"


def test_the_answer_example_is_what_is_taught():
    example = re.search(r"one line of JSON: `(.*)`", FORMATS)
    assert example is not None
    frame, status = parse_answer(example[1])
    assert status == "ok"
    assert frame is not None
    assert answer_text(frame) == example[1]


def test_the_predictions_example_is_scored(tmp_path: Path):
    (tmp_path / "p.jsonl").write_text(json_block("Predictions") + "\n", encoding="utf-8")
    rows = read_predictions(tmp_path / "p.jsonl")
    found = score_rows(rows, ["entity_f1", "wer"], num_resamples=10)
    shape = json.loads(json_block("Scores"))
    assert set(found) == set(shape)
    assert set(found["metrics"]["entity_f1"]) == set(shape["metrics"]["entity_f1"])
    assert len(found["counts"]["entity_f1"]) == len(shape["counts"]["entity_f1"])
    assert found["metrics"]["wer"]["value"] == 0


def test_the_examples_of_summaries_have_what_is_written():
    rows = [{"id": "a", "gold": {"intent": "on"}, "prediction": {"intent": "on"}, "status": "ok"}]
    cfg = EvaluateSection(metrics=("exact_match",), num_resamples=10)
    noisy = json.loads(json_block("Under noise"))
    found = robustness.summarise(rows, {6.0: rows}, cfg)
    assert set(found) < set(noisy)
    assert _keys(found["levels"][0]) == _keys(noisy["levels"][0])
    assert _keys(found["mean"]) == _keys(noisy["mean"])
    apart = json.loads(json_block("Modality gap"))
    found = gap.summarise({"text": rows, "synthetic": rows}, cfg)
    assert set(found) < set(apart)
    assert _keys(found) == _keys({key: apart[key] for key in found})


def test_the_example_of_dialogues_has_what_is_written():
    section = "Dialogues (`scores/<set>-dialogue.json`)"
    summary, trajectory = json.loads(json_block(section)), json.loads(json_block(section, 2))
    found = trajectories.score([trajectory], num_resamples=10)
    shown = {key: {name: found[key][name] for name in summary[key]} for key in found}
    assert _keys(shown) == _keys({key: summary[key] for key in found})
    assert found["metrics"]["trajectory_em"]["value"] == 1
    differences = trajectories.differences([trajectory], [trajectory])["trajectory_f1"]
    assert set(differences) == set(summary["levels"][0]["metrics"]["trajectory_f1"]["difference_to_clean"])


def _keys(value: object) -> object:
    """The keys of a JSON value at every depth."""
    if isinstance(value, dict):
        return {key: _keys(inner) for key, inner in value.items()}
    return [_keys(inner) for inner in value] if isinstance(value, list) else None


def test_every_kind_stands_in_the_table_with_its_functions():
    for kind, functions in plugins.CONTRACTS.items():
        row = re.search(rf"^\| `{kind}` \| (.*?) \|", ARCHITECTURE, re.MULTILINE)
        assert row is not None, kind
        assert re.findall(r"`(\w+)", row[1]) == list(functions)


def test_every_test_and_document_that_is_named_is_there():
    for name in re.findall(r"`(tests/[\w/.]+)`", ARCHITECTURE):
        assert (ROOT / name).exists(), name
    for page in ("docs/architecture.md", "docs/formats.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([\w/.]+\.md)\)", text):
            assert ((ROOT / page).parent / target).exists(), f"{page} links to {target}"


def backbone_pages() -> dict[str, object]:
    return runpy.run_path(str(ROOT / "docs" / "backbones" / "make_pages.py"))


@pytest.mark.parametrize("name", plugins.names("backbones"))
def test_the_page_of_a_backbone_is_what_its_file_says(name):
    made = backbone_pages()["page"](name)
    there = (ROOT / "docs" / "backbones" / f"{name}.md").read_text(encoding="utf-8")
    assert there == made, "run: python docs/backbones/make_pages.py"


def test_the_commands_on_the_pages_are_recipes():
    seen = set()
    for file in (ROOT / "docs" / "backbones").glob("*.md"):
        text = file.read_text(encoding="utf-8").replace("\\\n", " ")
        for command in re.findall(r"^\$ (.*lalm train .*)$", text, re.MULTILINE):
            words = shlex.split(command.split("lalm train ")[1])
            recipe = load_recipe(ROOT / words[0], words[1 : words.index("--out")])
            assert recipe.backbone.name == file.stem, command
            assert recipe.tuner.name == ("full" if "accelerate" in command else "lora")
            assert recipe.backbone.options["dtype"] == ("float32" if "accelerate" in command else "bfloat16")
            seen.add(recipe.data.corpus.name)
    assert seen == {"slurp", "speech_massive"}
