"""How many rows are computed at once: as many as the recipe says, or as fit into a budget, or half as many once memory ran out.

An optimizer step holds the rows that the plan says, whatever is computed at once: gradients of sums add up, so weights
differ by rounding alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from lalm.config import TrainSection
from lalm.contracts import Model
from lalm.errors import ConfigError, UserError, many
from lalm.records import Example
from lalm.train.distributed import Alone
from lalm.train.lean import largest_kept
from lalm.train.order import Row

MicroBatch = tuple[Row, ...]
# On a processor rows that share nothing gain nothing from more neighbours than make so many positions: they are padded, and what
# is kept of them leaves the caches (LOG.md).
POSITIONS_ON_A_PROCESSOR = 512
# Strategies in which each process holds the whole model. In others all take the same turns: fewer portions of a short
# micro-batch would keep the rest waiting.
WHOLE_IN_EACH = ("none", "ddp")
WORKING_SHARE = 0.1  # of what is kept for the way back: what the way back itself needs for a moment
WORKING_SHARE_OF_A_LAYER = 1.0  # the same of a layer that was computed again
_M_MMAP_THRESHOLD, _LARGE = -3, 2**18  # of glibc's malloc.h; bytes


class Portions:
    """Cuts micro-batches into what is computed at once: so many rows, and of models whose rows share nothing so many positions."""

    def __init__(self, model: Model, num_rows: int, team: Alone) -> None:
        self.num_rows, self._model, self._team, self._halved = num_rows, model, team, False
        on_processor = next(model.module.parameters()).device.type == "cpu"
        limited = on_processor and team.strategy in WHOLE_IN_EACH and not getattr(model, "rows_share", False)
        self._positions = POSITIONS_ON_A_PROCESSOR if limited else None

    def cut(
        self, shared: Sequence[tuple[MicroBatch, bool]], pools: Mapping[str, Sequence[Example]]
    ) -> list[tuple[Sequence[Example], bool]]:
        """The same rows in portions, and whether they count (see `Engine.share`)."""
        return [
            (portion, counts)
            for rows, counts in shared
            for portion in self.of([pools[pool][index] for pool, index in rows])
        ]

    def of(self, examples: Sequence[Example]) -> list[list[Example]]:
        """Rows in portions, in their order."""
        found: list[list[Example]] = []
        longest = 0
        for example in examples:
            length = 0 if self._positions is None else self._model.num_tokens(example)
            longest = max(longest, length)
            if not found or not self._has_room(len(found[-1]) + 1, longest):
                found.append([])
                longest = length
            found[-1].append(example)
        return found

    def _has_room(self, num_rows: int, longest: int) -> bool:
        return num_rows <= self.num_rows and (self._positions is None or num_rows * longest <= self._positions)

    def halve(self, error: BaseException) -> None:
        """Go on with half as many rows at once, with a message. Raises UserError the second time, or where it cannot help."""
        if self._halved or self.num_rows == 1 or self._team.size > 1:
            raise UserError(
                f"Memory ran out with {many(self.num_rows, 'row')} at once. Lower train.per_device_train_batch_size and raise "
                "train.gradient_accumulation_steps by as much, set train.max_memory_gb, or set train.gradient_checkpointing."
            ) from error
        self._halved, self.num_rows = True, self.num_rows // 2
        self._positions = None if self._positions is None else self._positions // 2
        traceback.clear_frames(error.__traceback__)  # tensors are held by where the error came from, and in circles
        gc.collect()
        give_back_what_is_freed()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        print(
            f"\nMemory ran out; going on with {many(self.num_rows, 'row')} at once. Steps hold the same rows as before.",
            file=sys.stderr,
        )


def ran_out(error: BaseException) -> bool:
    """Whether an error says that there is no more memory, on a GPU or in the machine."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and (
        "can't allocate memory" in str(error) or "not enough memory" in str(error)
    )


def portions(
    model: Model, trainable: Sequence[str], examples: Sequence[Example], cfg: TrainSection, bf16: bool, team: Alone
) -> Portions:
    """As many of the longest rows at once as `train.max_memory_gb` has room for, at most a micro-batch.

    Raises ConfigError if there is no room for one row, or for processes that must all take the same turns.
    """
    size = cfg.per_device_train_batch_size
    if cfg.max_memory_gb is None or not examples:
        return Portions(model, size, team)
    if team.strategy not in WHOLE_IN_EACH:
        raise ConfigError(
            "train.max_memory_gb: with FSDP2 and ZeRO all processes take the same turns, so micro-batches are not cut there. "
            "Leave it out, or lower train.per_device_train_batch_size."
        )
    give_back_what_is_freed()
    longest = longest_rows(model, examples)
    one, more = rows_bytes(model, longest, bf16)
    fixed = model_bytes(model, trainable) + getattr(model, "kept_bytes", lambda _: 0)(examples)
    room = cfg.max_memory_gb * 1e9 - fixed - one
    if room < 0:
        raise ConfigError(
            f"train.max_memory_gb: {cfg.max_memory_gb:g} is less than the {(fixed + one) / 1e9:.3g} GB that the weights "
            f"({fixed / 1e9:.3g}) and the longest row ({one / 1e9:.3g}) take. Raise it, shorten that row "
            f"('{longest[0].id}'), or set train.gradient_checkpointing."
        )
    fits = 1 + int(room // max(1, more))
    fits = min(team.gather(fits))
    return Portions(model, min(size, fits), team)


def rows_bytes(model: Model, longest: Sequence[Example], bf16: bool) -> tuple[int, int]:
    """Memory of a pass over the first of two rows, and what each further one adds."""
    one = step_bytes(model, longest[:1], bf16)
    return one, step_bytes(model, longest, bf16) - one if len(longest) > 1 else one


def longest_rows(model: Model, examples: Sequence[Example]) -> list[Example]:
    """The longest row, and the one that brings most beside it: of several instructions, the longest that has another one.

    Rows of one instruction share its keys and values; in steps that mix tasks every row brings its own.
    """
    order = sorted(examples, key=lambda row: (model.num_tokens(row), len(row.instruction)), reverse=True)
    longest: dict[str, Example] = {}
    for row in order:
        longest.setdefault(row.instruction, row)
    if len(longest) == 1:
        return order[:2]

    def whole(row: Example) -> int:
        return model.num_tokens(row) + len(model.tokenizer(row.instruction)["input_ids"])

    return sorted(longest.values(), key=whole)[:-3:-1]


def give_back_what_is_freed() -> None:
    """Large tensors of the main memory go back to the system when they are freed, where the C library is glibc.

    Left to itself it keeps them for later, in pieces that do not fit: a step whose tensors take 0.85 GB held 1.5 GB.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, _LARGE)
        library.malloc_trim(0)


def model_bytes(model: Model, trainable: Sequence[str]) -> int:
    """Weights, and for those that are trained a gradient and AdamW's two values."""
    parameters = dict(model.module.named_parameters())
    weights = sum(one.numel() * one.element_size() for one in parameters.values())
    return weights + sum(3 * parameters[name].numel() * parameters[name].element_size() for name in trainable)


def step_bytes(model: Model, examples: Sequence[Example], bf16: bool) -> int:
    """Memory of a forward and backward pass over rows beyond the model: what is kept for the way back, and working space.

    Of layers that are computed again (`train.gradient_checkpointing`) one at a time keeps its own when it is its turn, and on
    the way back through it needs as much again: its gradients are then a large part of all that there is.
    """
    kept = _kept_bytes(model, examples, bf16)
    with largest_kept(model.module) as computed_again:
        largest = _kept_bytes(model, examples, bf16) - kept if computed_again else 0
    return int(kept * (1 + WORKING_SHARE) + largest * (1 + WORKING_SHARE_OF_A_LAYER))


def _kept_bytes(model: Model, examples: Sequence[Example], bf16: bool) -> int:
    """What autograd is handed to keep, each storage once and weights left out; nothing is computed backwards here."""
    weights = {one.untyped_storage().data_ptr() for one in model.module.parameters()}
    kept: dict[int, int] = {}
    held: list[Any] = []  # storages, so that none takes another's place

    def note(tensor: torch.Tensor) -> None:  # the tensor itself would hold the graph, and the graph it
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
            held.append(storage)

    device = next(model.module.parameters()).device
    was_training = model.module.training
    model.module.train()
    noting = torch.autograd.graph.saved_tensors_hooks(note, lambda nothing: nothing)
    with noting, torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        model.loss(model.batch(examples))
    model.module.train(was_training)
    return sum(kept.values())


def used_rows(stages: Sequence[Any], pools: Mapping[str, Sequence[Example]]) -> list[Example]:
    """The rows that some stage trains on."""
    used = {pool for stage in stages for pool, passes in stage.passes.items() if passes > 0}
    return [row for pool in sorted(used) for row in pools.get(pool, ())]
