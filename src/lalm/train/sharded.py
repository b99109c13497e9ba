"""Weights, gradients and optimizer state spread over the processes (FSDP2), for models that one GPU cannot train.

A layer of the language model is gathered when it is used. Everything else, what hears included, is gathered once for a
micro-batch: whether a process's rows hold recordings then changes nothing in what the processes do together. Parts that
hear and met no recording get gradients of zero; if none in the whole step met one, they are left out of it, as with one
process.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lalm.contracts import Model
from lalm.errors import ConfigError
from lalm.records import Example
from lalm.train.distributed import Alone
from lalm.train.engines import MicroBatch, Summed
from lalm.train.layers import HEARING, language_layers, of_groups


class LossModule(nn.Module):
    """`Model.loss` as a module's forward pass, so that all its weights are there whichever of them the model uses."""

    def __init__(self, model: Model, hearing: Sequence[str]) -> None:
        super().__init__()
        self.module = model.module
        self._of = [model]  # in a list: the model is no module
        self._hearing = list(hearing)

    def forward(
        self, examples: Sequence[Example], numbers: contextlib.AbstractContextManager[Any]
    ) -> tuple[Tensor, Tensor]:
        """As `Model.loss`, in a number format; every trained weight of what hears has a part in it, if only of zero."""
        model = self._of[0]
        with numbers:
            nll, tokens = model.loss(model.batch(examples))
        nothing = sum(self.module.get_parameter(name).sum() * 0.0 for name in self._hearing)
        return nll + nothing, tokens


class InStep(Summed):
    """Several processes whose every micro-batch is a common undertaking: each must have as many as the others."""

    one_kernel = False

    def __init__(self, team: Alone, model: Model, trainable: Sequence[str]) -> None:
        super().__init__(team, model, trainable)
        self._hearing = of_groups(trainable, model.groups(), HEARING)
        self._heard = False
        self._loss: Any = LossModule(model, self._hearing)

    def share(self, micro_batches: Sequence[MicroBatch]) -> list[tuple[MicroBatch, bool]]:
        """As many for every process: where there are too few, the first row of the step is done for nothing."""
        mine = super().share(micro_batches)
        rounds = -(-len(micro_batches) // self._team.size)
        return mine + [(micro_batches[0][:1], False)] * (rounds - len(mine))

    def loss(self, examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
        self._heard = self._heard or any(example.recordings for example in examples)
        return self._loss(examples, contextlib.nullcontext())


class Sharded(InStep):
    """FSDP2, with the settings of the launch configuration (`fsdp_reshard_after_forward`, `fsdp_offload_params`)."""

    def __init__(self, team: Alone, model: Model, trainable: Sequence[str]) -> None:
        super().__init__(team, model, trainable)
        from accelerate import FullyShardedDataParallelPlugin
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        whole_numbers = [name for name, p in model.module.named_parameters() if not p.is_floating_point()]
        if whole_numbers:
            raise ConfigError(f"Quantized weights ({whole_numbers[0]}) cannot be sharded. Launch with DDP instead.")
        plugin = FullyShardedDataParallelPlugin(fsdp_version=2)  # reads what the launcher set
        settings = {
            "mesh": init_device_mesh(team.device.type, (team.size,)),
            "offload_policy": plugin.cpu_offload,
            "mp_policy": plugin.mixed_precision_policy or MixedPrecisionPolicy(),
        }
        for name in _one_at_a_time(model, trainable):
            layer = model.module.get_submodule(name)
            fully_shard(layer, reshard_after_forward=plugin.reshard_after_forward, **settings)
            layer.register_forward_pre_hook(_with_gradient, prepend=True, with_kwargs=True)
        fully_shard(self._loss, **settings)

    def step(self, optimizer: Any, num_tokens: float, max_norm: float) -> float:
        """Gradients are means over the processes here, and each holds its shard of them."""
        if not self.total(self._heard):
            for name in self._hearing:
                self._model.module.get_parameter(name).grad = None
        self._heard = False
        return super(Summed, self).step(optimizer, num_tokens / self._team.size, max_norm)

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """All processes answer the same rows, so that they gather the same layers; the rest is gathered throughout."""
        self._loss.unshard()
        try:
            yield
        finally:
            self._loss.reshard()


def _with_gradient(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Have a gradient arrive at a layer's input, whether a trained part that hears is before it or only sentences are.

    FSDP2 hands on a layer's gradients when that one arrives. Where it did not, the layer would have its turn at the very
    end, after those that come before it elsewhere, and the processes would wait for each other.
    """
    states = args[0] if args else kwargs.get("hidden_states")
    if torch.is_grad_enabled() and isinstance(states, Tensor) and not states.requires_grad:
        states.requires_grad_()


def _one_at_a_time(model: Model, trainable: Sequence[str]) -> list[str]:
    """The layers that are gathered when they are used, and again on the way back when their output's gradient comes.

    The last one is not: a model may use keys and values of a common beginning there and not its output. Layers below
    the first trained one are not if nothing below them is trained: a model may keep what they make of a row and skip them
    when it comes again, and processes would no longer do the same.
    """
    layers = language_layers(model)[:-1]
    if of_groups(trainable, model.groups(), (*HEARING, "llm.embeddings")):
        return layers
    trained = [any(name.startswith(f"{layer}.") for name in trainable) for layer in layers]
    return layers[trained.index(True) :] if any(trained) else []
