"""A cache of what a frozen encoder and connector make of a recording: computed once, used in every epoch and run.

Entries are keyed by the content of the audio and by the fingerprint of the weights that read it, stored as `.npz`
without pickles. A damaged entry is computed anew. Several processes may write at once: each entry is written whole.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from lalm.data import audio
from lalm.rundir import atomic

Prepared = Mapping[str, np.ndarray]
BATCH_SIZE = 8


def version(path: Path) -> tuple[int, int, int] | None:
    """Changes when a file is written anew: its i-node, size in bytes and time of change; None if it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


class PreparedCache:
    """Arrays per recording, in memory and (unless `folder` is None) on disk."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._memory: dict[tuple[str, str], Prepared] = {}
        self._hashes: dict[tuple[Path, object], str] = {}

    def get(
        self, paths: Sequence[Path], compute: Callable[[Sequence[Path]], list[Prepared]], fingerprint: str
    ) -> list[Prepared]:
        """The arrays of each path; what is not there is computed in batches of `BATCH_SIZE` and kept."""
        keys = [(fingerprint, self._hash(path)) for path in paths]
        missing = {}
        for key, path in zip(keys, paths, strict=True):
            if key not in self._memory and not self._read(key):
                missing[key] = path
        todo = list(missing.items())
        for start in range(0, len(todo), BATCH_SIZE):
            chunk = todo[start : start + BATCH_SIZE]
            for (key, _), arrays in zip(chunk, compute([path for _, path in chunk]), strict=True):
                self._memory[key] = arrays
                self._write(key, arrays)
        return [self._memory[key] for key in keys]

    def _hash(self, path: Path) -> str:
        key = (path, version(path))
        if key not in self._hashes:
            self._hashes[key] = audio.content_hash(path)
        return self._hashes[key]

    def _file(self, key: tuple[str, str]) -> Path | None:
        return None if self._folder is None else self._folder / key[0] / key[1][:2] / f"{key[1]}.npz"

    def _read(self, key: tuple[str, str]) -> bool:
        path = self._file(key)
        if path is None or not path.is_file():
            return False
        try:
            with np.load(path, allow_pickle=False) as stored:
                self._memory[key] = {name: stored[name] for name in stored.files}
        except (OSError, ValueError, zipfile.BadZipFile, KeyError, EOFError):
            path.unlink(missing_ok=True)  # damaged: computed anew by the caller
            return False
        return True

    def _write(self, key: tuple[str, str], arrays: Prepared) -> None:
        path = self._file(key)
        if path is not None:
            with atomic(path, "wb") as stream:
                np.savez(stream, **arrays)  # type: ignore[arg-type]
