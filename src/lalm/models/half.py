"""Linear weights in bfloat16 while a machine computes in it: while answers are generated, and those that training leaves alone.

Half the memory traffic, and twice the speed or more on a CPU that has it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lalm.contracts import Model
from lalm.errors import ConfigError


def computes_in_bf16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16 natively."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())


class TrainingAutocast:
    """`torch.autocast` to bfloat16 for steps of training, which makes fewer weights bfloat16, or all of them in one go.

    Frozen linear layers of a processor make theirs once: autocast makes a frozen weight bfloat16 at every step, and holds it
    until the way back is done, a sixth of a step of Gemma 3 270M (LOG.md). Here it is kept from step to step, the same
    numbers, which takes no more memory at its highest, but for layers that are computed again; with those, and where weights
    are spread over processes, `keep` is to be False. A weight that has changed since, or is trained by now, is made anew.

    Factors of adapters on a GPU, hundreds of small matrices, are made bfloat16 together whenever the block is entered.
    """

    def __init__(self, module: nn.Module, enabled: bool, keep: bool) -> None:
        device = next(module.parameters()).device
        self._autocast = torch.autocast(device.type, torch.bfloat16, enabled=enabled)
        linears = module.modules() if enabled and keep and device.type == "cpu" else ()
        self._kept = [
            (part, _Halved(part))
            for part in linears
            if type(part) is nn.Linear and part.weight.dtype == torch.float32 and "forward" not in vars(part)
        ]
        adapters = module.modules() if enabled and keep and device.type == "cuda" else ()
        self._halves = Halves([part for part in adapters if hasattr(part, "halves")])

    def __enter__(self) -> None:
        self._halves.make()
        for linear, halved in self._kept:
            linear.forward = halved  # type: ignore[assignment]  # for as long as this block lasts
        self._autocast.__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._autocast.__exit__(kind, error, at)
        self._halves.fresh = False
        for linear, _ in self._kept:
            del linear.forward


class Halves:
    """Factors of adapters in bfloat16; adapters are modules with `halves`, which is set to this, and `factors()`."""

    def __init__(self, adapters: Sequence[Any]) -> None:
        pairs = [pair for part in adapters if (pair := part.factors()) and pair[0].dtype == torch.float32]
        self._wide = [one.detach() for pair in pairs for one in pair]
        self._narrow = [one.to(torch.bfloat16) for one in self._wide]
        self._of = dict(
            zip([pair[0] for pair in pairs], zip(self._narrow[::2], self._narrow[1::2], strict=True), strict=True)
        )
        self.fresh = False
        for part in adapters:
            part.halves = self

    def make(self) -> None:
        """Make them anew, of what the factors are now."""
        if self._wide:
            torch._foreach_copy_(self._narrow, self._wide)
        self.fresh = True

    def of(self, factors: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor] | None:
        """Those of an adapter's factors, unless these may have changed since, or are others."""
        return self._of.get(factors[0]) if self.fresh else None


class _Halved:
    """A linear layer's way there with its weight in bfloat16, as long as that is frozen."""

    def __init__(self, linear: nn.Linear) -> None:
        self._linear = linear
        self._made: tuple[Tensor, int, Tensor] | None = None  # of which tensor, in which state, and the copy

    def __call__(self, x: Tensor) -> Tensor:
        if self._linear.weight.requires_grad or not torch.is_autocast_enabled(x.device.type):
            return nn.Linear.forward(self._linear, x)
        return nn.functional.linear(x, self.weight(), self._linear.bias)

    def weight(self) -> Tensor:
        """The weight in bfloat16, as it is now."""
        weight = self._linear.weight
        if self._made is None or self._made[0] is not weight or self._made[1] != weight._version:
            self._made = (weight, weight._version, weight.detach().to(torch.bfloat16))
        return self._made[2]


def weight_for(linear: nn.Linear, numbers: torch.dtype) -> Tensor:
    """The frozen weight of a linear layer in a number format: the one that `TrainingAutocast` keeps, if it does."""
    kept = vars(linear).get("forward")
    if isinstance(kept, _Halved) and numbers == torch.bfloat16:
        return kept.weight()
    return linear.weight.to(numbers)


@contextlib.contextmanager
def bfloat16_answers(model: Model, enabled: bool | Literal["auto"]) -> Iterator[None]:
    """Inside, the language model's linear layers hold and compute bfloat16; afterwards all is as before.

    So does the output layer, with a copy of its own where it shares its weights with the embeddings: of a small model with a
    large vocabulary it is most of the work. Embeddings, and what hears, stay as they are. Raises ConfigError for True where
    the machine only emulates it.
    """
    device = next(model.module.parameters()).device
    native = computes_in_bf16(device)
    if not enabled or (enabled == "auto" and not native):
        yield
        return
    if not native:
        raise ConfigError("evaluate.bf16: this machine does not compute in bfloat16 natively. Leave it out.")
    names = [name for group in ("llm.attention", "llm.mlp") for name in model.groups()[group]]
    parts = {id(part): part for name in names for part in model.module.get_submodule(name).modules()}
    parts |= {id(part): part for part in _output_layers(model.module)}
    kept = [(part, part.weight) for part in parts.values() if isinstance(part, nn.Linear)]
    try:
        for linear, weight in kept:
            # another parameter, not other numbers in the same one: that may be the embeddings' as well
            linear.weight = nn.Parameter(weight.detach().to(torch.bfloat16), requires_grad=False)
        with torch.autocast(device.type, torch.bfloat16):
            yield
    finally:
        for linear, weight in kept:
            linear.weight = weight


def _output_layers(module: nn.Module) -> list[nn.Module]:
    """What makes logits, in a language model of `transformers` anywhere within a module."""
    from transformers import PreTrainedModel

    found = [part.get_output_embeddings() for part in module.modules() if isinstance(part, PreTrainedModel)]
    return [part for part in found if part is not None]
