"""Key-value caches under the names that the installed transformers has for them."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any


@cache
def _argument(module: Any) -> str:
    """What a class of modules calls its cache: `past_key_values`, in later releases `cache`."""
    return "cache" if "cache" in inspect.signature(module.forward).parameters else "past_key_values"


def with_cache(module: Any, kept: object) -> dict[str, Any]:
    """The arguments that make a layer or a model read and write the key-value cache `kept` (None: none)."""
    return {_argument(module.__class__): kept, "use_cache": kept is not None}
