"""Predictions rows that tests of answers read and make up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def made_up(right: np.ndarray) -> list[dict[str, Any]]:
    """Predictions rows whose intent is right or wrong."""
    return [
        {
            "id": str(index),
            "gold": {"intent": "on", "slots": []},
            "prediction": {"intent": "on" if one else "off", "slots": []},
            "status": "ok",
        }
        for index, one in enumerate(right)
    ]
