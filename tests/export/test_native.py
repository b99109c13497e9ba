"""Exports of models of one class: plain `transformers` and `peft`, without lalm, load them and answer the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from lalm import plugins
from lalm.config import load_recipe
from lalm.data import audio
from lalm.data.pools import load_pools
from lalm.export.run import export_run
from lalm.train.setup import task_examples

NATIVE = [name for name in plugins.names("backbones") if hasattr(plugins.load("backbones", name), "FAMILY")]

PLAIN = """
import sys
sys.modules["lalm"] = None  # whoever imports it now fails
import json
from pathlib import Path
import numpy as np
from transformers import Qwen2AudioForConditionalGeneration, Qwen2AudioProcessor

folder, rows, merged = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text()), sys.argv[3] == "merged"
processor = Qwen2AudioProcessor.from_pretrained(folder)
model = Qwen2AudioForConditionalGeneration.from_pretrained(folder if merged else folder / "base")
if not merged:
    from peft import PeftModel
    model = PeftModel.from_pretrained(model, folder)
model.eval()
answers = {}
for row in rows:
    given = [{"type": "audio"}] if row["audio"] else []
    words = row["instruction"] if row["audio"] else row["text"] + "\\n" + row["instruction"]
    turns = [{"role": "user", "content": [*given, {"type": "text", "text": words}]}]
    text = processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    sound = {"audio": np.load(row["audio"]), "sampling_rate": 16000} if row["audio"] else {}
    inputs = processor(text=text, return_tensors="pt", **sound)
    tokens = model.generate(**inputs, do_sample=False, max_new_tokens=8)[0, inputs["input_ids"].shape[1]:]
    answers[row["id"]] = processor.tokenizer.decode(tokens, skip_special_tokens=True).strip()
assert not [name for name in sys.modules if name.startswith("lalm.")]
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def native_run(make_run):
    """A run of a tiny native backbone, adapters on its language model."""
    return lambda name: make_run(name, {"name": name, "tiny": True}, predict=name == "qwen2_audio")


@pytest.mark.parametrize("merged", [False, True], ids=["adapter", "merged"])
def test_plain_code_answers_as_predict_did(native_run, tmp_path, merged):
    run = native_run("qwen2_audio")
    out = tmp_path / "out"
    export_run(run, out, merged)
    recipe = load_recipe(run / "recipe.yaml")
    rows = []
    for number, row in enumerate(task_examples(recipe, load_pools(recipe.data).test)):
        np.save(tmp_path / f"{number}.npy", audio.load(row.audio, 16_000))
        rows.append({"id": row.id, "audio": str(tmp_path / f"{number}.npy"), "instruction": row.instruction})
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, str(out), str(tmp_path / "rows.json"), "merged" if merged else "adapter"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    predicted = {row["id"]: row["raw"] for row in map(json.loads, (run / "predictions/test.jsonl").open())}
    assert json.loads(done.stdout.splitlines()[-1]) == predicted
    names = {path.name for path in out.iterdir()}
    assert ({"model.safetensors", "config.json"} if merged else {"adapter_model.safetensors", "base"}) <= names


@pytest.mark.parametrize("name", [name for name in NATIVE if name != "qwen2_audio"])
def test_every_backbone_is_exported_both_ways(native_run, tmp_path, name):
    run = native_run(name)
    for merged in (False, True):
        assert "rows answered alike" in export_run(run, tmp_path / str(merged), merged)
    facts = json.loads((tmp_path / "True" / "export.json").read_text())
    assert facts["backbone"] == name
    assert (
        f"from transformers import {plugins.load('backbones', name).FAMILY.model_class}"
        in (tmp_path / "True" / "README.md").read_text()
    )


def test_the_adapter_names_the_model_that_it_belongs_to(native_run, tmp_path):
    """Of a model from a folder: its place; nothing is copied."""
    run = native_run("qwen2_audio")
    export_run(run, tmp_path / "base", merged=True)
    recipe = (run / "recipe.yaml").read_text()
    moved = tmp_path / "run"
    moved.mkdir()
    for path in run.iterdir():
        if path.name != "recipe.yaml":
            (moved / path.name).symlink_to(path)
    model = tmp_path / "base"
    (moved / "recipe.yaml").write_text(
        recipe.replace("  tiny: true", "  tiny: false").replace("Qwen/Qwen2-Audio-7B-Instruct", str(model))
    )
    export_run(moved, tmp_path / "out")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(model)
    assert not (tmp_path / "out" / "base").exists()
