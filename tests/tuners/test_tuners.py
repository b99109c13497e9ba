"""Tuners: the named groups are trained and nothing else; what was attached can be folded in, saved, and loaded by peft."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import nn

from lalm import plugins
from lalm.backbones import smol
from lalm.errors import ConfigError, ModelError
from lalm.records import Example
from lalm.rundir import RunDir
from lalm.train import checkpoint
from lalm.tuners import full, lora

LLM_GROUPS = ("llm.attention", "llm.mlp", "llm.norms", "llm.embeddings")
LINEAR_GROUPS = ("llm.attention", "llm.mlp", "connector", "audio_encoder")
# what stands in each group, written by hand for the tiny model: two layers each of Whisper's encoder and of Llama
EXPECTED = {
    "llm.attention": r"llm\.model\.layers\.\d\.self_attn\.[qkvo]_proj\.weight",
    "llm.mlp": r"llm\.model\.layers\.\d\.mlp\.(gate|up|down)_proj\.weight",
    "llm.norms": r"llm\.model\.(layers\.\d\.(input|post_attention)_layernorm|norm)\.weight",
    "llm.embeddings": r"llm\.model\.embed_tokens\.weight",
    "connector": r"connector\.project\.[02]\.(weight|bias)",
    "audio_encoder": r"audio_encoder\.encoder\..*",
}
SIZES = {"llm.attention": 8, "llm.mlp": 6, "llm.norms": 5, "llm.embeddings": 1, "connector": 4}


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> list[Example]:
    root = tmp_path_factory.mktemp("barista")
    plugins.load("corpora", "barista").make_tiny(root, seed=3)
    recordings = sorted((root / "audio").glob("*.flac"))[:2]
    spoken = [Example(f"s{i}", "Do it.", f"[{i}]", audio=path) for i, path in enumerate(recordings)]
    return [*spoken, Example("t", "Do it.", "[2]", text="two please")]


def learn(model, names, examples, steps: int = 3) -> None:
    parameters = dict(model.module.named_parameters())
    optimizer = torch.optim.AdamW([parameters[name] for name in names], lr=1e-2)
    for _ in range(steps):
        nll, tokens = model.loss(model.batch(examples))
        (nll.sum() / tokens.sum()).backward()
        optimizer.step()
        optimizer.zero_grad()


def weights(model) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.module.named_parameters()}


def losses(model, examples) -> torch.Tensor:
    with torch.no_grad():
        return model.loss(model.batch(examples))[0]


def test_both_tuners_are_there():
    assert {"full", "lora"} <= set(plugins.names("tuners"))


@pytest.mark.parametrize("group", EXPECTED)
def test_full_trains_one_group_and_nothing_else(group, examples):
    model = smol.make_tiny(0)
    before = weights(model)
    names = full.attach(model, (group,), full.Config())
    assert all(re.fullmatch(EXPECTED[group], name) for name in names), names
    assert names == [name for name in before if re.fullmatch(EXPECTED[group], name)]
    assert len(names) == SIZES.get(group, len(names))
    learn(model, names, examples)
    for name, value in weights(model).items():
        assert torch.equal(value, before[name]) == (name not in names), name


def test_full_trains_several_groups_and_attaching_again_frees_the_others():
    model = smol.make_tiny(0)
    full.attach(model, tuple(EXPECTED), full.Config())
    names = full.attach(model, ("llm.attention", "llm.norms"), full.Config())
    assert len(names) == 8 + 5
    assert names == [name for name, parameter in model.module.named_parameters() if parameter.requires_grad]


@pytest.mark.parametrize("group", LINEAR_GROUPS)
def test_lora_trains_beside_one_group_and_nothing_else(group, examples):
    model = smol.make_tiny(0)
    before = weights(model)
    linear = {name for name, part in model.module.named_modules() if isinstance(part, nn.Linear)}
    names = lora.attach(model, (group,), lora.Config(r=2))
    targets = {name for name in linear if re.fullmatch(EXPECTED[group], f"{name}.weight")}
    assert targets
    assert set(names) == {f"{name}.lora_{letter}.default.weight" for name in targets for letter in "AB"}
    learn(model, names, examples)
    after = {name.replace(".base_layer", ""): value for name, value in weights(model).items() if "lora_" not in name}
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert all(parameter.abs().max() > 0 for name, parameter in weights(model).items() if "lora_B" in name)


def test_last_layers_are_those_of_the_language_model_alone():
    model = smol.make_tiny(0)
    names = lora.attach(model, LINEAR_GROUPS, lora.Config(r=2, last_layers=1))
    numbers = {name.split(".layers.")[1][0] for name in names if name.startswith("llm.")}
    assert numbers == {"1"}
    encoder = {name.split(".layers.")[1][0] for name in names if name.startswith("audio_encoder.")}
    assert encoder == {"0", "1"}
    assert len([name for name in names if name.startswith("llm.")]) == 2 * 7
    everything = lora.attach(smol.make_tiny(0), ("llm.mlp",), lora.Config(last_layers=5))
    assert len(everything) == 2 * 6


@pytest.mark.parametrize(
    "options",
    [{"r": 4}, {"r": 4, "use_rslora": True}, {"r": 2, "last_layers": 1}, {"r": 2, "init_lora_weights": "gaussian"}],
)
def test_lora_starts_as_the_plain_model_and_folds_into_it(options, examples):
    model = smol.make_tiny(0)
    plain = losses(model, examples)
    names = lora.attach(model, LINEAR_GROUPS, lora.Config(**options))
    assert torch.allclose(losses(model, examples), plain, rtol=1e-5)
    learn(model, names, examples)
    tuned, answers = losses(model, examples), model.generate(examples, 12)
    assert not torch.allclose(tuned, plain, rtol=1e-2)
    lora.merge(model)
    assert model.peft is None
    assert not any("lora" in name for name, _ in model.module.named_modules())
    assert torch.allclose(losses(model, examples), tuned, rtol=1e-4)
    assert model.generate(examples, 12) == answers
    assert all(set(model.groups()[group]) for group in EXPECTED), "the folded model has its groups again"


def test_the_scale_of_an_update_is_lora_alpha_over_r(examples):
    model = smol.make_tiny(0)
    before = weights(model)
    names = lora.attach(model, ("llm.mlp",), lora.Config(r=4, lora_alpha=6.0))
    learn(model, names, examples)
    parameters = weights(model)
    lora.merge(model)
    name = "llm.model.layers.0.mlp.up_proj"
    update = parameters[f"{name}.lora_B.default.weight"] @ parameters[f"{name}.lora_A.default.weight"] * 6 / 4
    assert torch.allclose(weights(model)[f"{name}.weight"], before[f"{name}.weight"] + update, atol=1e-6)


def test_seeds_draw_the_updates(examples):
    drawn = []
    for seed in (0, 0, 1):
        model = smol.make_tiny(0)
        torch.manual_seed(seed)
        names = lora.attach(model, ("llm.mlp",), lora.Config())
        drawn.append(torch.cat([weights(model)[name].flatten() for name in names]))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("groups", [LINEAR_GROUPS, ("llm.attention",)])
def test_plain_peft_loads_the_adapter_folder(groups, examples, tmp_path):
    model = smol.make_tiny(0)
    names = lora.attach(model, groups, lora.Config(r=4, last_layers=1))
    learn(model, names, examples)
    checkpoint.save_adapter(RunDir(tmp_path), model)
    tuned = losses(model, examples)
    other = smol.make_tiny(0)
    assert not torch.allclose(losses(other, examples), tuned, rtol=1e-2)
    wrapped = PeftModel.from_pretrained(other.module, str(tmp_path / "adapter"))
    assert {name for name, _ in wrapped.base_model.model.named_parameters() if "lora_" in name} == set(names)
    if "audio_encoder" not in groups:
        assert torch.equal(losses(other, examples), tuned)
    wrapped.merge_and_unload()
    kept = load_file(tmp_path / "adapter" / checkpoint.ADAPTER_FILE)
    assert len(kept) == len(names)


@pytest.mark.parametrize("tuner", ["full", "lora"])
def test_saved_weights_come_back_whole(tuner, examples, tmp_path):
    module = plugins.load("tuners", tuner)
    model, other = smol.make_tiny(0), smol.make_tiny(0)
    groups = LINEAR_GROUPS[:3]
    learn(model, module.attach(model, groups, module.Config()), examples)
    checkpoint.save_adapter(RunDir(tmp_path), model)
    module.attach(other, groups, module.Config())
    checkpoint.load_trained(other, tmp_path / "adapter")
    assert torch.equal(losses(other, examples), losses(model, examples))
    third = smol.make_tiny(0)
    module.attach(third, groups[:1], module.Config())
    with pytest.raises(ModelError, match=r"belong to another model or tuner \(\d+ differ"):
        checkpoint.load_trained(third, tmp_path / "adapter")


@pytest.mark.parametrize("tuner", ["full", "lora"])
def test_what_cannot_be_trained_is_refused(tuner):
    module = plugins.load("tuners", tuner)

    def attach(*groups: str):
        model = smol.make_tiny(0)
        if "deaf" in groups:
            model.module.connector.transcripts = lambda prepared: []
            groups = ("connector",)
        return module.attach(model, groups, module.Config())

    with pytest.raises(ConfigError, match=r"'llm\.attn'.*Did you mean 'llm\.\w+'.*Allowed: .*llm\.attention"):
        attach("llm.attn")
    with pytest.raises(ConfigError, match=r"'llm\.atention'.*Did you mean 'llm\.attention'"):
        attach("llm.mlp", "llm.atention")
    with pytest.raises(ConfigError, match="empty"):
        attach()
    with pytest.raises(ConfigError, match="'connector' holds nothing that could learn"):
        attach("deaf")


@pytest.mark.parametrize("group", ["llm.norms", "llm.embeddings"])
def test_lora_refuses_groups_that_it_cannot_tune_and_says_what_can(group):
    with pytest.raises(ConfigError, match=rf"'{re.escape(group)}'.*tuner 'full'"):
        lora.attach(smol.make_tiny(0), ("llm.mlp", group), lora.Config())


def test_folding_full_tuning_changes_nothing(examples):
    model = smol.make_tiny(0)
    learn(model, full.attach(model, LLM_GROUPS, full.Config()), examples)
    before = losses(model, examples)
    full.merge(model)
    assert torch.equal(losses(model, examples), before)


def test_tied_embeddings_are_trained_and_saved_once(examples, tmp_path):
    model = smol.make_tiny(0)
    learn(model, full.attach(model, ("llm.embeddings",), full.Config()), examples)
    llm = model.module.llm
    assert llm.lm_head.weight is llm.model.embed_tokens.weight
    checkpoint.save_adapter(RunDir(Path(tmp_path)), model)
    assert list(load_file(tmp_path / "adapter" / checkpoint.TRAINED_FILE)) == ["llm.model.embed_tokens.weight"]
