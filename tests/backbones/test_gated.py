"""MLPs that keep less for the way back, against the classes that they come from."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from transformers import Gemma3TextConfig, LlamaConfig
from transformers.models.gemma3.modeling_gemma3 import Gemma3MLP
from transformers.models.llama.modeling_llama import LlamaMLP

from lalm.backbones._gated import keep_less

MLPS = {
    "silu": lambda: LlamaMLP(LlamaConfig(hidden_size=6, intermediate_size=16, num_attention_heads=2)),
    "gelu": lambda: Gemma3MLP(Gemma3TextConfig(hidden_size=6, intermediate_size=16, num_attention_heads=2)),
}


def both(kind: str) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(2)
    plain = MLPS[kind]()
    lean = copy.deepcopy(plain)
    keep_less(lean)
    return plain, lean


def kept(mlp: nn.Module, x: Tensor) -> int:
    """Numbers that autograd keeps beside the weights."""
    weights = {one.data_ptr() for one in mlp.parameters()}
    numbers: dict[int, int] = {}

    def pack(one: Tensor) -> Tensor:
        if one.data_ptr() not in weights:
            numbers[one.untyped_storage().data_ptr()] = one.untyped_storage().nbytes() // 4
        return one.detach()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda one: one):
        mlp(x)
    return sum(numbers.values())


@pytest.mark.parametrize("kind", MLPS)
def test_output_and_gradients_are_those_of_the_plain_class(kind):
    plain, lean = both(kind)
    x = torch.randn(2, 5, 6, requires_grad=True)
    outputs = [mlp(x) for mlp in (plain, lean)]
    assert torch.equal(*outputs)
    back = torch.randn_like(outputs[0])
    wanted, got = (
        torch.autograd.grad(output, [x, *mlp.parameters()], back)
        for output, mlp in zip(outputs, (plain, lean), strict=True)
    )
    assert len(got) == 4
    for one, other in zip(got, wanted, strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-7)
        assert other.abs().max() > 1e-3


def test_a_quarter_less_is_kept():
    plain, lean = both("silu")
    x = torch.randn(10, 6, requires_grad=True)
    assert kept(plain, x) == 10 * 6 + 4 * 10 * 16  # the input; gate, what it opens, up, and their product
    assert kept(lean, x) == 10 * 6 + 3 * 10 * 16


def test_weights_and_classes_are_what_they_were():
    plain, lean = both("silu")
    assert lean.state_dict().keys() == plain.state_dict().keys()
    assert isinstance(lean, LlamaMLP)
    assert torch.equal(copy.deepcopy(lean)(torch.ones(1, 6)), plain(torch.ones(1, 6)))
