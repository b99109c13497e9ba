"""The loss over logits in two bytes, against cross entropy in float64."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from lalm.backbones import _answer_loss
from lalm.backbones._answer_loss import answer_nll


@pytest.mark.parametrize("at_once", [1, 7 * 50, 2**18], ids=["a token", "seven tokens", "all"])
def test_logits_in_bfloat16_have_the_loss_and_gradient_of_float64(at_once, monkeypatch):
    monkeypatch.setattr(_answer_loss, "IN_CACHE", at_once)
    torch.manual_seed(0)
    logits = (8 * torch.randn(23, 50)).to(torch.bfloat16).requires_grad_()
    targets, weights = torch.randint(50, (23,)), torch.rand(23)
    exact = logits.detach().double().requires_grad_()
    wanted = cross_entropy(exact, targets, reduction="none")
    (wanted * weights).sum().backward()
    found = answer_nll(lambda states: states, logits, targets, 50)
    (found * weights).sum().backward()
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), wanted, rtol=1e-5, atol=1e-5)
    assert logits.grad.dtype == torch.bfloat16
    assert torch.allclose(logits.grad.double(), exact.grad, rtol=2**-8, atol=1e-6)
    assert float(exact.grad.abs().max()) > 0.1


def test_logits_in_bfloat16_in_several_pieces(monkeypatch):
    """More tokens than make `AT_ONCE` logits are computed in pieces, and those again on the way back."""
    torch.manual_seed(1)
    head = torch.nn.Linear(6, 40, bias=False).bfloat16()
    states, targets = torch.randn(30, 6).bfloat16(), torch.randint(40, (30,))
    whole = answer_nll(head, states, targets, 40)
    (gradient,) = torch.autograd.grad(whole.sum(), [head.weight])
    monkeypatch.setattr(_answer_loss, "AT_ONCE", 4 * 40)
    pieces = answer_nll(head, states, targets, 40)
    assert torch.equal(pieces, whole)
    (other,) = torch.autograd.grad(pieces.sum(), [head.weight])
    assert torch.allclose(other.float(), gradient.float(), rtol=0.05, atol=0.05)
