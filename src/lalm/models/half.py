"""Linear weights in bfloat16 while answers are generated: half the memory traffic, and twice the speed on a CPU that has it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Literal

import torch
from torch import nn

from lalm.contracts import Model
from lalm.errors import ConfigError


def computes_in_bf16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16 natively."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())


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
