"""Several tasks in a study: how many rows each has, and options of a scheme over others as plain names and values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from lalm.records import Example, Stage


def tasks_in_words(examples: Mapping[str, Sequence[Example]], stages: Sequence[Stage]) -> list[str]:
    """Rows by task, and how often they are seen in the whole run; nothing where there is one task."""
    rows: dict[str, dict[str, int]] = {}
    seen: Counter[str] = Counter()
    for pool, members in examples.items():
        passes = sum(stage.epochs * stage.passes.get(pool, 0.0) for stage in stages)
        for task, number in Counter(row.task for row in members).items():
            seen[task] += round(passes * number)
            if "@" not in pool:  # else a part of another pool
                rows.setdefault(task, {})[pool.partition(":")[0]] = number
    if len(rows) < 2:
        return []
    width = max(map(len, rows))
    lines = ["Tasks: rows, and how often rows are seen in all"]
    for task, numbers in rows.items():
        counted = ", ".join(f"{number} {kind}" for kind, number in numbers.items())
        lines.append(f"  {task:<{width}}  {counted}; seen {seen[task]} times")
    return ["\n".join(lines)]


def flat(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as names and plain values, so that runs can be told apart by them.

    `{"base": {"name": "curriculum", "speech_passes": 3.0}, "tasks": [{"name": "answer", "weight": 1.0, "options": {}}]}`
    becomes `{"base": "curriculum", "base.speech_passes": 3.0, "tasks": "answer", "tasks.answer.weight": 1.0}`.
    """
    result: dict[str, Any] = {}
    for key, value in options.items():
        if isinstance(value, Mapping):
            if "name" in value:
                result[key] = value["name"]
            inner = {name: one for name, one in value.items() if name != "name"}
            result |= {f"{key}.{name}": one for name, one in flat(inner).items()}
        elif isinstance(value, list | tuple):
            named = [one for one in value if isinstance(one, Mapping) and "name" in one]
            result[key] = "+".join(str(one["name"] if one in named else one) for one in value)
            for one in named:
                inner = {name: own for name, own in one.items() if name != "name"}
                result |= {f"{key}.{one['name']}.{name}": own for name, own in flat(inner).items()}
        else:
            result[key] = value
    return result


def telling(own: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names among flat options that set one apart from others; not those that follow from another (`tasks.answer.weight`
    where the tasks themselves are not the same)."""

    def above(name: str) -> list[str]:
        parts = name.split(".")
        return [".".join(parts[:length]) for length in range(1, len(parts))]

    def differs(name: str, other: Mapping[str, Any]) -> bool:
        return bool(own.get(name) != other.get(name))

    return [
        name
        for name in own
        if any(differs(name, other) and not any(differs(one, other) for one in above(name)) for other in others)
    ]
