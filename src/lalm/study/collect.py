"""Gathers the runs of a study into `results.json` (docs/formats.md): cells, references, comparisons.

Besides what the format asks for it holds what the report needs and cannot know on another machine: curves (seeds
averaged), facts about metrics and schemes, the command, and which recordings were copied as examples.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lalm import plugins
from lalm.data.pools import load_pools
from lalm.data.predictions import read_predictions
from lalm.records import Pools
from lalm.rundir import RunDir, read_json, write_json
from lalm.study.answers import Answers
from lalm.study.both_ways import FREE, free_scores, with_and_without
from lalm.study.by_language import language_comparisons, language_points, of_cell
from lalm.study.curves import curves
from lalm.study.examples import keep_examples
from lalm.study.of_tasks import flat
from lalm.study.plan import Run, Study

_SAME = ("scheme", "tuner", "connector", "variant", "synthetic", "options")


def collect(out: Path, study: Study, todo: Sequence[Run]) -> dict[str, Any]:
    """Read every run's scores, copy the examples' recordings and write `results.json`."""
    full = load_pools(todo[0].recipe.data)
    order = [choice.name for choice in study.schemes]
    by = list(dict.fromkeys((run.variant, run.selector) for run in todo))
    todo = sorted(
        todo,
        key=lambda run: (
            run.role,
            order.index(run.scheme) if run.scheme in order else -1,
            by.index((run.variant, run.selector)),
            run.share,
            run.seed,
        ),
    )
    judged = {run.name: {**_cell(out, run), **free_scores(RunDir(out / "runs" / run.name))} for run in todo}
    cells = [judged[run.name] for run in todo if run.role == "cell"]
    references = [{"name": "cascade", **judged[run.name]} for run in todo if run.role == "cascade"]
    references += _oracle(out, todo, study.oracle_text)
    answers = Answers(out)
    drawn = curves(cells, references, study.primary_metric, answers)
    compared = list(_comparisons(drawn, study.primary_metric, answers))
    grammar = list(with_and_without(drawn, [*cells, *references], study.primary_metric, answers))
    freely = {run for found in grammar for run in found["runs"]}
    results = {
        "title": study.title,
        "question": study.question,
        "primary_metric": study.primary_metric,
        "pool": {
            "num_speech": full.num_pool_speech,
            "speech_s": round(full.pool_speech_s, 1),
            "num_text": len(full.text),
        },
        "test": {"num": len(answers.rows(cells[0]["run"])) if cells else len(full.test)},
        "made": {
            "command": " ".join(["lalm", *sys.argv[1:]]),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        },
        "metrics": {name: _metric_facts(name) for name in cells[0]["metrics"]} if cells else {},
        "schemes": {run.scheme: plugins.summary("schemes", run.scheme) for run in todo},
        "selectors": {
            run.selector: plugins.summary("select", run.recipe.data.selector.name)
            for run in todo
            if run.selector is not None and run.recipe.data.selector is not None
        },
        "cells": cells,
        "references": references,
        "curves": drawn,
        "comparisons": compared,
        "by_language": {
            "points": language_points(drawn, cells, study.primary_metric, answers),
            "comparisons": list(language_comparisons(compared, answers)),
        },
        "grammar": grammar,
        "free_comparisons": [
            {**one, **answers.compare(one["a_runs"], one["b_runs"], study.primary_metric, (FREE, FREE))}
            for one in compared
            if freely.issuperset([*one["a_runs"], *one["b_runs"]])
        ],
        "examples": keep_examples(out, drawn, study.primary_metric, answers),
    }
    write_json(out / "results.json", results)
    return results


def _metric_facts(name: str) -> dict[str, Any]:
    return {
        "higher_is_better": plugins.load("metrics", name).HIGHER_IS_BETTER,
        "summary": plugins.summary("metrics", name),
    }


def _cell(out: Path, run: Run) -> dict[str, Any]:
    folder = RunDir(out / "runs" / run.name)
    info, scores = read_json(folder.info), read_json(folder.scores("test"))
    options = flat(run.recipe.scheme.options)
    passes, synthetic = (
        options.get(name, options.get(f"base.{name}")) for name in ("speech_passes", "synthetic_passes")
    )
    return {
        "scheme": run.scheme,
        "tuner": run.recipe.tuner.name,
        "connector": info["model"].get("connector"),
        "selector": run.selector,
        "variant": run.variant,
        "speech_share": run.share,
        "num_speech": info["num_speech"],
        "num_text": info["num_text"],
        "uses_text": _uses_text(run),
        "synthetic": bool(info["num_synthetic"] and synthetic),
        "speech_passes": passes,
        "options": options,
        "seed": run.seed,
        **of_cell(info, read_predictions(folder.predictions("test")), scores),
        "metrics": scores["metrics"],
        "counts": scores.get("counts", {}),
        "status": scores["status"],
        "seconds": info["seconds"],
        "run": f"runs/{run.name}",
        "config_hash": info["config_hash"],
    }


def _uses_text(run: Run) -> bool:
    """Whether the scheme trains on text, so that without recordings it is text only."""
    scheme = plugins.load("schemes", run.recipe.scheme.name)
    stages = scheme.plan(plugins.configure(scheme, run.recipe.scheme.options, "scheme"), Pools(1, 1, 1))
    return any(stage.passes.get("text", 0) > 0 for stage in stages)


def _oracle(out: Path, todo: Sequence[Run], oracle_text: bool) -> list[dict[str, Any]]:
    """Gold transcripts read by each run, else one row that says why not."""
    rows = []
    for run in todo:
        path = RunDir(out / "runs" / run.name).scores("oracle_text")
        if run.role == "cell" and path.is_file():
            scores = read_json(path)
            rows.append({**_cell(out, run), "name": "oracle_text", "by_language": {}, **scores})
    if rows:
        return rows
    if not oracle_text:
        reason = "not asked for"
    elif any(run.role == "cell" for run in todo):
        reason = "not all test recordings have a transcript"
    else:
        reason = "no runs"
    return [{"name": "oracle_text", "metrics": None, "reason": reason}]


def _comparisons(drawn: Sequence[Mapping[str, Any]], metric: str, answers: Answers) -> Iterable[dict[str, Any]]:
    """Paired differences in the primary metric, seeds averaged: schemes at each share with each other, with text only,
    and with the cascade there; selectors with each other, `random` second. What differs in both is not compared. Variants
    are compared with each other at all shares."""
    points = [(curve, point) for curve in drawn for point in curve["points"] if not point.get("borrowed")]
    cells = [(curve, point) for curve, point in points if curve["role"] == "cell"]
    cascades = [(curve, point) for curve, point in points if curve["role"] == "cascade"]
    texts = [(curve, point) for curve, point in cells if curve["scheme"] == "text_only" and point["speech_share"] == 0]
    pairs: list[tuple[Any, Any]] = []
    for share in sorted({point["speech_share"] for _, point in cells}):
        here = [pair for pair in cells if pair[1]["speech_share"] == share]
        pairs += [_random_last(a, b) for i, a in enumerate(here) for b in here[i + 1 :] if _alike(a[0], b[0])]
        if share > 0:
            pairs += [(a, text) for a in here if (text := _like(a, texts)) is not None]
        pairs += [(a, b) for b in cascades if b[1]["speech_share"] == share for a in here]
    pairs += [
        (a, b)
        for i, a in enumerate(cells)
        for b in cells[i + 1 :]
        if a[0]["variant"] != b[0]["variant"] and a[1]["speech_share"] != b[1]["speech_share"]
    ]
    seen = set()
    for a, b in pairs:
        sides = frozenset((a[1]["runs"][0], b[1]["runs"][0]))
        if sides in seen:
            continue
        seen.add(sides)
        yield {
            "a": _label(*a),
            "b": _label(*b),
            "a_runs": a[1]["runs"],
            "b_runs": b[1]["runs"],
            "speech_share": a[1]["speech_share"],
            "metric": metric,
            **answers.compare(a[1]["runs"], b[1]["runs"], metric),
        }


def _alike(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two curves share the selector, or all but the selector."""
    return a["selector"] == b["selector"] or all(a[key] == b[key] for key in a if key in _SAME)


def _random_last(
    a: tuple[Mapping[str, Any], Any], b: tuple[Mapping[str, Any], Any]
) -> tuple[tuple[Mapping[str, Any], Any], tuple[Mapping[str, Any], Any]]:
    """The pair with the selector `random` on the second side: what is compared is what it takes to beat it."""
    return (b, a) if a[0]["selector"] == "random" and b[0]["selector"] != "random" else (a, b)


def _like(
    side: tuple[Mapping[str, Any], Any], texts: Sequence[tuple[Mapping[str, Any], Any]]
) -> tuple[Mapping[str, Any], Any] | None:
    """The text-only point of the same variant, and of the same tuner, connector and synthetic speech or else the first; of other
    text there is nothing to say what recordings add."""
    same = [text for text in texts if text[0]["variant"] == side[0]["variant"]]
    keys = ("tuner", "connector", "synthetic")
    return next((text for text in same if all(text[0][key] == side[0][key] for key in keys)), next(iter(same), None))


def _label(curve: Mapping[str, Any], point: Mapping[str, Any]) -> str:
    return f"{curve['label']} {point['speech_share'] * 100:g} %"
