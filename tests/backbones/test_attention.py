"""Attention of rows in one sequence to a common beginning, against torch's own with a mask over the whole of it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lalm.backbones import _attention
from lalm.backbones._attention import Layout, attend
from lalm.backbones._side_by_side import SideBySide

SCALE = 0.3
CASES = {  # positions of the beginning, lengths of the rows, a window, heads, groups
    "grouped heads": (11, (3, 7, 1, 5), None, 6, 2),
    "a key for each head": (9, (5, 5), None, 4, 4),
    "one key for all heads": (9, (2, 6), None, 4, 1),
    "nothing in common": (0, (3, 7, 1, 5), None, 6, 2),
    "a window within rows": (11, (3, 7, 1, 5), 4, 6, 2),
    "a window into the beginning": (11, (3, 7, 1, 5), 9, 6, 2),
    "a window beyond all": (11, (3, 7, 1, 5), 18, 6, 2),
}


def made(case: str) -> tuple[list[Tensor], Tensor, Layout]:
    """Query, key and value of a case; what each position sees of the others; how rows stand."""
    start, lengths, window, heads, groups = CASES[case]
    torch.manual_seed(3)
    given = [torch.randn(1, each, start + sum(lengths), 4, requires_grad=True) for each in (heads, groups, groups)]
    row = torch.tensor([0] * start + [number for number, length in enumerate(lengths, 1) for _ in range(length)])
    place = torch.tensor([*range(start), *(start + step for length in lengths for step in range(length))])
    apart = place[:, None] - place
    seen = (apart >= 0) & ((row[:, None] == row) | (row == 0)) & (apart < (window or 99))
    return given, seen, Layout(start, lengths, window)


def plain(given: list[Tensor], seen: Tensor) -> Tensor:
    query, key, value = given
    key, value = (one.repeat_interleave(query.shape[1] // one.shape[1], dim=1) for one in (key, value))
    return torch.nn.functional.scaled_dot_product_attention(query, key, value, seen, scale=SCALE).transpose(1, 2)


def ours(given: list[Tensor], layout: Layout) -> Tensor:
    return attend(None, *given, None, SCALE, layout=layout)[0]


@pytest.mark.parametrize("limit", [{}, {"PORTION": {"cpu": 300}}, {"MAX_ROW": 0}])
@pytest.mark.parametrize("case", CASES)
def test_output_and_gradients_are_those_of_torch(case, limit, monkeypatch):
    for name, value in limit.items():
        monkeypatch.setattr(_attention, name, value)
    given, seen, layout = made(case)
    expected, got = plain(given, seen), ours(given, layout)
    assert torch.allclose(got, expected, rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        assert torch.allclose(ours(given, layout), expected, rtol=1e-4, atol=1e-6)
    back = torch.randn_like(expected)
    for one, other in zip(*(torch.autograd.grad(end, given, back) for end in (got, expected)), strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)
        assert other.abs().max() > 0.1


@pytest.mark.parametrize("case", CASES)
def test_rows_side_by_side_give_the_same_output_and_gradients(case):
    """What GPUs are given, here by the kernels of a processor."""
    given, seen, layout = made(case)
    start = layout.beginning

    def found() -> Tensor:
        before, rows = zip(*(one.split([start, one.shape[2] - start], dim=2) for one in given), strict=True)
        return SideBySide.apply(SCALE, layout, *rows, *before[1:])

    expected = plain(given, seen)[:, start:]
    assert torch.allclose(found(), expected, rtol=1e-4, atol=1e-6)
    back = torch.randn_like(expected)
    for one, other in zip(*(torch.autograd.grad(end, given, back) for end in (found(), expected)), strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)
        assert other.abs().max() > 0.1


def test_portions_hold_every_position_once(monkeypatch):
    monkeypatch.setattr(_attention, "PORTION", {"cpu": 300})
    layout = Layout(11, (3, 7, 1, 5, 7))
    portions = [(places, real) for places, real, _ in layout.portions(2, torch.device("cpu"))]
    assert len(portions) > 1
    assert sorted(place for places, real in portions for place in places[real].tolist()) == list(range(23))
    assert max(places.numel() * 2 * (places.shape[1] + 11) for places, _ in portions) <= 300


def test_half_precision_stays_near():
    given, seen, layout = made("grouped heads")
    half = [one.detach().bfloat16().requires_grad_() for one in given]
    exact = plain([one.float() for one in half], seen)
    got = ours(half, layout)
    assert got.dtype == torch.bfloat16
    assert float((got.float() - exact).detach().abs().max()) < 0.03  # values reach 3, and bfloat16 holds them to 1/256


def test_no_row_keeps_a_copy_of_the_beginning():
    def kept(num_rows: int) -> int:
        given = [torch.randn(1, heads, 500 + 3 * num_rows, 4, requires_grad=True) for heads in (6, 2, 2)]
        numbers: dict[int, int] = {}

        def pack(one: Tensor) -> Tensor:
            numbers[one.untyped_storage().data_ptr()] = one.untyped_storage().nbytes() // 4
            return one.detach()

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda one: one):
            ours(given, Layout(500, [3] * num_rows))
        return sum(numbers.values())

    # a row more: its query, its output, its key and its value
    assert kept(9) - kept(8) == 6 * 3 * 4 * 2 + 2 * 3 * 4 * 2
