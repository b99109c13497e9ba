"""How it was made: command, versions, machine, time, seeds, licences, and a link to every run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lalm.report.folder import StudyFolder
from lalm.report.words import duration
from lalm.train.provenance import restrictiveness


@dataclass(frozen=True)
class Made:
    """Facts as (name, value), licences as (what, licence) with the most restrictive first."""

    facts: list[tuple[str, str]]
    licences: list[tuple[str, str]]


def made(study: StudyFolder) -> Made:
    """From `run.json` of every run, what they have in common said once."""
    infos = list(study.infos.values())
    seconds = sum(number(info, "seconds") or 0.0 for info in infos)
    memory = max((number(info, "peak_memory_mb") or 0.0 for info in infos), default=0.0)
    pool, test = study.results.pool, study.results.test
    facts = [
        ("command", study.results.made.get("command", "")),
        ("finished", study.results.made.get("finished", "")),
        ("runs", f"{len(list(study.runs()))}, {duration(seconds)} in all" if infos else str(len(list(study.runs())))),
        ("seeds", _several(cell.seed for cell in study.results.cells)),
        ("training text", f"{pool['num_text']} sentences" if pool.get("num_text") else ""),
        ("recordings to draw from", _pool(pool)),
        ("test set", f"{test['num']} utterances" if test.get("num") else ""),
        ("model", _several(_model(info) for info in infos)),
        ("tuner", _several(cell.tuner for cell in study.results.cells)),
        *provenance(infos),
        ("peak memory of a run", f"{memory / 1024:.1f} GB" if memory else ""),
        ("data", _several(info.get("data_hash") for info in infos[:1])),
    ]
    return Made([(name, value) for name, value in facts if value], licences(infos))


def provenance(infos: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Machine, versions and state of the code; more than one value where runs differ."""
    infos = list(infos)
    return [
        ("machine", _several(_hardware(mapping(info, "hardware")) for info in infos)),
        (
            "versions",
            _several(", ".join(f"{k} {v}" for k, v in mapping(info, "versions").items()) for info in infos),
        ),
        ("state of the code", _several(info.get("git") for info in infos)),
    ]


def licences(infos: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Licences of models and data of all runs, the most restrictive first."""
    found = {what: str(licence) for info in infos for what, licence in mapping(info, "licences").items()}
    return sorted(found.items(), key=lambda item: restrictiveness(item[1]))


def number(info: Mapping[str, Any], key: str) -> float | None:
    """A number of `run.json` or `results.json`; None where something else stands there."""
    value = info.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def mapping(info: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """A mapping of `run.json`; empty where something else stands there."""
    value = info.get(key)
    return value if isinstance(value, Mapping) else {}


def link(page: Path, target: Path) -> str:
    """A relative address from the page to a file or folder."""
    return quote(os.path.relpath(target.absolute(), page.absolute().parent).replace(os.sep, "/"))


def _several(values: Iterable[Any]) -> str:
    return "; ".join(dict.fromkeys(str(value) for value in values if value not in (None, "")))


def _pool(pool: Mapping[str, Any]) -> str:
    if not pool.get("num_speech"):
        return ""
    seconds = number(pool, "speech_s")
    return str(pool["num_speech"]) + (f" ({duration(seconds)})" if seconds else "")


def _model(info: Mapping[str, Any]) -> str:
    model = mapping(info, "model")
    return " with ".join(str(model[key]) for key in ("backbone", "connector") if model.get(key))


def _hardware(hardware: Mapping[str, Any]) -> str:
    device, cores = hardware.get("device"), hardware.get("cores")
    return ", ".join(str(part) for part in (device, hardware.get("machine"), cores and f"{cores} cores") if part)
