"""`lalm export` from the command line: what is refused, what is left behind, and the model card."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import yaml
from huggingface_hub import ModelCard

from lalm.cli import main
from lalm.export.run import export_run

FORGETS = '''"""LoRA that forgets itself when it is folded in."""

from lalm.tuners.lora import Config, attach


def merge(model):
    """Drop the update."""
    model.module = model.peft.unload()
    model.peft = None
'''


def refused(capsys, *words: str) -> str:
    assert main(["export", *words]) == 2
    return capsys.readouterr().err


def test_both_kinds_are_written_and_said(smol_run, tmp_path, capsys):
    assert main(["export", str(smol_run), "--out", str(tmp_path / "a" / "adapter")]) == 0
    assert "6 rows answered alike" in capsys.readouterr().out
    assert main(["export", str(smol_run), "--out", str(tmp_path / "merged"), "--merged"]) == 0
    assert "The merged model of" in capsys.readouterr().out
    assert (tmp_path / "merged" / "model.safetensors").is_file()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["adapter"]


def test_a_merge_that_answers_otherwise_is_not_exported(make_run, tmp_path, capsys):
    (tmp_path / "mine" / "tuners").mkdir(parents=True)
    (tmp_path / "mine" / "tuners" / "forgets.py").write_text(FORGETS)
    backbone = {"name": "smol", "tiny": True, "connector": "mlp"}
    tuner = {"name": "forgets", "r": 4}
    run = make_run("forgets", backbone, predict=False, tuner=tuner, plugins=[str(tmp_path / "mine")])
    out = tmp_path / "exports"
    for flag in ([], ["--merged"]):
        text = refused(capsys, str(run), "--out", str(out / "one"), *flag)
        assert "is not answered alike, so nothing was exported" in text
        assert "run:" in text
        assert "merged:" in text
    assert not list(out.iterdir())


def test_what_cannot_be_exported_is_said(smol_run, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    assert "is not empty" in refused(capsys, str(smol_run), "--out", str(tmp_path / "full"))
    assert "not a finished run" in refused(capsys, str(tmp_path / "none"), "--out", str(tmp_path / "x"))
    half = shutil.copytree(smol_run, tmp_path / "half")
    (half / "adapter" / "adapter_model.safetensors").write_bytes(b"no weights")
    assert "is damaged" in refused(capsys, str(half), "--out", str(tmp_path / "x"))
    moved = shutil.copytree(smol_run, tmp_path / "moved")
    recipe = yaml.safe_load((moved / "recipe.yaml").read_text())
    recipe["data"]["root"] = str(tmp_path / "gone")
    (moved / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert "gone" in refused(capsys, str(moved), "--out", str(tmp_path / "x"))
    assert not (tmp_path / "x").exists()
    assert not list(tmp_path.glob(".*"))


def test_a_run_of_trained_weights_has_no_adapter_and_is_exported_whole(make_run, tmp_path, capsys):
    run = make_run("whole", {"name": "smol", "tiny": True, "connector": "mlp"}, predict=False, tuner="full")
    text = refused(capsys, str(run), "--out", str(tmp_path / "out"))
    assert "the tuner 'full' trained the weights themselves. Export it with --merged." in text
    assert "6 rows answered alike" in export_run(run, tmp_path / "out", merged=True)
    assert "library_name: transformers" in (tmp_path / "out" / "README.md").read_text()


def test_the_card_is_read_by_the_hubs_own_reader(smol_run, tmp_path):
    run = shutil.copytree(smol_run, tmp_path / "orders")
    info = json.loads((run / "run.json").read_text())
    info["licences"] = {"corpus barista": "CC BY-NC 4.0", "Whisper base": "MIT", "SmolLM2": "Apache-2.0"}
    info["model"]["backbone"] = "smol"
    (run / "run.json").write_text(json.dumps(info))
    (run / "scores").mkdir(exist_ok=True)
    metrics = {
        "intent_accuracy": {"value": 0.5, "low": 0.25, "high": 0.75, "n": 2},
        "slu_f1": {"value": None, "low": None, "high": None, "n": 0},
    }
    (run / "scores" / "test.json").write_text(json.dumps({"metrics": metrics, "counts": {}, "status": {"failed": 1}}))
    export_run(run, tmp_path / "out")
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.license == "cc-by-nc-4.0"
    assert card.data.library_name == "peft"
    assert card.data.pipeline_tag == "audio-text-to-text"
    assert card.data.base_model == ["openai/whisper-base", "HuggingFaceTB/SmolLM2-135M-Instruct"]
    assert card.data.model_name == "orders"
    (result,) = card.data.eval_results
    assert (result.dataset_type, result.dataset_split) == ("barista", "test")
    assert (result.metric_type, result.metric_value) == ("intent_accuracy", 0.5)
    assert result.metric_name == "intent accuracy (95 % interval 0.250 to 0.750, 2 rows)"
    words = card.text
    assert "| test | intent accuracy | 0.500 | 0.250 to 0.750 | 2 |" in words
    assert "| test | SLU-F1 | - | - | 0 |" in words
    assert "1 answer could not be read as JSON" in words
    assert words.index("CC BY-NC 4.0") < words.index("| Whisper base | MIT |")
    assert f"{info['num_text']} written sentences, {info['num_speech']} recordings" in words
    assert "the scheme `direct_mixing`" in words
    assert "the tuner `lora` (r 4" in words
    assert info["config_hash"] in words
    assert str(Path.home()) not in words
    assert str(tmp_path) not in words


def test_results_are_counted_from_predictions_that_have_no_scores(smol_run, tmp_path):
    run = shutil.copytree(smol_run, tmp_path / "run")
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**info, "licences": {"corpus": "house terms", "base": "MIT"}}))
    export_run(run, tmp_path / "out")
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert {result.metric_type for result in card.data.eval_results} >= {"intent_accuracy", "exact_match"}
    assert card.data.license == "other"
    assert card.data.to_dict()["license_name"] == "house terms"
