"""The benchmark on a tiny model: both sides train alike, and what it writes can be read."""

from __future__ import annotations

import pytest

from lalm import plugins
from lalm.backbones import qwen2_audio, smol
from lalm.bench.plain import PlainComposed, PlainNative
from lalm.bench.run import as_text, bench
from lalm.bench.scenarios import SCENARIOS, material
from lalm.bench.sizes import useful_tokens
from lalm.errors import UserError
from lalm.rundir import read_json
from lalm.tuners import lora


def test_both_sides_of_the_benchmark_train_alike(tmp_path, capsys):
    (found,) = bench(["tiny"], tmp_path, repetitions=1, bf16=False, threads=1)
    assert read_json(tmp_path / "tiny.json")["equal"] == found["equal"]
    assert found["equal"].keys() == {"float32"}
    assert found["equal"]["float32"]["steps"] == 20
    assert found["equal"]["float32"]["lalm"]["largest_difference_of_losses"] < 1e-5
    assert found["equal"]["float32"]["lalm"]["largest_difference_of_weights"] < 1e-4
    for row in (found["training"]["first_epoch"], found["training"]["later_epochs"]):
        seconds = {side: row["seconds"][side]["median"] for side in ("plain", "lalm")}
        assert row["ratio"] == pytest.approx(seconds["plain"] / seconds["lalm"])
        assert row["share_of_bound"] == pytest.approx(row["ratio"] / row["bound"])
    assert found["ready_to_train_s"]["median"] > 0
    assert found["training"]["later_epochs"]["bound"] > found["training"]["first_epoch"]["bound"] > 1
    assert as_text(found) in capsys.readouterr().out


def test_material_has_the_lengths_of_the_scenario_and_is_the_same_again(tmp_path):
    scenario = SCENARIOS["tiny"]
    rows = material(tmp_path, scenario, len)
    assert len(rows) == scenario.batch_size * scenario.num_steps
    assert {scenario.prompt_tokens - len(row.instruction) for row in rows} < {0, 1, 2}
    assert all(scenario.answer_tokens - 3 <= len(row.answer) <= scenario.answer_tokens - 1 for row in rows)
    before = [row.audio.read_bytes() for row in rows]
    other = tmp_path / "other"
    other.mkdir()
    assert [row.audio.read_bytes() for row in material(other, scenario, len)] == before


@pytest.mark.parametrize(("names", "repetitions"), [(["tinny"], 1), (["tiny"], 0)])
def test_what_cannot_be_measured_is_said(names, repetitions, tmp_path):
    with pytest.raises(UserError, match=r"tiny|repetitions"):
        bench(names, tmp_path, repetitions, False, 1)


def test_the_plain_side_of_a_class_of_transformers_has_the_same_losses_and_answers(tmp_path):
    model = qwen2_audio.make_tiny(0)
    rows = material(tmp_path, SCENARIOS["tiny"], len)[:2]
    loss, number = PlainNative(model).loss(rows)
    nll, tokens = model.loss(model.batch(rows))
    assert number == int(tokens.sum())
    assert float(loss) == pytest.approx(float(nll.sum() / tokens.sum()), rel=1e-5)
    made = PlainNative(model).generate(rows, 6)
    assert all(len(ids) == 6 for ids in made)
    texts = [model.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in made]
    assert texts == model.generate(rows, 6, min_new_tokens=6)


def test_useful_tokens_are_those_of_each_row_without_padding(tmp_path):
    for model in (smol.make_tiny(0), qwen2_audio.make_tiny(0)):
        rows = material(tmp_path, SCENARIOS["tiny"], len)
        assert useful_tokens(model, rows) == sum(useful_tokens(model, [row]) for row in rows)
        assert useful_tokens(model, rows[:1]) > len(rows[0].instruction) + len(rows[0].answer)


def test_the_plain_side_computes_with_classes_of_transformers_and_peft(tmp_path):
    model = smol.make_tiny(0)
    plugins.load("tuners", "lora").attach(model, ("llm.attention", "llm.mlp"), lora.Config(r=2))
    changed = [name for name, part in model.module.named_modules() if hasattr(type(part), "plain_class")]
    assert any(name.endswith("mlp") for name in changed)
    assert any(name.endswith("q_proj") for name in changed)
    PlainComposed(model)
    parts = [model.module.get_submodule(name) for name in changed]
    assert {type(part).__module__.partition(".")[0] for part in parts} == {"transformers", "peft"}
    assert not any(hasattr(type(part), "plain_class") for part in parts)
