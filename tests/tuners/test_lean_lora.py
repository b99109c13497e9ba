"""LoRA's layers with fewer passes, against peft's own, and what is left to peft."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn

from lalm.models.half import Halves
from lalm.tuners._lean_lora import LeanLinear, make_lean


class Two(nn.Module):
    """Two layers, so that the second one's input needs a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 12), nn.Linear(12, 6, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x)))


def both(**options: Any) -> tuple[PeftModel, PeftModel]:
    """peft's model and the same with lean layers; no matrix of theirs is zero."""
    torch.manual_seed(4)
    given = {"r": 3, "lora_alpha": 5, "target_modules": ["first", "second"], "init_lora_weights": False}
    plain = get_peft_model(Two(), LoraConfig(**{**given, **options}))
    lean = copy.deepcopy(plain)
    make_lean(lean)
    assert [type(part) for part in lean.modules() if isinstance(part, Linear)] == [LeanLinear] * 2
    return plain.eval(), lean.eval()


def gradients(model: PeftModel, x: Tensor) -> list[Tensor]:
    output = model(x)
    learning = [one for one in model.parameters() if one.requires_grad]
    return [output.detach(), *torch.autograd.grad(output.float().square().sum(), learning)]


@pytest.mark.parametrize("shape", [(7, 6), (2, 5, 6), (2, 0, 6)], ids=str)
def test_outputs_and_gradients_are_those_of_peft(shape):
    plain, lean = both()
    x = torch.randn(shape)
    wanted, got = gradients(plain, x), gradients(lean, x)
    assert len(got) == 1 + 4
    for one, other in zip(got, wanted, strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-6)
    assert x.numel() == 0 or min(float(one.abs().max()) for one in wanted) > 1e-2


@pytest.mark.parametrize("kind", ["weights in bfloat16", "autocast"])
def test_in_bfloat16_it_is_as_near_to_float32_as_peft_is(kind):
    """Adapters stay float32, as `lalm train` has them."""
    plain, lean = both()
    x = torch.randn(64, 6)
    exact = gradients(plain, x)
    models = [plain, lean]
    if kind == "weights in bfloat16":
        for model in models:
            for part in (model.base_model.model.first, model.base_model.model.second):
                part.base_layer.to(torch.bfloat16)
        x = x.bfloat16()
    found = []
    for model in models:
        with torch.autocast("cpu", torch.bfloat16, enabled=kind == "autocast"):
            found.append(gradients(model, x))
    assert found[0][0].dtype == found[1][0].dtype == torch.bfloat16
    for right, by_peft, ours in zip(exact, *found, strict=True):
        off = [float((one.float() - right).norm() / right.norm()) for one in (by_peft, ours)]
        assert 0 < off[1] < 1.5 * off[0] + 2e-3, off


def test_factors_that_were_halved_together_give_what_autocast_gives():
    """What a GPU is given (`models.half.TrainingAutocast`), here on a processor."""
    _, lean = both()
    x = torch.randn(9, 6)
    halves = Halves([part for part in lean.modules() if isinstance(part, LeanLinear)])
    with torch.autocast("cpu", torch.bfloat16):
        wanted = gradients(lean, x)
        halves.make()
        made = gradients(lean, x)
        first = next(part for part in lean.modules() if isinstance(part, LeanLinear))
        assert halves.of(first.factors())[0].dtype == torch.bfloat16
        assert all(map(torch.equal, made, wanted))
        with torch.no_grad():
            first.lora_B["default"].weight.mul_(2)
        halves.make()
        assert not torch.equal(gradients(lean, x)[0], wanted[0])
        halves.fresh = False
        assert halves.of(first.factors()) is None


def disabled(model: PeftModel, x: Tensor) -> Tensor:
    with model.disable_adapter():
        return model(x)


def merged(model: PeftModel, x: Tensor) -> Tensor:
    model.merge_adapter()
    return model(x)


def unloaded(model: PeftModel, x: Tensor) -> Tensor:
    return model.merge_and_unload()(x)


def with_two(model: PeftModel, x: Tensor) -> Tensor:
    torch.manual_seed(5)
    model.add_adapter("other", LoraConfig(r=2, target_modules=["first", "second"], init_lora_weights=False))
    model.base_model.set_adapter(["default", "other"])
    return model(x)


@pytest.mark.parametrize("use", [disabled, merged, unloaded, with_two], ids=lambda one: one.__name__)
def test_what_peft_does_with_adapters_still_works(use: Callable[[PeftModel, Tensor], Tensor]):
    plain, lean = both()
    x = torch.randn(3, 6)
    before = lean(x)
    wanted = use(plain, x)
    assert torch.allclose(use(lean, x), wanted, rtol=1e-5, atol=1e-6)
    if use in (disabled, with_two):
        assert (wanted - before).abs().max() > 1e-2


@pytest.mark.parametrize("options", [{"use_dora": True}, {"lora_bias": True}], ids=lambda one: next(iter(one)))
def test_other_kinds_of_adapters_are_left_to_peft(options):
    plain, lean = both(**options)
    x = torch.randn(4, 6)
    assert all(map(torch.equal, gradients(lean, x), gradients(plain, x)))


def test_dropout_is_that_of_peft():
    plain, lean = both(lora_dropout=0.5)
    x = torch.randn(200, 6)
    found = []
    for model in (plain, lean):
        model.train()
        torch.manual_seed(6)
        found.append(gradients(model, x))
    assert all(torch.allclose(one, other, rtol=1e-4, atol=1e-5) for one, other in zip(*found, strict=True))
    assert not torch.allclose(found[0][0], plain.eval()(x))
