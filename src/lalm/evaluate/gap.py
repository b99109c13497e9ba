"""The modality gap: the same utterances answered as text, as synthetic speech and as recordings.

An item is a row of the set that is not synthetic itself. Its text is its sentence or transcript, its recording the
recording of that row, and its synthetic speech the first synthetic row (of the manifest, then of the set) that names the
item in `meta["text_id"]` and says the same words, else the first that says the same words. Words are compared in lower
case with single blanks. What is compared are the items that have all modalities which the data have, so that the figures
differ by the modality alone.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from lalm.config import EvaluateSection, load_recipe
from lalm.data import audio
from lalm.data.dialogue import in_writing
from lalm.data.manifest import read_manifest
from lalm.errors import UserError, many
from lalm.evaluate import stats
from lalm.evaluate.predict import answered, load_run, rows_to_answer, run_grammar, scores_of
from lalm.evaluate.score import compare_rows
from lalm.records import Example, Utterance
from lalm.rundir import RunDir, write_json, write_jsonl

MODALITIES = ("text", "synthetic", "recording")
_WORDS = {"text": "text", "synthetic": "synthetic speech", "recording": "recordings"}


@dataclass(frozen=True)
class Modalities:
    """Rows by modality, the same items in the same order in each; why a modality is not there; items that each had."""

    rows: Mapping[str, list[Utterance]]
    reasons: Mapping[str, str]
    num_available: Mapping[str, int]


def measure_gap(
    run: Path,
    manifest: Path | None = None,
    synthetic: Path | None = None,
    corpus: str | None = None,
    root: Path | None = None,
    split: str | None = None,
) -> Path:
    """Answer the items of a set in every modality that the data have; the file written, `scores/<set>-gap.json`.

    Predictions go to `predictions/<set>-as-<modality>.jsonl`. Raises UserError, before the model is loaded, if the run is
    not finished, recordings cannot be used, or fewer than two modalities have an item in common.
    """
    from lalm.train.setup import task_examples

    folder = RunDir(run).require()
    recipe = load_recipe(folder.recipe)
    rows, name = rows_to_answer(recipe, manifest, corpus, root, split)
    spoken = read_manifest(synthetic, recipe.data.allow_outside_paths) if synthetic is not None else []
    found = modalities(rows, spoken, synthetic)
    audio.check(path for members in found.rows.values() for row in members for path in row.recordings)
    grammar = run_grammar(folder, recipe.evaluate)
    asked = {modality: task_examples(recipe, members) for modality, members in found.rows.items()}
    _check_alike(recipe.task.name, asked)
    _, model = load_run(run)
    answers = {}
    for number, (modality, examples) in enumerate(asked.items(), 1):
        print(f"[gap] {_WORDS[modality]} ({number} of {len(found.rows)})", file=sys.stderr, flush=True)
        answers[modality] = answered(model, examples, recipe.evaluate, grammar)
        write_jsonl(folder.predictions(part(name, modality)), answers[modality])
    voices = [row.meta for row in found.rows.get("synthetic", ())]
    summary = {
        "kind": "gap",
        "set": name,
        "num": len(next(iter(found.rows.values()))),
        "num_available": dict(found.num_available),
        **summarise(answers, recipe.evaluate),
        "reasons": dict(found.reasons),
        "engines": sorted({str(meta["engine"]) for meta in voices if "engine" in meta}),
        "num_voices": len({(str(meta.get("engine")), str(meta["voice"])) for meta in voices if "voice" in meta}),
    }
    write_json(folder.gap(name), summary)
    return folder.gap(name)


def _check_alike(task: str, asked: Mapping[str, Sequence[Example]]) -> None:
    """Raises UserError for a task that does not ask the same of every modality."""
    (first, ids), *others = ((modality, [one.id for one in examples]) for modality, examples in asked.items())
    for modality, own in others:
        if own != ids:
            raise UserError(
                f"The task {task} of this run asks {len(ids)} times about {_WORDS[first]} and {len(own)} times about {_WORDS[modality]}, so "
                "the two cannot be compared."
            )


def part(name: str, modality: str) -> str:
    """What a set is called in a modality: `test-as-text`."""
    return f"{name}-as-{modality}"


def modalities(rows: Sequence[Utterance], spoken: Sequence[Utterance], source: Path | None = None) -> Modalities:
    """The rows of a set in each modality, over the items that have all of them; `spoken` are rows of a manifest.

    A modality that shares no item with those before it is left out, and says so. Raises UserError if only one is left.
    """
    items = [row for row in rows if row.source != "synthetic"]
    voiced = [row for row in (*spoken, *rows) if row.source == "synthetic" and row.recordings]
    every: dict[str, dict[str, Utterance]] = {
        "text": {row.id: twin for row in items if (twin := in_writing(row)) is not None},
        "synthetic": _synthetic(items, voiced),
        "recording": {row.id: row for row in items if row.recordings},
    }
    kept: list[str] = []
    common = {row.id for row in items}
    reasons = {}
    for modality in MODALITIES:
        both = common & set(every[modality])
        if both:
            kept.append(modality)
            common = both
        elif every[modality]:
            shared = " and ".join(_WORDS[one] for one in kept)
            reasons[modality] = f"none of the {many(len(every[modality]), 'item')} that have it has {shared} too"
        else:
            reasons[modality] = _why_not(modality, len(items), len(spoken), len(voiced), source)
    if len(kept) < 2:
        said = "; ".join(f"{_WORDS[modality]}: {reason}" for modality, reason in reasons.items())
        raise UserError(f"A gap needs the same items in two modalities at least, and this set has no two. {said}.")
    order = [row.id for row in items if row.id in common]
    return Modalities(
        {modality: [every[modality][key] for key in order] for modality in kept},
        reasons,
        {modality: len(every[modality]) for modality in MODALITIES},
    )


def _synthetic(items: Sequence[Utterance], voiced: Sequence[Utterance]) -> dict[str, Utterance]:
    """The synthetic speech of items, with their ids and labels."""
    by_item: dict[tuple[str, str], Utterance] = {}
    by_words: dict[str, Utterance] = {}
    for row in voiced:
        if row.text:
            by_item.setdefault((str(row.meta.get("text_id")), _plain(row.text)), row)
            by_words.setdefault(_plain(row.text), row)
    found = {}
    for item in items:
        if item.text:
            words = _plain(item.text)
            spoken = by_item.get((item.id, words)) or by_words.get(words)
            if spoken is not None:
                found[item.id] = replace(spoken, id=item.id, text=item.text, frame=item.frame)
    return found


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def _why_not(modality: str, num_items: int, num_spoken: int, num_voiced: int, source: Path | None) -> str:
    if modality == "text":
        return f"none of the {many(num_items, 'row')} has a sentence or a transcript"
    if modality == "recording":
        return f"none of the {many(num_items, 'row')} has a recording"
    if num_voiced:
        return f"none of the {many(num_voiced, 'synthetic row')} says the words of an item"
    if num_spoken:
        return f"none of the {many(num_spoken, 'row')} of {source} is synthetic speech"
    return "no manifest of synthetic speech was named (--synthetic)" if source is None else f"{source} holds no rows"


def summarise(answers: Mapping[str, Sequence[Mapping[str, Any]]], cfg: EvaluateSection) -> dict[str, Any]:
    """Scores by modality (null where it was not answered) and paired differences of every two that were."""
    scores = {name: {"metrics": scores_of(rows, cfg)["metrics"]} for name, rows in answers.items()}
    differences = [
        {"a": a, "b": b, "metrics": {name: compare_rows([answers[a]], [answers[b]], name) for name in cfg.metrics}}
        for a, b in combinations(answers, 2)
    ]
    return {"modalities": {name: scores.get(name) for name in MODALITIES}, "differences": differences}


def as_text(summary: Mapping[str, Any]) -> str:
    """The summary for a person: for each metric a line a modality, then the differences."""
    names = dict.fromkeys(n for one in summary["modalities"].values() if one is not None for n in one["metrics"])
    lines = []
    for name in names:
        scored = {modality: one["metrics"][name] for modality, one in summary["modalities"].items() if one is not None}
        if all(score["value"] is None for score in scored.values()):
            lines.append(f"{name}: nothing could be counted")
            continue
        lines.append(f"{name} (n = {max(score['n'] for score in scored.values())})")
        for modality, score in scored.items():
            lines.append(f"  {modality:<24} {_value(score['value'], score)}")
        for found in summary["differences"]:
            one = found["metrics"][name]
            if one["difference"] is not None:
                label = f"{found['a']} - {found['b']}"
                lines.append(f"  {label:<24} {_value(one['difference'], one, signed=True)}, {one['verdict']}")
    lines += [f"{_WORDS[modality]}: none ({reason})" for modality, reason in summary["reasons"].items()]
    return "\n".join(lines)


def _value(value: float | None, interval: Mapping[str, Any], signed: bool = False) -> str:
    return stats.in_words({**interval, "value": value}, 4, "+" if signed else "")
