"""A selector is asked: configured, seeded, told what is known, and its answer held against the contract."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from lalm import plugins
from lalm.data.wording import put_into_words
from lalm.errors import ConfigError, DataError, many
from lalm.records import Known, Utterance
from lalm.sections import PluginChoice


def configured(name: str, options: Mapping[str, Any], seed: int, where: str) -> tuple[ModuleType, Any]:
    """The selector and its options; a `seed` that they leave open becomes `seed`."""
    module = plugins.load("select", name)
    cfg = plugins.configure(module, options, where)
    if "seed" in type(cfg).model_fields and cfg.seed is None:
        cfg = cfg.model_copy(update={"seed": seed})
    return module, cfg


def choose(module: ModuleType, cfg: Any, candidates: Sequence[Utterance], number: int, known: Known) -> list[Utterance]:
    """`number` of the candidates, best first.

    Raises DataError for candidates that share an id, and ConfigError for a selector whose answer is not `number`
    different ids of candidates.
    """
    doubled = sorted(name for name, times in Counter(row.id for row in candidates).items() if times > 1)
    if doubled:
        raise DataError(f"{many(len(doubled), 'id')} of several rows, so a selector cannot tell them apart.", doubled)
    ids = _told(module.choose, known)(candidates, number, cfg)
    rows = {row.id: row for row in candidates}
    if len(ids) != number or len(set(ids)) != number or not set(ids) <= rows.keys():
        raise ConfigError(
            f"The select plug-in {module.__name__.rpartition('.')[2]} was asked for {number} of {len(rows)} candidates and gave "
            f"{len(ids)} ids, {len(set(ids) & rows.keys())} of them different candidates."
        )
    return [rows[name] for name in ids]


def reasons(
    module: ModuleType, cfg: Any, candidates: Sequence[Utterance], chosen: Sequence[Utterance], known: Known
) -> list[str] | None:
    """Why each of the chosen rows, as the selector says it; None if it does not say."""
    if not hasattr(module, "reasons"):
        return None
    result: list[str] = _told(module.reasons, known)(candidates, [row.id for row in chosen], cfg)
    return result


def by_selector(
    choice: PluginChoice, seed: int, text: Sequence[Utterance], where: str
) -> Callable[[Sequence[Utterance], int], list[Utterance]]:
    """What chooses among recordings for `budget.draw`: the selector sees them in words, and the recordings come back."""
    module, cfg = configured(choice.name, choice.options, seed, where)

    def order(recordings: Sequence[Utterance], number: int) -> list[Utterance]:
        found = choose(module, cfg, put_into_words(recordings, text), number, Known(text=tuple(text)))
        rows = {row.id: row for row in recordings}
        return [rows[row.id] for row in found]

    return order


def _told(function: Callable[..., Any], known: Known) -> Callable[..., Any]:
    """The function, given what is known if it asks for it."""
    if "known" not in inspect.signature(function).parameters:
        return function
    return lambda *arguments: function(*arguments, known=known)
