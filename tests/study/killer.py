"""Kills a run of a study in its middle, for tests."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal


class Killer(threading.Thread):
    """Kills the process of the first run that has a checkpoint and is not finished, or the one that started it."""

    def __init__(self, out: Path, whom: Literal["run", "parent"] = "run") -> None:
        super().__init__(daemon=True)
        self.out, self.whom, self.name_of_run, self.at = out.resolve(), whom, "", 0.0
        self.over = threading.Event()

    def working(self) -> Iterator[tuple[int, Path]]:
        """Processes that are at a run, and its folder: they have its log open."""
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                log = Path(os.readlink(folder / "fd" / "1"))
            except OSError:
                continue
            if log.name == "worker.log" and log.is_relative_to(self.out):
                yield int(folder.name), log.parent

    def run(self) -> None:
        while not self.over.is_set():
            for pid, folder in self.working():
                if list(folder.glob("checkpoint-*/state.json")) and not (folder / "run.json").exists():
                    if self.whom == "parent":
                        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
                    self.at, self.name_of_run = time.time(), folder.name
                    os.kill(pid, signal.SIGKILL)
                    return
            time.sleep(0.001)

    def check(self) -> None:
        """Wait for the thread; the run that was killed went on from a checkpoint that it had before."""
        self.over.set()
        self.join()
        assert self.name_of_run, "no run was caught in its middle"
        checkpoints = (self.out / "runs" / self.name_of_run).glob("checkpoint-*")
        first = min(checkpoints, key=lambda path: int(path.name.split("-")[1]))
        assert first.stat().st_mtime < self.at, "it did not go on from its checkpoint"
