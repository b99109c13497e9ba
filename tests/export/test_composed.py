"""Exports of composed models: the Auto classes of transformers load them after `import lalm.hf` and answer the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors import safe_open
from tiny_parts import make_encoder, make_language_model
from transformers import AutoModelForCausalLM, AutoModelForMultimodalLM, AutoProcessor

import lalm.hf
from lalm.config import load_recipe
from lalm.data.pools import load_pools
from lalm.evaluate.predict import load_run
from lalm.export.run import BEYOND, export_run, sample
from lalm.train.setup import load_model, task_examples

RUNS = ("smol_run", "tuned_encoder_run")


@pytest.fixture(scope="module", params=[(run, merged) for run in RUNS for merged in (False, True)], ids=str)
def exported(request, tmp_path_factory) -> tuple[Path, Path, bool]:
    """Run, export and whether it is merged."""
    name, merged = request.param
    run = request.getfixturevalue(name)
    out = tmp_path_factory.mktemp("export") / "folder"
    export_run(run, out, merged)
    return run, out, merged


def load(out: Path, merged: bool):
    processor = AutoProcessor.from_pretrained(out)
    model = AutoModelForMultimodalLM.from_pretrained(out if merged else out / "base")
    return processor, (model if merged else PeftModel.from_pretrained(model, str(out))).eval()


def turns(row) -> list[dict]:
    given = {"type": "audio", "audio": str(row.audio)} if row.audio else {"type": "text", "text": row.text}
    return [{"role": "system", "content": row.instruction}, {"role": "user", "content": [given]}]


def answers(processor, model, rows) -> list[str]:
    inputs = processor.apply_chat_template([turns(row) for row in rows], tokenize=True)
    tokens = model.generate(**inputs)[:, inputs["input_ids"].shape[1] :]
    return [text.strip() for text in processor.batch_decode(tokens, skip_special_tokens=True)]


def test_the_auto_classes_answer_as_predict_did(exported):
    run, out, merged = exported
    processor, model = load(out, merged)
    assert isinstance(processor, lalm.hf.LalmProcessor)
    recipe = load_recipe(run / "recipe.yaml")
    rows = task_examples(recipe, load_pools(recipe.data).test)
    predicted = {row["id"]: row["raw"] for row in map(json.loads, (run / "predictions/test.jsonl").open())}
    assert all(row.audio is not None for row in rows)
    assert answers(processor, model, rows) == [predicted[row.id] for row in rows]
    mixed = sample(recipe)
    assert {row.modality for row in mixed} == {"speech", "text"}
    _, trained = load_run(run)
    expected = trained.generate(mixed, 8)
    assert answers(processor, model, mixed) == expected
    assert [answers(processor, model, [row])[0] for row in mixed] == expected
    assert load_model(recipe).generate(mixed, 8) != expected, "training has changed the answers, or this proves nothing"


def test_the_loss_is_that_of_training(exported):
    run, out, merged = exported
    processor, model = load(out, merged)
    recipe, trained = load_run(run)
    for row in (one for one in sample(recipe) if one.modality):
        inputs = processor.apply_chat_template(turns(row), tokenize=True)
        ids = processor.tokenizer(row.answer + processor.tokenizer.eos_token, add_special_tokens=False)["input_ids"]
        answer = torch.tensor([ids])
        labels = torch.cat([torch.full_like(inputs["input_ids"], -100), answer], dim=1)
        inputs["input_ids"] = torch.cat([inputs["input_ids"], answer], dim=1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        with torch.no_grad():
            loss = model(**inputs, labels=labels).loss
            nll, number = trained.loss(trained.batch([row]))
        assert loss.item() == pytest.approx(float(nll / number), rel=1e-4)


def test_the_folder_holds_what_it_says(exported):
    run, out, merged = exported
    names = {path.name for path in out.iterdir()}
    assert {"README.md", "export.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json"} <= names
    assert not [path for path in out.rglob("*") if path.suffix in (".bin", ".pt", ".pkl", ".py")]
    facts = json.loads((out / "export.json").read_text())
    assert facts["kind"] == ("merged" if merged else "adapter")
    assert facts["rows_compared"] == 6
    assert 0 <= facts["max_nll_difference"] < 1e-4
    tuned = run.name == "ears"
    assert facts["tuned_encoder"] == tuned
    note = BEYOND.format("audio_encoder and connector")
    assert facts["note"] == (note if tuned and not merged else None)
    assert (note in (out / "README.md").read_text()) == (tuned and not merged)
    if merged:
        assert {"config.json", "model.safetensors", "generation_config.json"} <= names
        with safe_open(out / "model.safetensors", "pt") as file:
            assert not [name for name in file.keys() if "lora" in name]  # noqa: SIM118  # no mapping
    else:
        assert {"adapter_config.json", "adapter_model.safetensors", "base"} <= names
        original = (run / "adapter/adapter_model.safetensors").read_bytes()
        assert (out / "adapter_model.safetensors").read_bytes() == original


def test_the_class_for_causal_language_models_loads_it_too(smol_run, tmp_path):
    export_run(smol_run, tmp_path / "out", merged=True)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.bfloat16)
    assert isinstance(model, lalm.hf.LalmForConditionalGeneration)
    assert model.llm.dtype == torch.bfloat16
    assert next(model.connector.parameters()).dtype == torch.float32
    model.save_pretrained(tmp_path / "again")
    AutoProcessor.from_pretrained(tmp_path / "out").save_pretrained(tmp_path / "again")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "again")
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), again.parameters(), strict=True))


def test_what_the_processor_cannot_take_is_said(smol_run, tmp_path):
    export_run(smol_run, tmp_path / "out", merged=True)
    processor, model = load(tmp_path / "out", True)
    for wrong in (
        [{"role": "assistant", "content": "x"}],
        [{"role": "user", "content": [{"type": "audio", "audio": [0.0]}, {"type": "audio", "audio": [0.0]}]}],
        [{"role": "user", "content": [{"type": "image", "image": "x.png"}]}],
    ):
        with pytest.raises(ValueError, match=r"conversation|turn|neither text nor audio"):
            processor.apply_chat_template(wrong, tokenize=True)
    with pytest.raises(ValueError, match=r"1 .*audio.* and there are 0 recordings"):
        processor("hear <|audio|>")
    inputs = processor("hear <|audio|> now", audio=torch.randn(9000).numpy())
    with pytest.raises(ValueError, match="1 audio tokens and there are 0 recordings"):
        model.generate(input_ids=inputs["input_ids"])
    beside = [
        {
            "role": "user",
            "content": [{"type": "audio", "audio": torch.randn(9000).numpy()}, {"type": "text", "text": "Do."}],
        }
    ]
    apart = [{"role": "system", "content": "Do."}, {"role": "user", "content": beside[0]["content"][:1]}]
    one, other = (processor.apply_chat_template(each, tokenize=True) for each in (beside, apart))
    assert torch.equal(one["input_ids"], other["input_ids"])


FROM_THE_HUB = """
import json, sys
from pathlib import Path
from lalm.config import parse_recipe
from lalm.export.run import export_run
from lalm.study.single import train
out, corpus = Path(sys.argv[1]), Path(sys.argv[2])
values = {
    "data": {"corpus": {"name": "barista", "test_size": 2}, "root": str(corpus), "speech_share": 1.0},
    "backbone": {"name": "composed", "encoder": "tiny/ears", "language_model": "tiny/mouth"},
    "tuner": {"name": "lora", "r": 2},
    "scheme": "speech_only",
    "train": {"groups": ["connector", "llm.mlp"], "learning_rate": 0.02, "bf16": False},
    "evaluate": {"max_new_tokens": 4},
}
train(parse_recipe(values, corpus), out / "run", quiet=True)
print(export_run(out / "run", out / "export"))
"""


def test_parts_of_the_hub_are_named_and_not_copied(corpus, tmp_path):
    sources = {
        "ears": make_encoder("whisper", tmp_path / "ears"),
        "mouth": make_language_model("llama", tmp_path / "mouth"),
    }
    for name, source in sources.items():
        root = tmp_path / "hub" / f"models--tiny--{name}"
        (root / "refs").mkdir(parents=True)
        (root / "refs" / "main").write_text("b" * 40)
        copy = shutil.copytree(source, root / "snapshots" / ("b" * 40))
        (copy / "README.md").write_text(f"---\nlicense: {'mit' if name == 'ears' else 'cc-by-nc-4.0'}\n---\n")
    where = {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1", "LALM_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", FROM_THE_HUB, str(tmp_path), str(corpus)],
        env={**os.environ, **where, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    base = tmp_path / "export" / "base"
    assert {path.name for path in base.glob("*.safetensors")} == {"connector.safetensors"}
    parts = json.loads((base / "config.json").read_text())["parts"]
    assert parts["encoder"]["source"] == "tiny/ears"
    assert parts["language_model"]["revision"] == "b" * 40
    card = (tmp_path / "export" / "README.md").read_text()
    assert "license: cc-by-nc-4.0" in card
    assert "- tiny/ears\n- tiny/mouth" in card


@pytest.mark.parametrize("merged", [False, True])
def test_the_embedded_model_with_the_decoder_it_listens_to(make_run, smol_folder, tmp_path, merged):
    """The real one, whose connector hands on words: exported, loaded anew and compared by the export itself."""
    run = make_run(
        "hybrid",
        {"name": "smol"},
        predict=False,
        data={"num_text": 2, "num_test": 1},
        scheme={"name": "text_only", "num_train_epochs": 1},
        train={"learning_rate": 0.001, "save_steps": 1000, "bf16": False},
        evaluate={"max_new_tokens": 6},
    )
    said = export_run(run, tmp_path / "out", merged)
    assert "3 rows answered alike" in said
    held = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.safetensors")}
    assert held == (
        {"model.safetensors", "speech/model.safetensors"}
        if merged
        else {"adapter_model.safetensors", "base/connector.safetensors"}
    )
