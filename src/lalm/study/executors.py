"""Where the runs of a study are executed: processes of this machine, or a Ray cluster. The runs are the same.

An executor starts a run and says whether it has ended. A run works in the study's folder alone and goes on from its last
checkpoint, so it does not matter where it is started, or started again. On a cluster every machine must see the study's
folder, the data and LALM_HOME under the same paths.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lalm.cores import gpus
from lalm.errors import MissingExtraError, UserError, many, nearest

EXECUTORS = ("local", "ray")
RETRIES = 3  # of a run whose machine or process is lost
# Workers are forked from one process that has imported everything already, where the system can fork.
_CONTEXT: Any = multiprocessing.get_context(
    "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
)


class Executor(Protocol):
    """Starts runs, `workers` at a time."""

    workers: int

    def start(self, out: Path, name: str, oracle_text: bool) -> Any:
        """Begin a run, or go on with it; what stands for it."""

    def code(self, run: Any) -> int | None:
        """Its exit code, negative for a signal; None while it works."""

    def stop(self, started: Sequence[Any]) -> None:
        """End runs that work."""

    def close(self) -> None:
        """When the study has ended."""


def executor(name: str, workers: int) -> Executor:
    """The executor of a name; `workers` runs at a time on this machine. Raises UserError if there is none, or no Ray."""
    if name not in EXECUTORS:
        raise UserError(f"--executor {name}: there is no such executor.{nearest(name, EXECUTORS)}")
    threads = max(1, (os.cpu_count() or 1) // workers)  # the same for all runs: it changes the last digits
    return RayExecutor(threads) if name == "ray" else LocalExecutor(workers, threads)


class LocalExecutor:
    """A process a run, all of this machine; where it has GPUs, each on one of its own while there are any."""

    def __init__(self, workers: int, threads: int) -> None:
        self.workers, self._threads = workers, threads
        self._on_gpu: dict[Any, str] = {}
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        _CONTEXT.set_forkserver_preload(["lalm.study.worker"])

    def start(self, out: Path, name: str, oracle_text: bool) -> Any:
        """See `Executor`."""
        busy = Counter(gpu for process, gpu in self._on_gpu.items() if process.is_alive())
        gpu = min(gpus(), key=lambda one: busy[one], default=None)
        process = _CONTEXT.Process(target=_work, args=(out, name, oracle_text, self._threads, gpu), daemon=True)
        process.start()
        if gpu is not None:
            self._on_gpu[process] = gpu
        return process

    def code(self, run: Any) -> int | None:
        """See `Executor`."""
        code: int | None = run.exitcode
        return code

    def stop(self, started: Sequence[Any]) -> None:
        """See `Executor`."""
        for process in started:
            process.terminate()
        for process in started:
            process.join()

    def close(self) -> None:
        """Nothing is left."""


class RayExecutor:
    """A task a run, on a cluster that runs: that of RAY_ADDRESS, or the one of this machine.

    None is begun here, since a cluster listens on all of a machine's addresses and runs what it is sent. A task takes a GPU
    where the cluster has any, and its share of that machine's cores, else as many cores as a run has threads. A task whose
    process or machine is lost is started again elsewhere, at most `RETRIES` times.
    """

    def __init__(self, threads: int) -> None:
        try:
            import ray
        except ImportError:
            raise MissingExtraError("ray", "--executor ray", "pip install 'lalm[ray]'") from None
        self._ray, self._joined = ray, not ray.is_initialized()
        if self._joined:
            try:
                ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
            except (ConnectionError, RuntimeError) as error:
                raise UserError(
                    f"--executor ray: no cluster can be reached ({' '.join(str(error).split())}) Start one (ray start --head), "
                    "name one in RAY_ADDRESS, or use --executor local on this machine alone."
                ) from None
        share = share_of_a_run([node["Resources"] for node in ray.nodes() if node["Alive"]], threads)
        if share.threads != threads:
            print(f"[study] a run has {many(share.threads, 'core')}, as the cluster's machines allow.", file=sys.stderr)
        self.workers, self._threads = share.workers, share.threads
        self._task = ray.remote(num_cpus=share.threads, num_gpus=share.gpus, max_retries=RETRIES)(_in_a_child)

    def start(self, out: Path, name: str, oracle_text: bool) -> Any:
        """See `Executor`."""
        return self._task.remote(str(out.resolve()), name, oracle_text, self._threads)

    def code(self, run: Any) -> int | None:
        """See `Executor`."""
        done, _ = self._ray.wait([run], timeout=0)
        if not done:
            return None
        errors = self._ray.exceptions
        try:
            return int(self._ray.get(run))
        except errors.RayTaskError as error:
            raise UserError(
                f"--executor ray: a run could not be begun on the cluster ({' '.join(str(error.cause or error).split())}). Every "
                "machine needs this lalm, and must see the study's folder, the data and LALM_HOME under the same paths."
            ) from None
        except errors.RayError:  # lost once more than it may be
            return -signal.SIGKILL

    def stop(self, started: Sequence[Any]) -> None:
        """See `Executor`."""
        for run in started:
            self._ray.cancel(run, force=True)

    def close(self) -> None:
        """Leave the cluster."""
        if self._joined:
            self._ray.shutdown()


@dataclass(frozen=True)
class Share:
    """What a run has of a cluster, and how many runs there are at a time."""

    workers: int
    threads: int
    gpus: int


def share_of_a_run(machines: Sequence[Mapping[str, float]], threads: int) -> Share:
    """With GPUs one of them and its share of the cores beside it; else `threads` cores, or as many as the largest machine has."""
    with_gpus = [(int(one.get("CPU", 0)), int(one["GPU"])) for one in machines if one.get("GPU", 0) >= 1]
    if with_gpus:
        beside = min(max(1, cpus // number) for cpus, number in with_gpus)
        return Share(sum(number for _, number in with_gpus), beside, 1)
    cores = [int(one.get("CPU", 0)) for one in machines]
    threads = max(1, min(threads, max(cores, default=1)))
    return Share(max(1, sum(one // threads for one in cores)), threads, 0)


def _work(out: Path, name: str, oracle_text: bool, threads: int, gpu: str | None = None) -> None:
    """In the new process; the one that starts it imports no torch."""
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # before anything looks
    from lalm.study.worker import main

    main(out, name, oracle_text, threads)


def _in_a_child(out: str, name: str, oracle_text: bool, threads: int) -> int:
    """A run within a Ray task: in a process of its own, which ends with Ray's, so that its output and its end are its own."""
    from filelock import FileLock

    context = multiprocessing.get_context("spawn")
    with FileLock(Path(out) / "runs" / name / ".lock", timeout=60):  # until a process that was given up has ended
        process = context.Process(target=_work, args=(Path(out), name, oracle_text, threads))
        process.start()
        process.join()
    return process.exitcode or 0
