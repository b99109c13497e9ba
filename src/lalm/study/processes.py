"""Processes that share folders: one at a time works in a folder, and no worker outlives its study."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from lalm.errors import UserError


@contextlib.contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Keeps other processes out of a folder; the system lifts it when this process dies. Raises UserError if it is taken."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(f"{folder} is in use by another lalm process. Wait for it, or choose another folder.") from None
    try:
        yield
    finally:
        lock.release()


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
