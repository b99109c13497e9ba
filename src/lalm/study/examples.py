"""Errors to look at and listen to: a few test utterances, their recordings copied into the study folder.

Copies are MP3 (it plays in every browser and is small) and short, so that a study folder tells its story on another
machine, where the recordings themselves are not.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import soundfile

from lalm import plugins
from lalm.data import audio
from lalm.errors import DataError
from lalm.records import Frame
from lalm.rundir import atomic
from lalm.study.answers import Answers

NUM_EACH = 5
MAX_DURATION_S = 30.0
_SAMPLE_RATE_HZ = 16_000


def keep_examples(
    out: Path, curves: Sequence[Mapping[str, Any]], metric: str, answers: Answers
) -> list[dict[str, Any]]:
    """Errors of the best run at the largest share, and errors of text only that it got right, with their recordings.

    Each is a row `{"id", "why", "runs", "audio", "duration_s"}`; `audio` is a path within the study folder, or None and
    `reason` says why.
    """
    best, text = _best_run(curves, metric), _text_run(curves)
    if best is None:
        return []
    wrong = [row for row in answers.rows(best) if _wrong(row, metric)]
    bad = {row["id"] for row in wrong}
    both = text is not None and text != best
    chosen = [("best_wrong" if both else "wrong", row) for row in _varied(wrong)]
    if text is not None and both:
        lost = [row for row in answers.rows(text) if _wrong(row, metric) and row["id"] not in bad]
        chosen = chosen[:NUM_EACH] + [("text_only_wrong", row) for row in _varied(lost)[:NUM_EACH]]
    folder = out / "examples"
    for stale in folder.glob("*.mp3"):
        stale.unlink()
    runs = [best, text] if both else [best]
    rows = []
    for number, (why, row) in enumerate(chosen[: 2 * NUM_EACH], 1):
        sounds = [row.get("audio"), *(turn["audio"] for turn in row.get("turns", ()))]  # of a dialogue the last is kept
        source = next((answers.path(best).parent / sound for sound in reversed(sounds) if sound), None)
        rows.append({"id": row["id"], "why": why, "runs": runs, **_keep(source, folder / f"{number:02d}.mp3")})
    return rows


def _best_run(curves: Sequence[Mapping[str, Any]], metric: str) -> str | None:
    """First seed of the best scheme at the largest share."""
    points = [
        point
        for curve in curves
        for point in curve["points"]
        if curve["role"] == "cell" and point["metrics"].get(metric, {}).get("value") is not None
    ]
    if not points:
        return None
    largest = max(point["speech_share"] for point in points)
    sign = 1 if plugins.load("metrics", metric).HIGHER_IS_BETTER else -1
    top = max((p for p in points if p["speech_share"] == largest), key=lambda p: sign * p["metrics"][metric]["value"])
    return str(top["runs"][0])


def _text_run(curves: Sequence[Mapping[str, Any]]) -> str | None:
    found = [c["points"][0] for c in curves if c["role"] == "cell" and c["scheme"] == "text_only"]
    return str(found[0]["runs"][0]) if found else None


def _wrong(row: Mapping[str, Any], metric: str) -> bool:
    """Whether the metric of this utterance alone is less than perfect."""
    from lalm.evaluate.prediction_rows import readings

    module = plugins.load("metrics", metric)
    counts = module.count(*readings(row))
    if counts is None:
        return False
    value = float(module.reduce(np.array(counts)))
    return value < 1 if module.HIGHER_IS_BETTER else value > 0


def kind_of_error(row: Mapping[str, Any]) -> str:
    """`unreadable` answer, wrong `intent`, or wrong `slots`."""
    if row["prediction"] is None:
        return "unreadable"
    gold, found = Frame.from_json(row["gold"]), Frame.from_json(row["prediction"])
    return "intent" if (gold.intent or "") != (found.intent or "") else "slots"


def _varied(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows in a seeded order in which the kinds of error take turns."""
    shuffled = sorted(rows, key=lambda row: row["id"])
    Random(0).shuffle(shuffled)
    kinds: dict[str, list[Mapping[str, Any]]] = {}
    for row in shuffled:
        kinds.setdefault(kind_of_error(row), []).append(row)
    queues = [kinds[kind] for kind in sorted(kinds)]
    return [queue[turn] for turn in range(max(map(len, queues), default=0)) for queue in queues if turn < len(queue)]


def _keep(source: Path | None, target: Path) -> dict[str, Any]:
    """Copy a recording as mono MP3 at 16 kHz; what to write about it in the results."""
    if source is None:
        return {"audio": None, "reason": "the utterance has no recording"}
    try:
        duration_s = audio.info(source).duration_s
        if duration_s > MAX_DURATION_S:
            return {"audio": None, "reason": f"the recording is longer than {MAX_DURATION_S:g} s ({duration_s:.0f} s)"}
        samples = audio.load(source, _SAMPLE_RATE_HZ)
    except DataError:
        return {"audio": None, "reason": "the recording could not be read when the results were gathered"}
    encoded = io.BytesIO()
    try:
        soundfile.write(encoded, samples, _SAMPLE_RATE_HZ, format="MP3")
    except (soundfile.LibsndfileError, ValueError):  # a libsndfile older than 1.1
        return {"audio": None, "reason": "this machine's libsndfile cannot write MP3"}
    with atomic(target, "wb") as stream:
        stream.write(encoded.getvalue())
    return {"audio": f"{target.parent.name}/{target.name}", "duration_s": round(duration_s, 2)}
