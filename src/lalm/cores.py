"""The same work on all cores: in processes of their own that end with this one, with an estimate of what is left; GPUs by name."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TypeVar

from lalm.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")


def gpus() -> list[str]:
    """The NVIDIA GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; no library is loaded to look."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return [name.strip() for name in allowed.split(",") if name.strip() not in ("", "-1")]
    return [str(number) for number in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]


def on_all_cores(
    work: Callable[[Item], Result], items: Sequence[Item], what: str, begin: Callable[[], None] | None = None
) -> list[Result]:
    """`work(item)` of every item, in order; `what` opens the line on standard error that says how far it is.

    `work`, items and results travel between processes, each of which runs `begin` first. A process that may have none of
    its own (a worker of a study) does the work itself. Raises what `work` raises, and UserError if a process is killed.
    """
    if not items:
        return []
    if multiprocessing.current_process().daemon:
        return _told(map(work, items), len(items), what)
    processes = min(os.cpu_count() or 1, len(items))
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(processes, mp_context=context, initializer=_begin, initargs=(begin,)) as pool:
            try:
                return _told(pool.map(work, items, chunksize=1), len(items), what)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # what has not begun is not waited for
                raise
    except BrokenProcessPool:
        raise UserError(
            f"[{what}] a process was killed; the system does so when memory runs out. What was finished is kept, and the same "
            'command goes on. (A script of your own that leads here works behind `if __name__ == "__main__":` alone.)'
        ) from None


def _told(results: Iterable[Result], number: int, what: str) -> list[Result]:
    """The results, each one told as it comes."""
    started = time.monotonic()
    found = []
    for result in results:
        found.append(result)
        left_s = (time.monotonic() - started) / len(found) * (number - len(found))
        print(
            f"\r[{what}] {len(found)}/{number}  about {format_s(left_s)} left   ",
            end="\n" if len(found) == number else "",
            file=sys.stderr,
            flush=True,
        )
    return found


def _begin(begin: Callable[[], None] | None) -> None:
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one is interrupted too, and says so
    if begin is not None:
        begin()


def end_with_parent() -> None:
    """End this process when the one that started it ends, killed or not.

    A worker that works on would write into a folder that the next call works in.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def format_s(seconds: float) -> str:
    """Seconds for a person: `42 s`, `3 min`, `1 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
