"""A cache of what a frozen encoder and connector make of a recording: computed once, used in every epoch and run.

Entries are keyed by the content of the audio and by the fingerprint of the weights and settings that read it. Each is a
safetensors file with a checksum, mapped into memory rather than read, so that runs side by side share its pages and a
corpus need not fit into memory. A damaged entry is computed anew. Several processes may read and write at once: each entry
is written whole. Beyond `LALM_CACHE_GB` (20 by default) the entries that were not used for longest are deleted, but none
that was used within a day: if all were, or if nothing can be written there, new ones are no longer kept on disk. What is not
on disk is held in memory, a gigabyte of it at most, and computed again when it is used beyond that.
"""

from __future__ import annotations

import contextlib
import json
import math
import mmap
import os
import sys
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from safetensors.numpy import save

from lalm.data import audio
from lalm.errors import ConfigError, UserError
from lalm.rundir import atomic

Arrays = Mapping[str, np.ndarray]
Compute = Callable[[Sequence[Path]], Sequence[Arrays]]
Key = tuple[str, str]  # of the weights, of the content
BATCH_SIZE = 32  # heard at once on a GPU
RECENT_S = 24 * 3600.0
KEPT_IN_MEMORY = 2**30  # bytes of arrays that are on no disk
MAPPED = 4096  # entries mapped at once
COUNTED_ANEW = 0.05  # of the bound: what a process writes before it looks again at what others wrote
_DTYPES = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "I64": "<i8", "I32": "<i4", "I16": "<i2", "U8": "u1", "BOOL": "?"}
_DTYPES |= {"I8": "i1", "U16": "<u2", "U32": "<u4", "U64": "<u8"}


def version(path: Path) -> tuple[int, int, int] | None:
    """Changes when a file is written anew: its i-node, size in bytes and time of change; None if it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


class Prepared(Mapping[str, np.ndarray]):
    """The arrays of one recording, looked up when they are used: from memory, from disk, or computed again."""

    def __init__(self, find: Callable[[], Arrays]) -> None:
        self._find = find

    def __getitem__(self, name: str) -> np.ndarray:
        return self._find()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._find())

    def __len__(self) -> int:
        return len(self._find())


class PreparedCache:
    """Arrays per recording, on disk, or (if `folder` is None) in memory."""

    def __init__(self, folder: Path | None, max_bytes: int | None = None) -> None:
        """Raises ConfigError if `LALM_CACHE_GB` is not a number."""
        self._max_bytes = _max_bytes() if max_bytes is None else max_bytes
        self._folder = folder if self._max_bytes else None
        self._mapped: OrderedDict[Key, Arrays] = OrderedDict()
        self._memory: OrderedDict[Key, tuple[Arrays, int]] = OrderedDict()
        self._memory_bytes = 0
        self._hashes: dict[tuple[Path, object], str] = {}
        self._bytes: int | None = None  # on disk, as far as this process knows
        self._written = 0  # by this process since it looked
        self._full = False

    @property
    def is_on_disk(self) -> bool:
        """Whether entries outlive the process."""
        return self._folder is not None

    def get(self, paths: Sequence[Path], compute: Compute, fingerprint: str) -> list[Arrays]:
        """The arrays of each path; what is not there is computed in batches of `BATCH_SIZE` and kept."""
        keys = [(fingerprint, self._hash(path)) for path in paths]
        missing = {key: path for key, path in zip(keys, paths, strict=True) if self._look_up(key) is None}
        todo = list(missing.items())
        for start in range(0, len(todo), BATCH_SIZE):
            chunk = todo[start : start + BATCH_SIZE]
            for (key, _), arrays in zip(chunk, compute([path for _, path in chunk]), strict=True):
                self._keep(key, arrays)

        def find(key: Key, path: Path) -> Arrays:
            found = self._look_up(key)
            if found is None:  # dropped from memory, and deleted or never kept on disk
                found = compute([path])[0]
                self._keep(key, found)
            return found

        return [
            Prepared(lambda key=key, path=path: find(key, path))  # type: ignore[misc]
            for key, path in zip(keys, paths, strict=True)
        ]

    def _hash(self, path: Path) -> str:
        key = (path, version(path))
        if key not in self._hashes:
            self._hashes[key] = audio.content_hash(path)
        return self._hashes[key]

    def _file(self, key: Key) -> Path | None:
        return None if self._folder is None else self._folder / key[0] / key[1][:2] / f"{key[1]}.safetensors"

    # -- memory ------------------------------------------------------------------------------------------------------

    def _look_up(self, key: Key) -> Arrays | None:
        if key in self._memory:
            self._memory.move_to_end(key)
            return self._memory[key][0]
        if key in self._mapped:
            self._mapped.move_to_end(key)
            return self._mapped[key]
        file = self._file(key)
        return None if file is None else self._map(key, file)

    def _map(self, key: Key, file: Path) -> Arrays | None:
        arrays = _mapped(file)
        if arrays is not None:
            self._mapped[key] = arrays
            while len(self._mapped) > MAPPED:
                self._mapped.popitem(last=False)
        return arrays

    def _hold(self, key: Key, arrays: Arrays) -> None:
        """Keep in memory; what was not used for longest goes, but never the newest."""
        self._memory[key] = arrays, sum(array.nbytes for array in arrays.values())
        self._memory_bytes += self._memory[key][1]
        while self._memory_bytes > KEPT_IN_MEMORY and len(self._memory) > 1:
            _, (_, dropped) = self._memory.popitem(last=False)
            self._memory_bytes -= dropped

    # -- disk --------------------------------------------------------------------------------------------------------

    def _keep(self, key: Key, arrays: Arrays) -> None:
        arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        file = self._file(key)
        if file is None or self._full or not self._write(file, _with_checksum(arrays)) or self._map(key, file) is None:
            self._hold(key, arrays)

    def _write(self, file: Path, data: bytes) -> bool:
        """Whether an entry was written: there is room for it, and it can be."""
        try:
            self._make_room(len(data))
            if not self._full:
                with atomic(file, "wb") as stream:
                    stream.write(data)
        except (OSError, UserError) as error:
            self._full = True
            print(f"{error} Further recordings are encoded each time they are seen.", file=sys.stderr)
        return not self._full

    def _make_room(self, num_bytes: int) -> None:
        """Delete what was not used for longest if the folder would grow beyond its bound; the others' work counts too."""
        assert self._folder is not None
        self._written += num_bytes
        if self._bytes is None or self._written > COUNTED_ANEW * self._max_bytes:
            self._bytes, self._written = sum(size for _, size, _ in _entries(self._folder)), 0
        self._bytes += num_bytes
        if self._bytes <= self._max_bytes:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(Timeout), FileLock(self._folder / ".lock", timeout=0):
            entries = sorted(_entries(self._folder))
            self._bytes = num_bytes + sum(size for _, size, _ in entries)
            for used, size, path in entries:
                if self._bytes <= 0.9 * self._max_bytes or used > time.time() - RECENT_S:
                    break
                with contextlib.suppress(OSError):
                    path.unlink()
                self._bytes -= size
            if self._bytes > self._max_bytes:
                self._full = True
                print(
                    f"{self._folder} holds {self._bytes / 1e9:.1f} GB that were used within a day, and LALM_CACHE_GB allows "
                    f"{self._max_bytes / 1e9:g}: further recordings are encoded each time they are seen.",
                    file=sys.stderr,
                )


def _max_bytes() -> int:
    given = os.environ.get("LALM_CACHE_GB", "20")
    try:
        number = float(given)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise ConfigError(f"LALM_CACHE_GB is {given!r}; a number of gigabytes is needed, 0 for no cache on disk.")
    return int(number * 1e9)


def _entries(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """Time of last use, size in bytes and path of every entry, of earlier releases' too, and of what a kill left over."""
    for path in folder.glob("*/*/*"):
        with contextlib.suppress(OSError):
            status = path.stat()
            yield status.st_mtime, status.st_size, path


def _with_checksum(arrays: Arrays) -> bytes:
    """A safetensors file whose metadata hold the checksum of its data."""
    plain = save(dict(arrays))
    return save(dict(arrays), metadata={"crc32": str(zlib.crc32(plain[8 + int.from_bytes(plain[:8], "little") :]))})


def _mapped(file: Path) -> Arrays | None:
    """The arrays of an entry, mapped; None if there is none, or if it is damaged, in which case it is deleted."""
    try:
        with file.open("rb") as stream:
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError):  # an empty file
            _delete(file)
        return None
    try:
        begin = 8 + int.from_bytes(mapped[:8], "little")
        header = json.loads(mapped[8:begin])
        if zlib.crc32(memoryview(mapped)[begin:]) != int(header.pop("__metadata__")["crc32"]):
            raise ValueError("the checksum is another")
        arrays = {
            name: np.frombuffer(
                mapped, _DTYPES[one["dtype"]], math.prod(one["shape"]), begin + one["data_offsets"][0]
            ).reshape(one["shape"])
            for name, one in header.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError):
        _delete(file)
        return None
    with contextlib.suppress(OSError):
        os.utime(file)  # the time of last use
    return arrays


def _delete(file: Path) -> None:
    with contextlib.suppress(OSError):
        file.unlink()
