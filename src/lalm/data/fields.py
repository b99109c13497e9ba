"""One field of a row: is it what it must be, and how a value is shown in a message."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any


def words(value: Any, field: str, problems: list[str]) -> str | None:
    """A string as it stands, or None; anything else is a problem."""
    if value is not None and not isinstance(value, str):
        problems.append(f"field '{field}' is {shown(value)}, a string is needed.")
        return None
    if value is not None and not whole(value):
        problems.append(f"field '{field}' is {shown(value)}, which holds half a character (a lone surrogate).")
        return None
    return value


def seconds(value: Any, field: str, problems: list[str]) -> float | None:
    """A duration in seconds, or None; anything else is a problem."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        problems.append(f"field '{field}' is {shown(value)}, a number of seconds above 0 is needed.")
        return None
    return float(value)


# What lets recordings of a manifest lie elsewhere, in a recipe and on the command line.
OUTSIDE = "data.allow_outside_paths: true, or --allow-outside-paths where a command reads the file itself"


def resolve(folder: Path, name: str, allow_outside: bool, option: str | None = None) -> tuple[Path, str | None]:
    """The path of a name in a data folder, and what is wrong with it: it must stay inside the folder.

    `option` is what allows it to leave, for the message; None if nothing does.
    """
    if "\0" in name:
        return folder, f"{shown(name)} holds a zero byte; no file can be called that."
    path = folder / name
    inside = not Path(name).is_absolute() and ".." not in Path(name).parts
    if not inside and not allow_outside:
        return path, f"{name!r} leaves the data folder." + (f" Allowed only with {option}." if option else "")
    return path, None


def sound(name: str | None, field: str, folder: Path, allow_outside: bool, problems: list[str]) -> Path | None:
    """The path of a recording in a data folder; None if there is none."""
    if not name:
        return None
    path, problem = resolve(folder, name, allow_outside, OUTSIDE)
    problems += [f"field '{field}': {problem}"] if problem else []
    return path


def relative(path: Path | None, folder: Path) -> str | None:
    """A recording's path as it is written into a manifest in `folder`."""
    if path is None:
        return None
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def whole(text: str) -> bool:
    """Whether no half of a character (a lone surrogate) is in it, which no file can hold."""
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def kind(value: Any) -> str:
    """What a JSON value is, in words."""
    return {list: "a list", str: "a string", bool: "true or false", type(None): "null"}.get(type(value), "a number")


def shown(value: Any) -> str:
    """A value in a message, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= 60 else text[:57] + "..."
