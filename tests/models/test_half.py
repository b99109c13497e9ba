"""Answers in bfloat16: inside the block the language model's layers alone, afterwards nothing has changed."""

from __future__ import annotations

import pytest
import torch

from lalm.backbones._tiny import tiny_model
from lalm.backbones._tiny_gemma import tiny_gemma
from lalm.config import PluginChoice
from lalm.errors import ConfigError
from lalm.models.half import bfloat16_answers
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
