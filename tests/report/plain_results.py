"""`results.json` with the documented fields alone, for any values that a test wants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lalm.rundir import write_json

POOL = 100


def cell(
    scheme: str, share: float, value: float | None, half: float = 0.05, seed: int = 0, **more: Any
) -> dict[str, Any]:
    """A cell whose primary metric is `value` with an interval of `half` on each side."""
    score = {"value": value, "low": value and value - half, "high": value and value + half, "n": 200}
    return {
        "scheme": scheme,
        "tuner": "lora",
        "speech_share": share,
        "num_speech": round(share * POOL),
        "seed": seed,
        "language": "en",
        "metrics": {"exact_match": score},
        "seconds": 60.0,
        "run": f"runs/{scheme}-{share:g}-s{seed}",
        "config_hash": "0123456789ab",
        **more,
    }


def comparison(a: dict[str, Any], b: dict[str, Any], low: float, high: float, verdict: str) -> dict[str, Any]:
    """a - b."""
    return {
        "a": a["run"],
        "b": b["run"],
        "metric": "exact_match",
        "difference": (low + high) / 2,
        "low": low,
        "high": high,
        "verdict": verdict,
    }


def write_results(
    folder: Path,
    cells: list[dict[str, Any]],
    references: list[dict[str, Any]] = (),
    comparisons: list[dict[str, Any]] = (),
) -> Path:
    """A study folder that holds nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    none = [{"name": "oracle_text", "metrics": None, "reason": "no transcripts"}]
    write_json(
        folder / "results.json",
        {"cells": cells, "references": list(references) or none, "comparisons": list(comparisons)},
    )
    return folder
