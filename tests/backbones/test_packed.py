"""Attention of rows in one sequence by a GPU's kernel: what surrounds it with the kernel's task done segment by segment; on a GPU, itself."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

from lalm.backbones import _packed, _stack
from lalm.backbones._attention import Layout
from lalm.backbones._packed import Segments, _Packed

SCALE = 0.3
CASES = {  # positions of the beginning, lengths of the rows, heads, groups
    "grouped heads": (11, (3, 7, 1, 5), 6, 2),
    "a key for each head": (9, (5, 5), 4, 4),
    "a single row": (4, (6,), 4, 2),
    "nothing in common": (0, (3, 7, 1, 5), 6, 2),
}
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 40, "num_attention_heads": 4}
MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, num_key_value_heads=2)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES, num_key_value_heads=4)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, num_key_value_heads=2, head_dim=8)),
}


def by_segment(query: Tensor, key: Tensor, value: Tensor, places: Segments, scaling: float) -> Tensor:
    """What the kernel is there for, one segment after the other: queries stand at the end of their keys."""
    asking, seen = (each.tolist() for each in places.bounds)
    assert max(b - a for a, b in itertools.pairwise(asking)) == places.longest[0]
    assert max(b - a for a, b in itertools.pairwise(seen)) == places.longest[1]
    found = []
    for (a, b), (c, d) in zip(itertools.pairwise(asking), itertools.pairwise(seen), strict=True):
        own = [one.transpose(0, 1)[None] for one in (query[a:b], key[c:d], value[c:d])]
        mask = torch.ones(b - a, d - c, dtype=torch.bool).tril(d - c - (b - a))
        heads = query.shape[1] // key.shape[1]
        own[1:] = [one.repeat_interleave(heads, dim=1) for one in own[1:]]
        made = torch.nn.functional.scaled_dot_product_attention(*own, mask, scale=scaling)
        found.append(made[0].transpose(0, 1))
    return torch.cat(found)


@pytest.fixture
def no_kernel(monkeypatch):
    """The kernel's task done by torch on a processor, in float32."""

    def kernel(query, key, value, places, scaling):
        return by_segment(query, key, value, places, scaling), torch.empty(0), torch.empty(0), torch.empty(0)

    def back(grad, query, key, value, found, kept, places, scaling):
        with torch.enable_grad():
            given = [one.detach().requires_grad_() for one in (query, key, value)]
            return torch.autograd.grad(by_segment(*given, places, scaling), given, grad)

    for name, value in (("kernel", kernel), ("kernel_back", back), ("has_kernel", lambda *_: True)):
        monkeypatch.setattr(_packed, name, value)


def made(case: str, device: str = "cpu") -> tuple[list[Tensor], Tensor, Layout]:
    """Query, key and value of a case; what each position sees of the others; how rows stand."""
    start, lengths, heads, groups = CASES[case]
    torch.manual_seed(3)
    given = [torch.randn(start + sum(lengths), each, 8, device=device) for each in (heads, groups, groups)]
    row = torch.tensor([0] * start + [number for number, length in enumerate(lengths, 1) for _ in range(length)])
    place = torch.tensor([*range(start), *(start + step for length in lengths for step in range(length))])
    seen = (place[:, None] >= place) & ((row[:, None] == row) | (row == 0))
    return [one.requires_grad_() for one in given], seen.to(device), Layout(start, lengths)


def masked(given: list[Tensor], seen: Tensor) -> Tensor:
    query, key, value = (one.transpose(0, 1)[None] for one in given)
    key, value = (one.repeat_interleave(query.shape[1] // one.shape[1], dim=1) for one in (key, value))
    found = torch.nn.functional.scaled_dot_product_attention(query, key, value, seen, scale=SCALE)
    return found[0].transpose(0, 1)


@pytest.mark.parametrize("case", CASES)
def test_segments_give_the_output_and_the_gradients_of_a_mask_over_the_whole(case, no_kernel):
    given, seen, layout = made(case)
    expected, got = masked(given, seen), _Packed.apply(*given, SCALE, layout)
    assert torch.allclose(got, expected, rtol=1e-4, atol=1e-6)
    back = torch.randn_like(expected)
    for one, other in zip(*(torch.autograd.grad(end, given, back) for end in (got, expected)), strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)
        assert other.abs().max() > 0.1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("case", CASES)
def test_the_kernel_gives_them_too(case):
    given, seen, layout = made(case, "cuda")
    expected = masked(given, seen)
    half = [one.detach().bfloat16().requires_grad_() for one in given]
    got = _Packed.apply(*half, SCALE, layout)
    assert float((got - expected).abs().max()) < 0.03
    back = torch.randn_like(expected)
    found, wanted = torch.autograd.grad(got, half, back.bfloat16()), torch.autograd.grad(expected, given, back)
    for one, other in zip(found, wanted, strict=True):
        assert float((one - other).abs().max() / other.abs().max()) < 0.03


@pytest.mark.parametrize("prefix", [0, 5])
@pytest.mark.parametrize("name", MODELS)
def test_layers_that_use_it_compute_what_their_classes_do(name, prefix, no_kernel, monkeypatch):
    torch.manual_seed(2)
    llm = MODELS[name]()
    _stack.prepare(llm)
    torch.manual_seed(5)
    mask = torch.arange(6)[None] < torch.tensor([[6], [2], [4]])
    rows, before = torch.randn(3, 6, 32), torch.randn(1, prefix, 32).requires_grad_() if prefix else None
    weights = list(llm.model.layers.parameters())
    found = []
    for there in (True, False):
        monkeypatch.setattr(_packed, "has_kernel", lambda *_, there=there: there)
        _, states = _stack.run_layers(llm, 0, 2, before, rows, mask)
        given = [*weights, *([before] if prefix else [])]
        found.append((states, torch.autograd.grad(states.square().sum(), given)))
    (ours, ours_back), (plain, plain_back) = found
    assert torch.allclose(ours, plain, rtol=1e-4, atol=1e-5)
    for one, other in zip(ours_back, plain_back, strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()) + 1e-7)
    assert hasattr(type(llm.model.layers[0].self_attn), "plain_class")
