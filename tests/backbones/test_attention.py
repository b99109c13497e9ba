"""Attention to a common beginning, against torch's own with the beginning copied to every row."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lalm.backbones import _attention

SCALE = 0.3
CASES = {  # rows, heads, groups, positions, positions of the beginning, whether part of it is hidden
    "grouped heads": (5, 6, 2, 7, 11, False),
    "a window": (5, 6, 2, 7, 11, True),
    "a key for each head": (3, 4, 4, 5, 9, False),
    "one key for all heads": (3, 4, 1, 5, 9, False),
    "nothing in common": (5, 6, 2, 7, 0, False),
    "a token each": (5, 6, 2, 1, 11, False),
}


def made(case: str, dtype: torch.dtype = torch.float32) -> tuple[list[Tensor], Tensor, Tensor | None]:
    """Query, key, value and those of the beginning; what is seen of a row and of the beginning."""
    num_rows, heads, groups, length, start, hides = CASES[case]
    torch.manual_seed(3)
    shapes = [
        (num_rows, heads, length, 4),
        *[(num_rows, groups, length, 4)] * 2,
        *[(1, groups, start, 4)] * 2 * bool(start),
    ]
    given = [torch.randn(shape).to(dtype).requires_grad_() for shape in shapes]
    real = torch.arange(length) < torch.randint(1, length + 1, (num_rows, 1))
    mask = torch.ones(length, length, dtype=torch.bool).tril() & real[:, None, None]
    return given, mask | torch.eye(length, dtype=torch.bool), torch.rand(1, 1, length, start) < 0.5 if hides else None


def plain(given: list[Tensor], mask: Tensor, hidden: Tensor | None) -> Tensor:
    query, key, value, *before = given
    num_rows, heads, length, _ = query.shape
    if before:
        seen = torch.ones(1, 1, length, before[0].shape[2], dtype=torch.bool) if hidden is None else hidden
        mask = torch.cat([seen.expand(num_rows, -1, -1, -1), mask], dim=-1)
        key, value = (
            torch.cat([b.expand(num_rows, -1, -1, -1), own], 2) for b, own in zip(before, (key, value), strict=True)
        )
    key, value = (one.repeat_interleave(heads // one.shape[1], dim=1) for one in (key, value))
    found = torch.nn.functional.scaled_dot_product_attention(query, key, value, mask, scale=SCALE)
    return found.transpose(1, 2)


def ours(given: list[Tensor], mask: Tensor, hidden: Tensor | None) -> Tensor:
    prefix = (given[3], given[4], hidden) if len(given) > 3 else None
    return _attention.attend(None, *given[:3], mask, SCALE, prefix=prefix)[0]


@pytest.mark.parametrize("limit", [{}, {"PORTION": 150}, {"MAX_ROW": 0}])
@pytest.mark.parametrize("case", CASES)
def test_output_and_gradients_are_those_of_torch(case, limit, monkeypatch):
    for name, value in limit.items():
        monkeypatch.setattr(_attention, name, value)
    given, mask, hidden = made(case)
    expected, got = plain(given, mask, hidden), ours(given, mask, hidden)
    assert torch.allclose(got, expected, rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        assert torch.allclose(ours(given, mask, hidden), expected, rtol=1e-4, atol=1e-6)
    back = torch.randn_like(expected)
    wanted, found = (torch.autograd.grad(one, given, back) for one in (expected, got))
    assert len(found) == len(given)
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)
        assert other.abs().max() > 0.1


def test_half_precision_stays_near():
    given, mask, hidden = made("grouped heads", torch.bfloat16)
    exact = plain([one.detach().float() for one in given], mask, hidden)
    got = ours(given, mask, hidden)
    assert got.dtype == torch.bfloat16
    assert float((got.float() - exact).abs().max()) < 0.03  # values reach 3, and bfloat16 holds them to 1/256


def test_no_row_keeps_a_copy_of_the_beginning():
    def kept(num_rows: int) -> int:
        shapes = [(num_rows, 6, 3, 4), (num_rows, 2, 3, 4), (num_rows, 2, 3, 4), (1, 2, 500, 4), (1, 2, 500, 4)]
        given = [torch.randn(shape, requires_grad=True) for shape in shapes]
        numbers: dict[int, int] = {}

        def pack(one: Tensor) -> Tensor:
            numbers[one.untyped_storage().data_ptr()] = one.untyped_storage().nbytes() // 4
            return one.detach()

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda one: one):
            ours(given, torch.ones(1, 1, 3, 3, dtype=torch.bool), None)
        return sum(numbers.values())

    # a row more: its query, its output, its key and its value
    assert kept(9) - kept(8) == 6 * 3 * 4 * 2 + 2 * 3 * 4 * 2
