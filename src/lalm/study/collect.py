"""Gathers the runs of a study into `results.json` (docs/formats.md): cells, references, comparisons."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lalm.data.pools import load_pools
from lalm.evaluate.score import compare_runs
from lalm.rundir import RunDir, read_json, write_json
from lalm.study.plan import Run, Study


def collect(out: Path, study: Study, todo: Sequence[Run]) -> dict[str, Any]:
    """Read every run's scores and write `results.json`."""
    full = load_pools(todo[0].recipe.data)
    cells = [_cell(out, run) for run in todo if run.role == "cell"]
    references = [{"name": "cascade", **_cell(out, run)} for run in todo if run.role == "cascade"]
    references += _oracle(out, todo)
    results = {
        "title": study.title,
        "question": study.question,
        "primary_metric": study.primary_metric,
        "pool": {"num_speech": full.num_pool_speech, "speech_s": round(full.pool_speech_s, 1)},
        "test": {"num": len(full.test)},
        "cells": cells,
        "references": references,
        "comparisons": list(_comparisons(out, study, todo)),
    }
    write_json(out / "results.json", results)
    return results


def _cell(out: Path, run: Run) -> dict[str, Any]:
    folder = RunDir(out / "runs" / run.name)
    info, scores = read_json(folder.info), read_json(folder.scores("test"))
    return {
        "scheme": run.scheme,
        "tuner": run.recipe.tuner.name,
        "connector": info["model"].get("connector"),
        "speech_share": run.share,
        "num_speech": info["num_speech"],
        "num_text": info["num_text"],
        "synthetic": bool(info["num_synthetic"] and run.recipe.scheme.options.get("synthetic_passes")),
        "speech_passes": run.recipe.scheme.options.get("speech_passes"),
        "seed": run.seed,
        "language": "en",
        "metrics": scores["metrics"],
        "counts": scores.get("counts", {}),
        "status": scores["status"],
        "seconds": info["seconds"],
        "run": f"runs/{run.name}",
        "config_hash": info["config_hash"],
    }


def _oracle(out: Path, todo: Sequence[Run]) -> list[dict[str, Any]]:
    """Gold transcripts read by each run, else one row that says why not."""
    rows = []
    for run in todo:
        path = RunDir(out / "runs" / run.name).scores("oracle_text")
        if run.role == "cell" and path.is_file():
            scores = read_json(path)
            rows.append({**_cell(out, run), "name": "oracle_text", "metrics": scores["metrics"], "status": scores["status"]})
    if rows:
        return rows
    reason = "the test recordings have no transcripts" if any(r.role == "cell" for r in todo) else "no runs"
    return [{"name": "oracle_text", "metrics": None, "reason": reason}]


def _comparisons(out: Path, study: Study, todo: Sequence[Run]) -> Iterable[dict[str, Any]]:
    """Paired differences in the primary metric, seeds averaged: schemes at each share, each against text only, and the
    best run of each share against the cascade there."""
    groups: dict[tuple[str, str, float], list[Run]] = {}
    for run in todo:
        groups.setdefault((run.role, run.scheme if run.role == "cell" else "cascade", run.share), []).append(run)
    cells = {key: members for key, members in groups.items() if key[0] == "cell"}
    text = next((key for key in cells if key[1] == "text_only"), None)
    pairs = []
    for share in sorted({key[2] for key in cells}):
        here = [key for key in cells if key[2] == share]
        pairs += [(a, b) for i, a in enumerate(here) for b in here[i + 1 :]]
        if text is not None:
            pairs += [(key, text) for key in here if key != text]
        cascade = ("cascade", "cascade", share)
        if cascade in groups:
            pairs += [(key, cascade) for key in here]
    for a, b in dict.fromkeys(pairs):
        files = [[RunDir(out / "runs" / run.name).predictions("test") for run in groups[key]] for key in (a, b)]
        yield {
            "a": _label(a),
            "b": _label(b),
            "a_runs": [f"runs/{run.name}" for run in groups[a]],
            "b_runs": [f"runs/{run.name}" for run in groups[b]],
            "speech_share": a[2],
            "metric": study.primary_metric,
            **compare_runs(files[0], files[1], study.primary_metric),
        }


def _label(key: tuple[str, str, float]) -> str:
    return f"{key[1]} {key[2] * 100:g} %"
