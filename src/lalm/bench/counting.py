"""Operations of whatever is run, by torch's own formulas.

`torch.utils.flop_counter.FlopCounterMode` looks into the modules that it meets, which fails where a backward pass takes
gradients of its own (`backbones/_gated.py`); here operations alone are looked at.
"""

from __future__ import annotations

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class Counting(TorchDispatchMode):
    """`total` operations while it is open; a multiplication and an addition are two."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0.0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        formula = flop_registry.get(function._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=found)
        return found
