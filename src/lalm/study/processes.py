"""Processes that share folders: one at a time works in a folder."""

from __future__ import annotations

import contextlib
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
