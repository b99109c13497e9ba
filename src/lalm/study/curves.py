"""Cells of a study gathered into curves: seeds averaged, one point a share, with intervals and what errs together.

A curve is what the report draws, tables and extrapolates. The interval of a point comes from a bootstrap over the
test utterances in which all seeds see the same draw; the seeds are averaged and taken as they are. The covariance of
a curve's points comes from the same draws (points measured on the same utterances err together), and the spread of the
seeds, pooled over the study, is added to its diagonal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lalm.study.answers import Answers
from lalm.study.of_tasks import telling

Row = Mapping[str, Any]
_VARIANTS = ("tuner", "connector", "selector", "variant", "synthetic")
_REFERENCES = ("cascade", "oracle_text")


def curves(
    cells: Sequence[Row], references: Sequence[Row], primary: str, answers: Answers | None = None
) -> list[dict[str, Any]]:
    """One curve a scheme (and variant of it), then those of the references, each with its points by rising share.

    Without `answers` (a results file alone) a point's interval is the mean of its seeds' intervals, and covariances
    are not known.
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for cell in cells:
        groups.setdefault(_key("cell", cell), []).append(cell)
    for row in references:
        if row.get("metrics") is not None and row["name"] in _REFERENCES:
            groups.setdefault(_key(row["name"], row), []).append(row)
    labels = _labels(list(groups))
    made = [_curve(key, labels[key], rows, answers) for key, rows in groups.items()]
    spread = _seed_variance(made, primary)
    starts = {_variant(curve): curve["points"][0] for curve in reversed(made) if _is_text_only(curve)}
    for curve in made:
        start = starts.get(_variant(curve))
        if (
            curve["role"] == "cell"
            and curve["uses_text"]
            and start is not None
            and curve["points"][0]["speech_share"] > 0
        ):
            curve["points"].insert(0, {**start, "borrowed": True})
        if answers is not None and curve["role"] == "cell":
            curve["covariance"] = _covariance(curve["points"], primary, answers, spread)
    return made


def _key(role: str, row: Row) -> tuple[Any, ...]:
    """What one curve has in common: role, scheme, variants, and the scheme's options as sorted pairs.

    The cascade is one curve, whatever scheme its language model was tuned with.
    """
    if role == "cascade":
        return (
            role,
            None,
            row.get("tuner"),
            None,
            row.get("selector"),
            row.get("variant"),
            bool(row.get("synthetic")),
            (),
        )
    options = row.get("options") or {"speech_passes": row.get("speech_passes")}
    return (
        role,
        row["scheme"],
        row.get("tuner"),
        row.get("connector"),
        row.get("selector"),
        row.get("variant"),
        bool(row.get("synthetic")),
        tuple(sorted(options.items())),
    )


def _labels(keys: Sequence[tuple[Any, ...]]) -> dict[tuple[Any, ...], str]:
    """A name for each curve: its scheme, and whatever sets it apart from others of that scheme."""
    result = {}
    for key in keys:
        role, scheme, *variant, options = key
        others = [other for other in keys if other[:2] == key[:2]]
        words = ["synthetic speech"] if variant[4] else []
        words += [
            str(value) if name == "variant" else f"{name} {value}"
            for position, (name, value) in enumerate(zip(_VARIANTS[:4], variant, strict=False), 2)
            if value is not None and len({other[position] for other in others}) > 1
        ]
        own = dict(options)
        for name in telling(own, [dict(other[-1]) for other in others]):
            value, values = own[name], {dict(other[-1]).get(name) for other in others}
            apart = values - {0, None} if name.endswith("synthetic_passes") else values
            if value and len(apart) > 1:
                words.append(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}")
        base = {"cell": scheme, "cascade": "cascade"}.get(role, f"oracle_text of {scheme}")
        result[key] = base + (f" ({', '.join(words)})" if words else "")
    return result


def _curve(key: tuple[Any, ...], label: str, rows: Sequence[Row], answers: Answers | None) -> dict[str, Any]:
    by_share: dict[float, list[Row]] = {}
    for row in rows:
        by_share.setdefault(row["speech_share"], []).append(row)
    return {
        "role": key[0],
        "label": label,
        "scheme": key[1],
        **dict(zip(_VARIANTS, key[2:7], strict=True)),
        "options": dict(key[7]),
        "uses_text": rows[0].get("uses_text", key[1] != "speech_only"),
        "points": [_point(key[0], by_share[share], answers) for share in sorted(by_share)],
        "covariance": None,
    }


def _point(role: str, rows: Sequence[Row], answers: Answers | None) -> dict[str, Any]:
    names = [name for name in rows[0]["metrics"] if all(name in row["metrics"] for row in rows)]
    status = [row.get("status") or {} for row in rows]
    return {
        "speech_share": rows[0]["speech_share"],
        "num_speech": rows[0]["num_speech"],
        "seeds": [row["seed"] for row in rows],
        "runs": [row["run"] for row in rows],
        "metrics": {name: _average(role, rows, name, answers) for name in names},
        "seed_values": {name: [row["metrics"][name]["value"] for row in rows] for name in names},
        "status": {word: sum(one.get(word, 0) for one in status) for word in ("ok", "repaired", "failed")},
        "seconds": round(float(np.mean([row["seconds"] for row in rows])), 1),
    }


def _average(role: str, rows: Sequence[Row], name: str, answers: Answers | None) -> dict[str, Any]:
    scores = [row["metrics"][name] for row in rows]
    if any(score["value"] is None for score in scores):
        return {"value": None, "low": None, "high": None, "n": 0}
    if any(score["low"] is None for score in scores):  # a single item, of which there is no interval
        return {
            "value": float(np.mean([score["value"] for score in scores])),
            "low": None,
            "high": None,
            "n": scores[0]["n"],
        }
    result = {key: float(np.mean([score[key] for score in scores])) for key in ("value", "low", "high")}
    if answers is not None and len(rows) > 1:
        drawn = answers.resample([row["run"] for row in rows], name, _set(role))
        result["low"], result["high"] = (float(x) for x in np.nanpercentile(drawn, [2.5, 97.5]))
    return {**result, "n": scores[0]["n"]}


def _set(role: str) -> str:
    return "oracle_text" if role == "oracle_text" else "test"


def _covariance(points: Sequence[Row], primary: str, answers: Answers, spread: float) -> list[list[float]] | None:
    """Covariance of the points' values in the primary metric [points, points]; None where a point has no value."""
    if any(point["metrics"].get(primary, {}).get("value") is None for point in points):
        return None
    drawn = np.stack([answers.resample(point["runs"], primary) for point in points])
    drawn = drawn[:, np.isfinite(drawn).all(axis=0)]
    if drawn.shape[1] < 2:
        return None
    seeds = np.diag([spread / len(point["runs"]) for point in points])
    return [[float(x) for x in row] for row in np.atleast_2d(np.cov(drawn)) + seeds]


def _seed_variance(made: Sequence[Row], primary: str) -> float:
    """Variance between the seeds of a point, pooled over the schemes' points; 0 where every point has one seed."""
    squares, freedom = 0.0, 0
    for curve in made:
        for point in curve["points"] if curve["role"] == "cell" else ():
            values = [value for value in point["seed_values"].get(primary, ()) if value is not None]
            if len(values) > 1:
                squares += float(np.var(values)) * len(values)
                freedom += len(values) - 1
    return squares / freedom if freedom else 0.0


def _is_text_only(curve: Row) -> bool:
    return bool(curve["role"] == "cell" and curve["scheme"] == "text_only" and curve["points"][0]["speech_share"] == 0)


def _variant(curve: Row) -> tuple[Any, ...]:
    """What a curve shares with the text-only run that it starts from."""
    return (curve["tuner"], curve["connector"], curve["variant"], curve["synthetic"])
