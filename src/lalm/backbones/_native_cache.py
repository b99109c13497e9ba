"""What the frozen encoder and connector of a `transformers` class make of a recording, kept on disk (`data.cache`).

A recording's vectors are named by the content of its file, and by a fingerprint of the weights that hear, the settings of
the feature extractor, the number format and the kind of device. They are kept in the format in which they were computed,
so what is read is what was computed, to the last bit. While a part that hears is trained, and ever after, nothing is kept.
Alterations of features stand in the file that they are for, so altered copies are recordings of their own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lalm.data.cache import BATCH_SIZE, Arrays, PreparedCache
from lalm.models.parts import hearing_key, sampled_hash, settings_key

HEARD = "heard"  # among a batch's features: the vectors themselves
_BITS = "bits"  # bfloat16, which numpy does not have, as its bits


class Heard:
    """Vectors of recordings for one model. `parts` are the modules that hear; `settings` whatever else decides what they make."""

    def __init__(self, cache: PreparedCache | None, parts: Sequence[nn.Module], settings: Sequence[Any]) -> None:
        self._cache, self._parts, self._learned = cache, list(parts), False
        self._settings = settings_key(*settings)
        self._weights: str | None = None

    @property
    def is_kept(self) -> bool:
        """Whether vectors may be kept: there is a cache, and nothing that hears is trained or was."""
        if not self._learned:
            self._learned = any(p.requires_grad for part in self._parts for p in part.parameters())
        return self._cache is not None and not self._learned

    def entries(self, paths: Sequence[Path], hear: Callable[[Sequence[Path]], list[Tensor]]) -> list[Arrays]:
        """What is kept of recordings (`joined`); `hear` makes vectors [positions, width] of those that are not kept.

        On a CPU recordings are heard one at a time: nothing is padded, and none depends on its neighbours.
        """
        assert self._cache is not None
        first = next(self._parts[0].parameters())
        at_once = 1 if first.device.type == "cpu" else BATCH_SIZE

        def compute(missing: Sequence[Path]) -> list[Arrays]:
            for part in self._parts:
                part.eval()
            with torch.inference_mode(), torch.autocast(first.device.type, enabled=False):
                chunks = [missing[start : start + at_once] for start in range(0, len(missing), at_once)]
                return [_as_arrays(one) for chunk in chunks for one in hear(chunk)]

        return self._cache.get(paths, compute, self._fingerprint())

    def _fingerprint(self) -> str:
        if self._weights is None:
            each = "".join(sampled_hash(str(number), part) for number, part in enumerate(self._parts))
            self._weights = hashlib.sha256(f"{each} {self._settings}".encode()).hexdigest()[:16]
        return f"native-{hearing_key(self._weights, self._parts[0])}"


def joined(entries: Sequence[Arrays]) -> Tensor:
    """Vectors [total positions, width] of recordings, one after the other."""
    return torch.cat([_as_tensor(one) for one in entries])


def _as_arrays(vectors: Tensor) -> dict[str, np.ndarray]:
    values = vectors.detach().cpu()
    return {_BITS: values.view(torch.int16).numpy()} if values.dtype == torch.bfloat16 else {HEARD: values.numpy()}


def _as_tensor(arrays: Arrays) -> Tensor:
    return torch.from_numpy(arrays[_BITS]).view(torch.bfloat16) if _BITS in arrays else torch.from_numpy(arrays[HEARD])
