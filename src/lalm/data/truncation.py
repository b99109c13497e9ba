"""Is a recording cut off? libsndfile reads what is left of a cut WAV or OGG file without a word, so it is asked here.

WAV (RIFF, RF64): the `data` chunk announces its bytes. OGG: every page announces its own. MP3 and FLAC show it when
they are decoded.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

_STREAMED = 0x7FFF_0000  # programs that write to a pipe cannot know the size and announce this or more
_TOLERANCE_SHARE, _TOLERANCE_S = 0.02, 0.1  # encoders round the length a little


def is_cut(duration_s: float, announced_s: float) -> bool:
    """Whether so much is missing that rounding does not explain it."""
    return duration_s < (1 - _TOLERANCE_SHARE) * announced_s - _TOLERANCE_S


def cut_reason(path: Path) -> str | None:
    """Why a file must have been cut off, in words; None if it is whole as far as its container can tell."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        kind = stream.read(4)
        if kind in (b"RIFF", b"RF64"):
            return _riff(stream, size)
        if kind == b"OggS":
            return _ogg(stream, size)
    return None


def _riff(stream: BinaryIO, size: int) -> str | None:
    stream.seek(12)
    bytes_per_s, long_size = 0, None
    while len(head := stream.read(8)) == 8:
        name, length = struct.unpack("<4sI", head)
        start = stream.tell()
        if name == b"fmt ":
            bytes_per_s = int.from_bytes(stream.read(12)[8:], "little")
        elif name == b"ds64":  # RF64 keeps its 64-bit sizes here: of the whole file, then of the data chunk
            long_size = int.from_bytes(stream.read(16)[8:], "little")
        elif name == b"data":
            announced = length if long_size is None else long_size
            if bytes_per_s == 0 or (long_size is None and announced >= _STREAMED):
                return None
            announced_s, duration_s = announced / bytes_per_s, (size - start) / bytes_per_s
            cut = is_cut(duration_s, announced_s)
            return f"its header announces {announced_s:.2f} s, {duration_s:.2f} s are there" if cut else None
        stream.seek(start + length + length % 2, os.SEEK_SET)
    return None


def _ogg(stream: BinaryIO, size: int) -> str | None:
    """Page after page; a cut within a page shows, a cut between two pages cannot be told from an end."""
    position = 0
    while position < size:
        stream.seek(position)
        head = stream.read(27)
        if head[:4] != b"OggS"[: len(head)]:
            return None  # something else follows the pages; the decoder judges it
        lacing = stream.read(head[26]) if len(head) == 27 else b""
        length = 27 + (head[26] + sum(lacing) if len(head) == 27 else 0)
        if position + length > size:
            return f"its last page announces {length} bytes, {size - position} are there"
        position += length
    return None
