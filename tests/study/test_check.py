"""What `lalm check` says, held against the run that it speaks of."""

from __future__ import annotations

import json
import re

import pytest

from lalm import plugins
from lalm.config import override, parse_recipe
from lalm.errors import ConfigError, DataError
from lalm.study.check import check_recipe
from lalm.study.single import train
from lalm.train.setup import load_model


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    plugins.load("corpora", "jsonl").make_tiny(folder, seed=0)
    return folder


def recipe(corpus, **sections):
    values = {
        "data": {"corpus": "jsonl", "root": str(corpus)},
        "backbone": {"name": "smol", "tiny": True},
        "train": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "learning_rate": 0.01},
        **sections,
    }
    return parse_recipe(values, corpus)


def number(pattern, text):
    found = re.search(pattern, text)
    assert found, f"{pattern} is not in:\n{text}"
    return int(found[1].replace(",", ""))


@pytest.mark.parametrize("scheme", ["curriculum", "direct_mixing", "text_only", "speech_only"])
def test_the_steps_are_those_that_training_takes(corpus, tmp_path, scheme):
    one = recipe(corpus, scheme=scheme)
    said = check_recipe(one)
    run = train(one, tmp_path / "run", quiet=True)
    assert number(r"Plan: ([\d,]+) steps of 4 rows", said) == json.loads(run.info.read_text(encoding="utf-8"))["steps"]


def test_rows_and_labels_are_counted(corpus):
    said = check_recipe(recipe(corpus, data={"corpus": "jsonl", "root": str(corpus), "speech_items": 1}))
    for line in (
        "text       6 sentences",
        "speech     1 recording, 0 s, 1 speaker (of a pool of 2, 1 s)",
        "synthetic  none",
        "test       2 recordings, 1 s, 2 speakers",
        "2 intents: light_on 4, light_off 3",
        "1 slot type: place 7",
    ):
        assert line in said


@pytest.mark.parametrize(
    ("tuner", "groups"),
    [("lora", ["llm.attention"]), ("full", ["llm.mlp", "llm.norms"]), ("full", ["connector", "llm.embeddings"])],
)
def test_trained_and_frozen_parameters_are_those_of_the_model(corpus, tuner, groups):
    one = recipe(corpus, tuner=tuner, train={"groups": groups})
    said = check_recipe(one)
    model = load_model(one)
    before = sum(p.numel() for p in model.module.parameters())
    module = plugins.load("tuners", tuner)
    module.attach(model, groups, plugins.configure(module, one.tuner.options, "tuner"))
    after = list(model.module.parameters())
    trained = sum(p.numel() for p in after if p.requires_grad)
    assert number(r"in all +([\d,]+) of", said) == trained
    assert number(r"in all +[\d,]+ of +([\d,]+)", said) == sum(p.numel() for p in after)
    assert sum(p.numel() for p in after) - before == (trained if tuner == "lora" else 0)
    lines = re.findall(r"^  (\w[\w.]+) +[\d,]+ of +[\d,]+  (frozen|[\d.]+% trained)$", said, re.MULTILINE)
    assert {name for name, state in lines if state != "frozen"} == set(groups)


def test_a_row_of_each_kind_is_shown_as_the_model_is_given_it(corpus):
    said = check_recipe(recipe(corpus))
    assert "| turn the light on in the kitchen<|im_end|>" in said
    assert "| [audio]<|im_end|>" in said
    assert f"[audio] is {corpus / 'audio' / '0.wav'}" in said
    answer = 'learns to answer: {"intent": "light_on", "slots": [{"place": "kitchen"}]}<|im_end|>'
    assert said.count(answer) == 2
    assert re.search(r"^ +\d+  text t3: turn the light off in the kitchen$", said, re.MULTILINE)
    assert re.search(r"Training takes about \d+ .* here \(.* s a step", said)
    assert re.search(r" and [\d.]+ GB of memory", said)


def test_labels_that_are_tested_and_never_trained_are_named(tmp_path):
    rows = [
        {"id": "a", "text": "on", "intent": "on", "split": "train"},
        {"id": "b", "text": "dim", "intent": "dim", "slots": [{"type": "level", "value": "low"}], "split": "test"},
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    said = check_recipe(recipe(tmp_path, data={"corpus": "jsonl", "root": "m.jsonl"}, scheme="text_only"))
    assert "never trained, but tested: intents dim" in said
    assert "never trained, but tested: slot types level" in said


def test_nothing_is_written(corpus, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(path for path in corpus.rglob("*"))
    check_recipe(recipe(corpus))
    assert sorted(path for path in corpus.rglob("*")) == before
    assert list(tmp_path.iterdir()) == []


def test_what_training_would_refuse_is_refused(corpus):
    with pytest.raises(DataError, match="less than half a recording"):
        check_recipe(recipe(corpus, data={"corpus": "jsonl", "root": str(corpus), "speech_share": 0.01}))
    with pytest.raises(ConfigError, match=r"unknown group 'llm\.attn'\. Did you mean 'llm\.attention'"):
        check_recipe(recipe(corpus, train={"groups": ["llm.attn"]}))
    with pytest.raises(ConfigError, match="speech_only needs recordings"):
        check_recipe(
            recipe(corpus, data={"corpus": "jsonl", "root": str(corpus), "speech_share": 0}, scheme="speech_only")
        )


def test_the_rows_of_several_tasks_are_counted_and_shown(corpus, tmp_path):
    one = recipe(corpus, scheme={"name": "multitask", "base": "direct_mixing", "tasks": {"intent_only": 0.5}})
    said = check_recipe(one)
    assert "slu          6 text, 2 speech; seen 24 times" in said
    assert "intent_only  6 text, 2 speech; seen 12 times" in said
    assert "A speech:intent_only row as the model is given it" in said
    run = train(one, tmp_path / "run", quiet=True)
    assert number(r"Plan: ([\d,]+) steps of 4 rows", said) == json.loads(run.info.read_text(encoding="utf-8"))["steps"]


@pytest.mark.parametrize("asked", ["metric_for_best_model=exact_match", "eval_steps=3"])
def test_what_needs_a_development_set_is_refused_as_training_refuses_it(asked, tmp_path):
    rows = [
        {"id": f"{split}{n}", "text": f"say {n}", "intent": "say", "split": split}
        for n in range(3)
        for split in ("train", "test")
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    values = {
        "data": {"corpus": "jsonl", "root": "m.jsonl"},
        "scheme": "text_only",
        "backbone": {"name": "smol", "tiny": True},
    }
    recipe = parse_recipe(override(values, [f"train.{asked}"]), tmp_path)
    with pytest.raises(ConfigError, match="needs a development set, and the corpus has none"):
        check_recipe(recipe)
