"""Parts of language models of `transformers` given a class of ours that computes the same in other steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_CLASSES: dict[tuple[type, Any], type] = {}


def swap(part: Any, forward_of: Callable[[Any], Callable[..., Any]]) -> None:
    """Make a part one of a subclass with the `forward` that `forward_of(its class)` gives; weights and their names stay.

    `plain_class` of the new class is the one that it had.
    """
    plain = type(part)
    key = (plain, forward_of)
    if key not in _CLASSES:
        own = {"forward": forward_of(plain), "plain_class": plain, "__module__": plain.__module__}
        _CLASSES[key] = type(plain.__name__, (plain,), own)
    part.__class__ = _CLASSES[key]
