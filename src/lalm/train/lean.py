"""Training in less memory: layers computed again instead of kept, and frozen weights in four bits.

What the machine cannot do is refused before any weight is loaded.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lalm.config import TrainSection
from lalm.contracts import Model
from lalm.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    import torch

MEMORY_OPTIONS = ("gradient_checkpointing", "load_in_4bit", "max_memory_gb")


def check_4bit(device: torch.device) -> None:
    """Raises UserError if the weights cannot be put into four bits here."""
    able = sorted(_bitsandbytes().supported_torch_devices)
    if device.type not in able:
        raise ConfigError(
            f"train.load_in_4bit: bitsandbytes cannot do this on a {device.type} here. It can on: {', '.join(able)}."
        )


def quantize(model: Model, cfg: TrainSection, device: torch.device) -> None:
    """Put the linear layers of the language model into four bits (nf4, its constants in eight), one by one on `device`.

    They are frozen then; the output layer, embeddings, norms and what hears stay as they are. Source: Dettmers et al.
    2023 (arXiv 2305.14314).
    """
    import torch
    from torch import nn

    from lalm.models.half import computes_in_bf16

    bitsandbytes = _bitsandbytes()
    compute = torch.bfloat16 if cfg.bf16 is not False and computes_in_bf16(device) else torch.float32
    for group in ("llm.attention", "llm.mlp"):
        for part in model.groups().get(group, ()):
            for inner, linear in list(model.module.get_submodule(part).named_modules()):
                if type(linear) is not nn.Linear:
                    continue
                made = bitsandbytes.nn.Linear4bit(
                    linear.in_features,
                    linear.out_features,
                    bias=linear.bias is not None,
                    compute_dtype=compute,
                    quant_type="nf4",
                    device="meta",
                )
                made.weight = bitsandbytes.nn.Params4bit(linear.weight.data, requires_grad=False, quant_type="nf4")
                made.bias = linear.bias
                model.module.set_submodule(f"{part}.{inner}".rstrip("."), made.to(device))
    module: Any = model.module
    module.is_loaded_in_4bit = True  # where peft looks
    model.identity = {**model.identity, "load_in_4bit": "nf4"}


def recompute(model: Model) -> None:
    """Keep only the input of each layer while training and compute the layer again on the way back.

    Raises ConfigError for a model that is not made of layers.
    """
    from lalm.train.layers import layer_names

    names = layer_names(model.module)
    if not names:
        raise ConfigError(
            "train.gradient_checkpointing: this model is not made of layers that could be computed again."
        )
    for name in names:
        layer: Any = model.module.get_submodule(name)
        layer.forward = _computed_again(layer.forward)


def _computed_again(forward: Any) -> Any:
    import torch
    from torch.nn.attention import sdpa_kernel
    from torch.utils.checkpoint import checkpoint
    from transformers import Cache

    def both_times() -> tuple[Any, Any]:
        """Contexts of the first and the second time: attention is computed by the same kernel."""
        return contextlib.nullcontext(), sdpa_kernel(_attention_kernels())

    @functools.wraps(forward)
    def once_more(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        if any(isinstance(value, Cache) for value in kwargs.values()):
            raise ConfigError(
                "train.gradient_checkpointing: this language model writes keys and values into a cache while it is "
                "trained, and would do so twice. Leave the option out."
            )
        return checkpoint(forward, *args, use_reentrant=False, context_fn=both_times, **kwargs)

    once_more.plain = forward  # type: ignore[attr-defined]
    return once_more


@contextlib.contextmanager
def largest_kept(module: Any) -> Iterator[bool]:
    """In the block the largest of the layers that are computed again keeps what it needs; whether there are any."""
    layers = [part for part in module.modules() if hasattr(part.forward, "plain")]
    if not layers:
        yield False
        return
    largest = max(layers, key=lambda layer: sum(weights.numel() for weights in layer.parameters()))
    computed_again = largest.forward
    largest.forward = computed_again.plain
    try:
        yield True
    finally:
        largest.forward = computed_again


def _attention_kernels() -> list[Any]:
    """Those that torch may choose from here."""
    from torch.backends import cuda  # the switches are those of the CPU too
    from torch.nn.attention import SDPBackend

    switches = {
        SDPBackend.MATH: cuda.math_sdp_enabled(),
        SDPBackend.FLASH_ATTENTION: cuda.flash_sdp_enabled(),
        SDPBackend.EFFICIENT_ATTENTION: cuda.mem_efficient_sdp_enabled(),
        SDPBackend.CUDNN_ATTENTION: cuda.cudnn_sdp_enabled(),
    }
    return [kernel for kernel, on in switches.items() if on]


def _bitsandbytes() -> Any:
    try:
        import bitsandbytes
    except ImportError:
        raise MissingExtraError("bitsandbytes", "train.load_in_4bit", "pip install bitsandbytes") from None
    return bitsandbytes
