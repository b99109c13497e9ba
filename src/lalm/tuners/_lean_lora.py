"""LoRA's linear layers, `W x + scaling * B A x`, with fewer passes over what is as wide as the layer.

peft makes the input float32, scales what B made and adds it to what W made: four passes over tensors of the layer's width on the
way there, and as many on the way back. Here the input stays as it is, B's product is scaled and added by the matrix product
itself, and the gradient of the input is one sum. What is kept for the way back is the input, once, and what A made of it. The
same function; it differs by rounding, in the order of addition.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn

from lalm.models.half import Halves, weight_for

# bfloat16 factors to a float32 product without another pass, in releases and on devices that can
_WIDE_PRODUCTS = ("cuda",) if "dtype" in torch.ops.aten.mm.overloads() else ()


class LeanLinear(Linear):
    """peft's layer of one plain adapter; whatever else it may be asked for is left to peft.

    `halves`, if there are any, are the factors in bfloat16, for as long as they are `fresh` (`models.half.TrainingAutocast`).
    """

    plain_class = Linear
    halves: Halves | None = None

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        name = self._only_adapter()
        if name is None or args or kwargs:
            return super().forward(x, *args, **kwargs)
        base: Any = self.base_layer
        factors: Any = (self.lora_A[name].weight, self.lora_B[name].weight)
        numbers, kind = x.dtype, x.device.type
        if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
            numbers = torch.get_autocast_dtype(kind)
        elif numbers != factors[0].dtype:  # peft computes the update in the adapter's own format
            return super().forward(x)
        narrow = self.halves.of(factors) if self.halves is not None and numbers == torch.bfloat16 else None
        flat = _as(x.reshape(-1, x.shape[-1]), numbers)
        bias = None if base.bias is None else _as(base.bias, numbers)
        given = (flat, weight_for(base, numbers), bias)
        found: Tensor
        if torch.is_grad_enabled():
            found = _Sum.apply(*given, *factors, narrow, self.scaling[name])
        else:
            low, high = narrow or (_as(one, numbers) for one in factors)
            found, _ = _sum(*given, low, high, self.scaling[name])
        return found.view(*x.shape[:-1], found.shape[-1])

    def factors(self) -> tuple[Tensor, Tensor] | None:
        """A and B, if it is these that are computed with here."""
        name = self._only_adapter()
        if name is None:
            return None
        low: Any = self.lora_A[name]
        high: Any = self.lora_B[name]
        return low.weight, high.weight

    def _only_adapter(self) -> str | None:
        """Its name if this is a frozen linear layer with one plain adapter without dropout, in use and apart from the weights."""
        if (
            self.disable_adapters
            or self.merged
            or len(self.active_adapters) != 1
            or type(self.base_layer) is not nn.Linear
            or self.base_layer.weight.requires_grad
        ):
            return None
        name: str = self.active_adapters[0]
        plain = name in self.lora_A and name not in self.lora_variant and self.lora_B[name].bias is None
        still = plain and (not self.training or type(self.lora_dropout[name]) is nn.Identity)
        return name if still and not self.fan_in_fan_out else None


class _Sum(torch.autograd.Function):
    """x [T, D] by a frozen weight [O, D], its bias, and an update of factors A [r, D] and B [O, r]: [T, O].

    x, weight and bias are in one number format, and it is what is computed in; A and B may be wider, `narrow` are these in it.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        low: Tensor,
        high: Tensor,
        narrow: tuple[Tensor, Tensor] | None,
        scaling: float,
    ) -> Tensor:
        ctx.scaling, ctx.numbers = scaling, low.dtype
        low, high = narrow or (_as(low, x.dtype), _as(high, x.dtype))
        found, inner = _sum(x, weight, bias, low, high, scaling)
        ctx.save_for_backward(x, weight, inner, low, high)
        return found

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, inner, low, high = ctx.saved_tensors
        to_inner = grad @ high
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = (grad @ weight).addmm_(to_inner, low, alpha=ctx.scaling)
        to_low = _product(to_inner.t(), x, ctx.numbers).mul_(ctx.scaling)
        if x.device.type == "cpu":  # [r, O] and turned round is faster there than [O, r]
            to_high = _product(inner.t(), grad, ctx.numbers).mul_(ctx.scaling).t().contiguous()
        else:
            to_high = _product(grad.t(), inner, ctx.numbers).mul_(ctx.scaling)
        return to_x, None, None, to_low, to_high, None, None


def _sum(
    x: Tensor, weight: Tensor, bias: Tensor | None, low: Tensor, high: Tensor, scaling: float
) -> tuple[Tensor, Tensor]:
    """The layer's output, and what A made of its input."""
    inner = x @ low.t()
    return nn.functional.linear(x, weight, bias).addmm_(inner, high.t(), alpha=scaling), inner


def _product(one: Tensor, other: Tensor, numbers: torch.dtype) -> Tensor:
    """A matrix product in a number format."""
    if one.dtype != numbers and one.device.type in _WIDE_PRODUCTS:
        return torch.mm(one, other, out_dtype=numbers)
    return (one @ other).to(numbers)


def _as(tensor: Tensor, numbers: torch.dtype) -> Tensor:
    """In a number format. A layer asks this several times; to ask torch costs more than to look."""
    return tensor if tensor.dtype == numbers else tensor.to(numbers)


def make_lean(module: nn.Module) -> None:
    """Turn peft's linear LoRA layers within a module into these; weights and their names stay."""
    for part in module.modules():
        if type(part) is Linear:
            part.__class__ = LeanLinear
