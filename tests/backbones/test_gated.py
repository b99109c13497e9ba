"""MLPs that keep less for the way back, against the classes that they come from."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint
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


class Made(TorchDispatchMode):
    """Remembers everything that operations make."""

    def __init__(self) -> None:
        super().__init__()
        self.storages: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        for one in tree_leaves(found):
            if isinstance(one, Tensor):
                storage = one.untyped_storage()
                self.storages[storage._cdata] = (StorageWeakRef(storage), storage.nbytes() // 4)
        return found

    def alive(self, beside: set[int]) -> int:
        """Numbers that something still holds, those at some places aside."""
        return sum(size for place, (held, size) in self.storages.items() if place not in beside and not held.expired())


def kept(mlp: nn.Module, run: Callable[[Tensor], Tensor], x: Tensor) -> int:
    """Numbers that live on for the way back beside weights, input and output."""
    with Made() as made:
        y = run(x)
    return made.alive({one.untyped_storage()._cdata for one in (x, y, *mlp.parameters())})


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


def test_half_is_kept():
    plain, lean = both("silu")
    x = torch.randn(10, 6, requires_grad=True)
    assert kept(plain, plain, x) == 4 * 10 * 16  # gate, what it opens, up, and their product
    assert kept(lean, lean, x) == 2 * 10 * 16


def adapted(mlp: nn.Module) -> nn.Module:
    """The MLP with LoRA on all of its layers, none of whose gradients is zero."""
    config = LoraConfig(r=2, target_modules=["gate_proj", "up_proj", "down_proj"], init_lora_weights=False)
    torch.manual_seed(3)
    return get_peft_model(mlp, config)


def through(mlp: nn.Module, checkpointed: bool) -> Callable[[Tensor], Tensor]:
    return lambda x: checkpoint(mlp, x, use_reentrant=False) if checkpointed else mlp(x)


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("kind", MLPS)
def test_adapters_learn_the_same(kind, checkpointed):
    plain, lean = (adapted(mlp) for mlp in both(kind))
    x = torch.randn(3, 5, 6, requires_grad=True)
    gradients = []
    for run in (through(plain, False), through(lean, checkpointed)):
        learning = [x, *(one for mlp in (plain, lean) for one in mlp.parameters() if one.requires_grad)]
        output = run(x)
        gradients.append(torch.autograd.grad(output.square().sum(), learning, allow_unused=True))
    wanted, got = ([one for one in found if one is not None] for found in gradients)
    assert len(wanted) == len(got) == 7
    for one, other in zip(got, wanted, strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-6)
        assert other.abs().max() > 1e-3


def test_with_adapters_it_keeps_half_and_checkpointed_hardly_anything():
    plain, lean = (adapted(mlp) for mlp in both("silu"))
    x = torch.randn(10, 6, requires_grad=True)
    low = 3 * 10 * 2  # what the first matrices of the adapters make
    assert kept(plain, through(plain, False), x) == 4 * 10 * 16 + low
    assert kept(lean, through(lean, False), x) == 2 * 10 * 16 + low
    assert kept(plain, through(plain, True), x) == 0
    assert kept(lean, through(lean, True), x) == 10 * 2  # of the adapter of down_proj alone


def test_the_way_back_can_be_gone_twice():
    _, lean = both("silu")
    x = torch.randn(10, 6, requires_grad=True)
    output = lean(x).sum()
    first, second = (
        torch.autograd.grad(output, [x, lean.down_proj.weight], retain_graph=keep) for keep in (True, False)
    )
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def test_weights_and_classes_are_what_they_were():
    plain, lean = both("silu")
    assert lean.state_dict().keys() == plain.state_dict().keys()
    assert isinstance(lean, LlamaMLP)
    assert torch.equal(copy.deepcopy(lean)(torch.ones(1, 6)), plain(torch.ones(1, 6)))
