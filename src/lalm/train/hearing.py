"""Recordings heard before rows are made of them: several at once on a GPU, each process its share, with what is left.

Models that prepare a recording once (`data.cache`) would else hear one after the other while rows are measured, and of
several processes the first one all of them.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence

from lalm.contracts import Model
from lalm.cores import format_s
from lalm.data.cache import BATCH_SIZE
from lalm.errors import DataError
from lalm.records import Example

QUIET_S = 2.0  # what takes no longer is done without a word


def hear_ahead(model: Model, rows: Sequence[Example], quiet: bool = False) -> None:
    """Have the recordings of rows prepared, if the model (`to_hear`) does that ahead of use.

    What cannot be read is left for whoever makes the rows, who names them all.
    """
    to_hear = getattr(model, "to_hear", None)
    todo = list(to_hear(rows)) if to_hear is not None else []
    started, done, said = time.monotonic(), 0, False
    for language in dict.fromkeys(language for _, language in todo):
        paths = [path for path, own in todo if own == language]
        for start in range(0, len(paths), BATCH_SIZE):
            chunk = paths[start : start + BATCH_SIZE]
            with contextlib.suppress(DataError):
                model.prepared(chunk, language)  # type: ignore[attr-defined]
            done += len(chunk)
            took_s = time.monotonic() - started
            if took_s > QUIET_S and not quiet:
                said = True
                left = format_s(took_s / done * (len(todo) - done))
                print(
                    f"\r[hear] {done}/{len(todo)} recordings  about {left} left   ", end="", file=sys.stderr, flush=True
                )
    if said:
        print(file=sys.stderr)
