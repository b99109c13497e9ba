"""Who works on a run: one process, or several that `accelerate launch` started.

One process is the plain case: nothing of torch.distributed is begun, and everything that several do together is nothing.
How the gradients of several meet is in `engines`, `sharded` and `zero`.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import sys
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

from lalm.errors import ConfigError, MissingExtraError, UserError

T = TypeVar("T")
TIMEOUT = timedelta(hours=6)  # one may fetch a model while the others wait; the launcher ends all when one has died


class Alone:
    """One process."""

    rank, size = 0, 1
    strategy = "none"  # ddp, fsdp2 or zero2 with several

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    @property
    def device(self) -> Any:
        """The torch device of this process."""
        import torch

        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def wait(self) -> None:
        """Until all are here."""

    def from_main(self, value: T) -> T:
        """The main process's value, on all."""
        return value

    def gather(self, value: T) -> list[T]:
        """Everyone's value, by rank, on all."""
        return [value]

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        """The main process does the block before the others do.

        What is wrong is said once then, and what is fetched or prepared is there for the others.
        """
        yield

    @contextlib.contextmanager
    def ending_together(self) -> Iterator[None]:
        """When one of several has ended, so do the others; only the one knows why."""
        yield

    def part(self, rows: Sequence[T]) -> Sequence[T]:
        """This process's rows of a set that all answer together."""
        return rows

    def together(self, rows: list[T]) -> list[T]:
        """What all made of their parts, in the order of the set, on all."""
        return rows


class Several(Alone):
    """One of the processes of `accelerate launch`. Raises UserError for a launch configuration that lalm has no use for."""

    def __init__(self) -> None:
        import torch
        from accelerate import Accelerator
        from accelerate.utils import InitProcessGroupKwargs

        self.strategy = _strategy()
        on_cpu = _wanted("ACCELERATE_USE_CPU") or not torch.cuda.is_available()
        if not on_cpu and int(os.environ["LOCAL_RANK"]) >= torch.cuda.device_count():
            raise ConfigError(
                f"More processes were launched on this machine than it has GPUs ({torch.cuda.device_count()}). Start as "
                "many with --num_processes."
            )
        waiting = InitProcessGroupKwargs(timeout=TIMEOUT)
        try:
            self.accelerator = Accelerator(cpu=on_cpu, kwargs_handlers=[waiting])
        except ImportError as error:
            if "DeepSpeed" in str(error):
                raise MissingExtraError("deepspeed", "this launch configuration", "pip install deepspeed") from None
            raise
        atexit.register(_leave)
        self.rank, self.size = self.accelerator.process_index, self.accelerator.num_processes
        if not self.is_main:
            _be_quiet()

    @property
    def device(self) -> Any:
        return self.accelerator.device

    def wait(self) -> None:
        self.accelerator.wait_for_everyone()

    def from_main(self, value: T) -> T:
        from torch import distributed

        values = [value]
        distributed.broadcast_object_list(values, src=0, device=self.device)
        return values[0]

    def gather(self, value: T) -> list[T]:
        from torch import distributed

        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value)
        return values

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        with self.accelerator.main_process_first():
            yield

    @contextlib.contextmanager
    def ending_together(self) -> Iterator[None]:
        """Raises UserError on the main process and SystemExit on the others if the connection to another is lost."""
        from torch.distributed import DistError

        try:
            yield
        except RuntimeError as error:
            if not isinstance(error, DistError) and "gloo/transport" not in str(error):
                raise
            if self.is_main:
                raise UserError(
                    "Another process of this run has ended, and this one with it; that one knows why."
                ) from None
            sys.exit(2)

    def part(self, rows: Sequence[T]) -> Sequence[T]:
        """Every `size`-th row; all rows where the weights are sharded, since answering needs all processes then."""
        return rows if self.strategy == "fsdp2" else rows[self.rank :: self.size]

    def together(self, rows: list[T]) -> list[T]:
        if self.strategy == "fsdp2":
            return rows
        parts = self.gather(rows)
        return [parts[index % self.size][index // self.size] for index in range(sum(map(len, parts)))]


def launched() -> bool:
    """Whether this is one of several processes of `accelerate launch` (or torchrun)."""
    return "LOCAL_RANK" in os.environ and int(os.environ.get("WORLD_SIZE") or 1) > 1


@functools.cache
def team() -> Alone:
    """Who works on the runs of this process. Raises UserError, see `Several`."""
    return Several() if launched() else Alone()


def only_alone(command: str) -> None:
    """Raises ConfigError if several processes were launched for a command that one does."""
    if launched():
        raise ConfigError(f"{command} works in one process. Start it without accelerate launch.")


def _leave() -> None:
    """End the connection while Python still runs: its threads abort the process if they are met by its end."""
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()


def end(code: int) -> NoReturn:
    """Leave a process of a launch: what is registered for the end is run, then the process is gone at once.

    Threads of torch.distributed now and then abort a process (SIGABRT, without a word) that meets them after Python has
    ended, when all its work is done; the launcher would take that for a failure.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)


def _strategy() -> str:
    """How the launch configuration wants gradients to meet."""
    number_format = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if number_format not in ("no", "bf16"):
        raise ConfigError(
            f"mixed_precision: {number_format} in the launch configuration: lalm trains in bfloat16 or float32, as "
            "train.bf16 of the recipe says. Allowed: no, bf16."
        )
    if _wanted("ACCELERATE_USE_MEGATRON_LM"):
        raise ConfigError(
            "The launch configuration asks for Megatron-LM. Allowed: MULTI_GPU, MULTI_CPU, FSDP, DEEPSPEED."
        )
    if _wanted("ACCELERATE_USE_FSDP"):
        version = os.environ.get("FSDP_VERSION", "1")
        if version != "2":
            raise ConfigError(f"fsdp_version: {version} in the launch configuration: lalm shards with version 2.")
        return "fsdp2"
    if _wanted("ACCELERATE_USE_DEEPSPEED"):
        return "zero2"
    return "ddp"


def _wanted(name: str) -> bool:
    """Whether the launcher set a switch."""
    return os.environ.get(name, "false").lower() == "true"


def _be_quiet() -> None:
    """What all processes would say alike is said by the main one. Errors still go to standard error."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # as long as the process lives
