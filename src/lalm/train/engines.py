"""How gradients are made and meet: in one process, or summed over several that hold the whole model each.

The loss of an optimizer step is a sum over all answer tokens of all processes and micro-batches, divided once by their
number. Several processes add up their gradients once a step, after the last micro-batch. Which weights met a recording
there does not matter: a process whose rows had none for a part adds zeros, so all of them do the same in every step.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from lalm.contracts import Model
from lalm.records import Example
from lalm.train.distributed import Alone
from lalm.train.order import Row

MicroBatch = tuple[Row, ...]
BUCKET = 2**24  # gradients summed at once


class Engine:
    """One process."""

    one_kernel = True  # whether the optimizer may be one kernel on a GPU

    def __init__(self, team: Alone, model: Model, trainable: Sequence[str]) -> None:
        """To be made when the weights to begin with are loaded, and before parameters are looked up."""
        self._team, self._model, self._trainable = team, model, tuple(trainable)

    def optimizer(self, parameters: Sequence[Tensor], weight_decay: float) -> Any:
        """A stage's optimizer."""
        fused = self.one_kernel and all(one.device.type == "cuda" for one in parameters)
        return torch.optim.AdamW(parameters, lr=0.0, weight_decay=weight_decay, fused=fused)

    def share(self, micro_batches: Sequence[MicroBatch]) -> list[tuple[MicroBatch, bool]]:
        """The micro-batches of a step that are this process's, and whether their rows count."""
        return [(rows, True) for rows in micro_batches]

    def seed(self, *numbers: int) -> None:
        """Randomness of a step: of one process it goes on, and a checkpoint keeps where it stands."""

    def loss(self, examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
        """As `Model.loss`."""
        return self._model.loss(self._model.batch(examples))

    def backward(self, nll: Tensor, is_last: bool) -> None:
        """Add the gradients of a micro-batch's sum."""
        nll.backward()

    def total(self, number: int) -> int:
        """The sum over the processes."""
        return number

    def step(self, optimizer: Any, num_tokens: float, max_norm: float) -> float:
        """Divide the sums by the answer tokens of the whole step, clip, and step; the norm before clipping.

        No step is taken if the norm is not finite.
        """
        parameters = optimizer.param_groups[0]["params"]
        torch._foreach_div_([one.grad for one in parameters if one.grad is not None], num_tokens)
        norm = float(whole(clip_grad_norm_(parameters, max_norm)))
        if math.isfinite(norm):
            optimizer.step()
        return norm

    def progress(self, optimizer: Any) -> dict[str, Tensor]:
        """What the optimizer knows, as `<number of the parameter>/<name>`; on the main process."""
        state = {}
        for index, parameter in enumerate(optimizer.param_groups[0]["params"]):
            for key, value in optimizer.state.get(parameter, {}).items():
                state[f"{index}/{key}"] = torch.as_tensor(value)
        return kept(state, self._team)

    def load_progress(self, optimizer: Any, progress: Mapping[str, Tensor]) -> None:
        """Inverse of `progress`."""
        parameters = optimizer.param_groups[0]["params"]
        for name, value in progress.items():
            index, key = name.split("/", 1)
            parameter = parameters[int(index)]
            on_card = optimizer.defaults.get("fused")  # the number of steps, too
            optimizer.state[parameter][key] = like(parameter, value) if value.dim() or on_card else value

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """While the model generates in the middle of training."""
        yield


class Summed(Engine):
    """Several processes with the whole model each."""

    def __init__(self, team: Alone, model: Model, trainable: Sequence[str]) -> None:
        super().__init__(team, model, trainable)
        for name in trainable:  # the same beginning, whatever the machines made of the seed
            torch.distributed.broadcast(model.module.get_parameter(name).data, src=0)

    def share(self, micro_batches: Sequence[MicroBatch]) -> list[tuple[MicroBatch, bool]]:
        """Every `size`-th micro-batch: rows of like length meet at the same time. In a short step some have none."""
        return [(rows, True) for rows in micro_batches[self._team.rank :: self._team.size]]

    def seed(self, *numbers: int) -> None:
        """Dropout of its own for every process and step, so that a checkpoint need not keep where each of them stands."""
        seed = 0
        for number in (*numbers, self._team.rank):
            seed = (seed * 1_000_003 + number) % 2**63
        torch.manual_seed(seed)

    def total(self, number: int) -> int:
        value = torch.tensor(number, dtype=torch.int64, device=self._team.device)
        torch.distributed.all_reduce(value)
        return int(value)

    def step(self, optimizer: Any, num_tokens: float, max_norm: float) -> float:
        self._sum_gradients(optimizer.param_groups[0]["params"])
        return super().step(optimizer, num_tokens, max_norm)

    def _sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Sums over the processes; a parameter without a gradient on all of them keeps none, as with one process."""
        met = torch.tensor([p.grad is not None for p in parameters], dtype=torch.uint8, device=self._team.device)
        torch.distributed.all_reduce(met, torch.distributed.ReduceOp.MAX)
        gradients = []
        for parameter, anywhere in zip(parameters, met.tolist(), strict=True):
            if anywhere and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if parameter.grad is not None:
                gradients.append(parameter.grad)
        for bucket in _buckets(gradients):
            flat = (
                torch.cat([gradient.reshape(-1) for gradient in bucket]) if len(bucket) > 1 else bucket[0].contiguous()
            )
            torch.distributed.all_reduce(flat)
            for gradient, summed in zip(bucket, flat.view(-1).split([g.numel() for g in bucket]), strict=True):
                gradient.copy_(summed.view_as(gradient))


def whole(tensor: Tensor) -> Tensor:
    """The tensor itself, or all of a sharded one; all processes must ask for it."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def like(parameter: Tensor, value: Tensor) -> Tensor:
    """A whole tensor where the parameter is, sharded as it is."""
    if not hasattr(parameter, "full_tensor"):
        return value.to(parameter.device)
    from torch.distributed.tensor import distribute_tensor

    sharded: Any = parameter
    return distribute_tensor(value.to(parameter.device), sharded.device_mesh, sharded.placements)


def kept(tensors: Mapping[str, Tensor], team: Alone) -> dict[str, Tensor]:
    """Copies in main memory, made whole, for the main process; the others take part and keep nothing."""
    copies = {}
    for name, tensor in tensors.items():
        everything = whole(tensor)
        if team.is_main:
            copies[name] = everything.detach().cpu().contiguous().clone()
    return copies


def _buckets(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Neighbours of one number format, together at most `BUCKET` values unless one alone has more."""
    bucket: list[Tensor] = []
    size = 0
    for gradient in gradients:
        if bucket and (bucket[0].dtype != gradient.dtype or size + gradient.numel() > BUCKET):
            yield bucket
            bucket, size = [], 0
        bucket.append(gradient)
        size += gradient.numel()
    if bucket:
        yield bucket
