"""Norms in one kernel against the classes that they come from; the kernel's function runs on a processor, too."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from lalm.backbones import _norms
from lalm.backbones._norms import fuse_norms

WIDTH = 24


def both(norm: type[nn.Module]) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(1)
    plain = norm(WIDTH)
    nn.init.normal_(plain.weight, 1.0, 0.3)
    fused = copy.deepcopy(plain)
    fuse_norms(nn.ModuleList([fused]))
    return plain, fused


@pytest.mark.parametrize("norm", [LlamaRMSNorm, Qwen2RMSNorm, Qwen3RMSNorm])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.bfloat16, 2**-7)])
def test_the_kernel_computes_what_the_class_does(norm, dtype, bound, monkeypatch):
    monkeypatch.setattr(_norms, "WITHOUT_KERNEL", ())
    plain, fused = (one.to(dtype) for one in both(norm))
    x = (3 * torch.randn(2, 5, WIDTH)).to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        expected, found = plain(x), fused(x)
    assert found.dtype == expected.dtype == dtype
    assert float((found - expected).abs().max() / expected.abs().max()) < bound
    back = torch.randn_like(expected)
    for one, other in zip(
        *(torch.autograd.grad(y, [x, w.weight], back) for y, w in ((found, fused), (expected, plain))), strict=True
    ):
        assert float((one - other).abs().max() / other.abs().max()) < 4 * bound


def test_a_processor_keeps_the_way_of_the_class_and_so_do_other_norms():
    plain, fused = both(Qwen2RMSNorm)
    x = torch.randn(3, WIDTH)
    assert torch.equal(fused(x), plain(x))
    assert fused.plain_class is Qwen2RMSNorm
    assert list(fused.state_dict()) == list(plain.state_dict())
    other = Gemma3RMSNorm(WIDTH)
    fuse_norms(other)
    assert type(other) is Gemma3RMSNorm
