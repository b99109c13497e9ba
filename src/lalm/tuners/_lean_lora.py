"""LoRA's linear layers, `W x + scaling * B A x`, with fewer passes over what is as wide as the layer.

peft scales what B made and adds it to what W made: three passes over tensors of the layer's width on the way there, one more on
the way back. Here what A made is scaled, which is r wide, and B's product is added by the matrix product itself. The same
sum; it differs by rounding where `scaling` is no power of two, and in the order of addition.
"""

from __future__ import annotations

from typing import Any

from peft.tuners.lora.layer import Linear
from torch import Tensor, nn


class LeanLinear(Linear):
    """peft's layer of one plain adapter; whatever else it may be asked for is left to peft."""

    plain_class = Linear

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        name = self._only_adapter()
        if name is None or args or kwargs:
            return super().forward(x, *args, **kwargs)
        found: Tensor
        low: Any = self.lora_A[name]
        high: Any = self.lora_B[name]
        dropout: Any = self.lora_dropout[name]
        flat = x.reshape(-1, x.shape[-1])
        found = self.base_layer(flat)  # of this layer alone, so it can be added to in place
        inner = low(dropout(flat.to(low.weight.dtype))) * self.scaling[name]
        found.addmm_(inner.to(found.dtype), high.weight.to(found.dtype).t())
        return found.view(*x.shape[:-1], found.shape[-1])

    def _only_adapter(self) -> str | None:
        """Its name if this is a linear layer with one plain adapter that is in use and apart from the weights."""
        if (
            self.disable_adapters
            or self.merged
            or len(self.active_adapters) != 1
            or type(self.base_layer) is not nn.Linear
        ):
            return None
        name: str = self.active_adapters[0]
        plain = name in self.lora_A and name not in self.lora_variant and self.lora_B[name].bias is None
        return name if plain and not self.fan_in_fan_out else None


def make_lean(module: nn.Module) -> None:
    """Turn peft's linear LoRA layers within a module into these; weights and their names stay."""
    for part in module.modules():
        if type(part) is Linear:
            part.__class__ = LeanLinear
