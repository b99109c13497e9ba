"""Answers in bfloat16: inside the block the language model's layers alone, afterwards nothing has changed."""

from __future__ import annotations

import pytest
import torch

from lalm.backbones._tiny import tiny_model
from lalm.backbones._tiny_gemma import tiny_gemma
from lalm.config import PluginChoice
from lalm.errors import ConfigError
from lalm.models.half import TrainingAutocast, bfloat16_answers
from lalm.records import Example

ROWS = [
    Example(id=str(n), instruction="Say it.", answer="", text=text) for n, text in enumerate(("one", "a longer one"))
]


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> None:
    """Emulated bfloat16 gives the same numbers, so the test runs on every machine."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)


def test_the_language_models_layers_are_halved_and_restored(native):
    model = tiny_model(PluginChoice(name="mlp"), 0)
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    with bfloat16_answers(model, True):
        halved = {name for name, tensor in model.module.state_dict().items() if tensor.dtype == torch.bfloat16}
        inside = model.loss(model.batch([ROWS[0], ROWS[1]]))[0]
        again = model.loss(model.batch([ROWS[0], ROWS[1]]))[0]
    layers = {name for name in before if name.startswith("llm.") and (".self_attn." in name or ".mlp." in name)}
    assert halved == {*layers, "llm.lm_head.weight"}
    assert torch.equal(again, inside)
    after = model.module.state_dict()
    assert all(
        torch.equal(after[name], tensor) and after[name].dtype == tensor.dtype for name, tensor in before.items()
    )
    outside = model.loss(model.batch([ROWS[0], ROWS[1]]))[0]
    assert torch.allclose(inside.float(), outside, rtol=0.05)
    assert not torch.equal(inside.float(), outside)


def test_embeddings_that_are_the_output_layer_too_stay_and_are_tied_again(native):
    model = tiny_model(PluginChoice(name="mlp"), 0, language_model=tiny_gemma)
    llm, table = model.module.llm, model.module.llm.get_input_embeddings().weight
    assert llm.get_output_embeddings().weight is table
    with bfloat16_answers(model, True):
        assert llm.get_input_embeddings().weight is table
        assert table.dtype == torch.float32
        assert torch.equal(llm.get_output_embeddings().weight, table.to(torch.bfloat16))
    assert llm.get_output_embeddings().weight is table


def test_weights_come_back_after_an_error(native):
    model = tiny_model(PluginChoice(name="mlp"), 0)
    with pytest.raises(KeyboardInterrupt), bfloat16_answers(model, True):
        raise KeyboardInterrupt
    assert {tensor.dtype for tensor in model.module.state_dict().values()} == {torch.float32}


def test_a_machine_that_only_emulates_it_is_told(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    model = tiny_model(PluginChoice(name="mlp"), 0)
    with pytest.raises(ConfigError, match=r"evaluate\.bf16.*natively"), bfloat16_answers(model, True):
        pass
    for left_alone in (False, "auto"):
        with bfloat16_answers(model, left_alone):
            assert {tensor.dtype for tensor in model.module.state_dict().values()} == {torch.float32}


def a_step(model, autocast: TrainingAutocast) -> tuple[torch.Tensor, ...]:
    """Losses of two rows, and the gradients of all that learns."""
    with autocast:
        nll, _ = model.loss(model.batch(ROWS))
    learning = [one for one in model.module.parameters() if one.requires_grad]
    return nll.detach(), *torch.autograd.grad(nll.sum(), learning)


def test_frozen_weights_that_are_halved_once_change_no_bit_of_a_step():
    model = tiny_model(PluginChoice(name="mlp"), 0, language_model=tiny_gemma)
    layers = model.module.llm.model.layers
    for name, parameter in model.module.named_parameters():
        parameter.requires_grad_(".layers.0.mlp." in name)
    plain, kept = (TrainingAutocast(model.module, True, keep) for keep in (False, True))
    for change in (None, "frozen weights", "what is frozen"):
        if change == "frozen weights":
            with torch.no_grad():
                layers[1].self_attn.q_proj.weight.mul_(1.5)
                model.module.llm.get_input_embeddings().weight.mul_(0.5)
        if change == "what is frozen":
            layers[1].mlp.requires_grad_(True)
        for wanted, got in zip(a_step(model, plain), a_step(model, kept), strict=True):
            assert torch.equal(wanted, got), change
            assert bool(wanted.any())
    assert not any("forward" in vars(part) for part in model.module.modules() if isinstance(part, torch.nn.Linear))


def test_weights_are_halved_once_for_all_steps(monkeypatch):
    model = tiny_model(PluginChoice(name="mlp"), 0)
    model.module.requires_grad_(False)
    layer = model.module.llm.model.layers[0].mlp.up_proj
    made = []
    linear = torch.nn.functional.linear
    monkeypatch.setattr(
        torch.nn.functional, "linear", lambda x, weight, bias=None: made.append(weight) or linear(x, weight, bias)
    )
    autocast = TrainingAutocast(model.module, True, keep=True)
    for _ in range(2):
        with autocast:
            layer(torch.ones(3, layer.in_features))
    assert made[0] is made[1]
    assert torch.equal(made[0], layer.weight.to(torch.bfloat16))
    layer(torch.ones(3, layer.in_features))
    assert made[2] is layer.weight, "outside the block nothing is halved"


def test_without_bfloat16_nothing_is_done():
    model = tiny_model(PluginChoice(name="mlp"), 0)
    with TrainingAutocast(model.module, False, keep=True):
        inside = model.loss(model.batch(ROWS))[0]
    assert inside.dtype == torch.float32
    assert torch.equal(inside, model.loss(model.batch(ROWS))[0])
