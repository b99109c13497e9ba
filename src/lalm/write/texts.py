"""What the modules of this room share: how a model is asked, and how what it wrote is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence

# prompts, most new tokens each, what the work is called -> texts
Write = Callable[[Sequence[str], int, str], list[str]]


def first_line(text: str) -> str:
    """The first line that is not empty; models go on talking."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
