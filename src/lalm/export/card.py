"""The model card of an export: front matter that hubs read, results with intervals, how it was made, licences. No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from lalm.config import Recipe
from lalm.data.predictions import read_predictions
from lalm.errors import UserError, many
from lalm.evaluate.score import score_rows
from lalm.rundir import RunDir, read_json

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_EMBEDDED = {
    "smol": ["openai/whisper-base", "HuggingFaceTB/SmolLM2-135M-Instruct"],
    "gemma": ["openai/whisper-base", "google/gemma-3-270m"],
}
_LICENCES = (  # what a licence is called on the hub; the first that matches
    (r"cc[ -]?by[ -]?nc[ -]?nd[ -]?4", "cc-by-nc-nd-4.0"),
    (r"cc[ -]?by[ -]?nc[ -]?sa[ -]?4", "cc-by-nc-sa-4.0"),
    (r"cc[ -]?by[ -]?nc[ -]?4", "cc-by-nc-4.0"),
    (r"cc[ -]?by[ -]?nc[ -]?3", "cc-by-nc-3.0"),
    (r"cc[ -]?by[ -]?sa[ -]?4", "cc-by-sa-4.0"),
    (r"cc[ -]?by[ -]?sa[ -]?3", "cc-by-sa-3.0"),
    (r"cc[ -]?by[ -]?4", "cc-by-4.0"),
    (r"cc[ -]?by[ -]?3", "cc-by-3.0"),
    (r"cc0", "cc0-1.0"),
    (r"apache", "apache-2.0"),
    (r"\bmit\b", "mit"),
    (r"\bgemma\b", "gemma"),
)
_WORDS = {
    "intent_accuracy": "intent accuracy",
    "slu_f1": "SLU-F1",
    "entity_f1": "entity F1",
    "exact_match": "exact match",
}


def model_card(run: RunDir, recipe: Recipe, info: Mapping[str, Any], facts: Mapping[str, Any], usage: str) -> str:
    """The text of README.md. `facts` is `export.json`, `info` is `run.json`."""
    scores = results(run, recipe)
    front = yaml.safe_dump(front_matter(run, recipe, info, facts, scores), sort_keys=False, allow_unicode=True)
    sections = [
        f"# {_name(run)}",
        _what(recipe, facts),
        *([f"**{facts['note']}**"] if facts["note"] else []),
        f"## Use\n\n```python\n{usage}\n```\n\nThe instruction that it was trained with:\n\n```\n{instruction(recipe)}\n```",
        _results(recipe, scores),
        _training(recipe, info),
        _licences(info),
        _checks(facts),
    ]
    return f"---\n{front}---\n\n" + "\n\n".join(sections) + "\n"


def front_matter(
    run: RunDir,
    recipe: Recipe,
    info: Mapping[str, Any],
    facts: Mapping[str, Any],
    scores: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """What hubs read of the card."""
    first = next(iter(info["licences"].values()), "not stated")
    code = next((code for pattern, code in _LICENCES if re.search(pattern, first.lower())), None)
    licence = {"license": code} if code else {"license": "other", "license_name": first}
    base = base_models(info)
    adapter = facts["kind"] == "adapter"
    return {
        **licence,
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": "audio-text-to-text",
        **({"base_model": base, "base_model_relation": "adapter" if adapter else "finetune"} if base else {}),
        "tags": ["lalm", "spoken-language-understanding", recipe.tuner.name],
        "model-index": [{"name": _name(run), "results": [_result(recipe, name, one) for name, one in scores.items()]}],
    }


def _result(recipe: Recipe, name: str, score: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "task": {"type": "audio-text-to-text", "name": "Spoken language understanding"},
        "dataset": {"type": recipe.data.corpus.name, "name": recipe.data.corpus.name, "split": name},
        "metrics": [
            {"type": metric, "value": round(found["value"], 4), "name": f"{_word(metric)} ({_interval(found)})"}
            for metric, found in score["metrics"].items()
            if found["value"] is not None
        ],
    }


def results(run: RunDir, recipe: Recipe) -> dict[str, Any]:
    """Scores by set: those of the run folder; of predictions that have none they are counted here."""
    found, cfg = {}, recipe.evaluate
    for name in run.sets():
        if run.scores(name).is_file():
            found[name] = read_json(run.scores(name))
        else:
            rows = read_predictions(run.predictions(name))
            found[name] = score_rows(rows, cfg.metrics, num_resamples=cfg.num_resamples, seed=0)
    for name, score in found.items():
        if not isinstance(score, dict) or not isinstance(score.get("metrics"), dict):
            raise UserError(f"{run.scores(name)}: these are no scores (docs/formats.md).")
    return found


def base_models(info: Mapping[str, Any]) -> list[str]:
    """Hub ids of the models that the run began with."""
    model = info.get("model", {})
    if model.get("backbone") in _EMBEDDED:
        return list(_EMBEDDED[model["backbone"]])
    named = [model.get("model"), *(part.get("source") for part in model.values() if isinstance(part, dict))]
    return [name for name in named if isinstance(name, str) and _HUB_ID.fullmatch(name)]


def instruction(recipe: Recipe) -> str:
    """What stands before every input."""
    from lalm.records import Frame, Utterance
    from lalm.train.setup import task_examples

    return task_examples(recipe, [Utterance("row", text="words", frame=Frame("intent"))])[0].instruction


def _name(run: RunDir) -> str:
    return run.root.resolve().name


def _word(metric: str) -> str:
    return _WORDS.get(metric, metric.replace("_", " "))


def _interval(score: Mapping[str, Any]) -> str:
    found = "no interval" if score["low"] is None else f"95 % interval {score['low']:.3f} to {score['high']:.3f}"
    return f"{found}, {many(score['n'], 'row')}"


def _what(recipe: Recipe, facts: Mapping[str, Any]) -> str:
    kind = "An adapter (peft)" if facts["kind"] == "adapter" else "A model whose adapter is folded into its weights"
    if recipe.tuner.name == "full":
        kind = "A model whose weights were trained"
    return (
        f"{kind} for spoken language understanding: from a recording or a written sentence it answers with an intent and "
        f"slots, as JSON. Made with lalm on the backbone `{recipe.backbone.name}`."
    )


def _results(recipe: Recipe, scores: Mapping[str, Mapping[str, Any]]) -> str:
    lines = ["## Results", ""]
    if not scores:
        return "\n".join(
            [*lines, "None yet: `lalm predict RUN` answers the test set, and the next export states its scores."]
        )
    lines += [
        f"On the corpus `{recipe.data.corpus.name}`; 95 % intervals from resampling the rows.",
        "",
        "| set | metric | value | 95 % interval | rows |",
        "|---|---|---|---|---|",
    ]
    for name, score in scores.items():
        for metric, found in score["metrics"].items():
            value = "-" if found["value"] is None else f"{found['value']:.3f}"
            between = "-" if found["value"] is None else f"{found['low']:.3f} to {found['high']:.3f}"
            lines.append(f"| {name} | {_word(metric)} | {value} | {between} | {found['n']} |")
    if recipe.evaluate.constrained:
        lines += [
            "",
            "Answers obeyed a grammar made of the labels, but for `test_free`; loaded elsewhere they are free.",
        ]
    unread = {name: score.get("status", {}).get("failed", 0) for name, score in scores.items()}
    for name, number in unread.items():
        lines += (
            ["", f"In `{name}`, {many(number, 'answer')} could not be read as JSON and counted as wrong."]
            if number
            else []
        )
    return "\n".join(lines)


def _training(recipe: Recipe, info: Mapping[str, Any]) -> str:
    train, versions = recipe.train, info.get("versions", {})
    options = ", ".join(f"{key} {value}" for key, value in recipe.tuner.options.items() if value is not None)
    hardware = info.get("hardware", {})
    lines = [
        "## Training",
        "",
        f"- Rows: {many(info['num_text'], 'written sentence')}, {many(info['num_speech'], 'recording')}, "
        f"{many(info['num_synthetic'], 'synthetic recording')} of `{recipe.data.corpus.name}`{_budget(recipe)}.",
        f"- Order: the scheme `{recipe.scheme.name}`; {many(info.get('steps', 0), 'step')} of "
        f"{train.per_device_train_batch_size * train.gradient_accumulation_steps} rows"
        f"{_processes(info)}, {info.get('answer_tokens', 0):,} answer tokens.",
        f"- Weights: the tuner `{recipe.tuner.name}`{f' ({options})' if options else ''} on {', '.join(train.groups)}"
        f"{', beside weights held in four bits; exported with the full ones' if train.load_in_4bit else ''}.",
        f"- Optimizer: AdamW, peak learning rate {train.learning_rate:g}, {train.lr_scheduler_type} schedule, weight decay "
        f"{train.weight_decay:g}, gradients clipped to {train.max_grad_norm:g}, seed {train.seed}.",
        f"- Made on {hardware.get('device', 'unknown hardware')} in {info.get('seconds', 0):,.0f} s, finished "
        f"{info.get('finished', 'at an unknown time')}, with "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + ".",
        f"- Recipe `{info.get('config_hash')}`, training rows `{info.get('data_hash')}`.",
    ]
    return "\n".join(lines)


def _budget(recipe: Recipe) -> str:
    data = recipe.data
    if data.speech_share is not None:
        return f", {data.speech_share * 100:g} % of its pool of recordings (drawn with seed {data.budget_seed})"
    if data.speech_items is not None or data.speech_minutes is not None:
        return f", a draw of its recordings (seed {data.budget_seed})"
    return ""


def _processes(info: Mapping[str, Any]) -> str:
    number = info.get("num_processes", 1)
    return f" on each of {number} processes" if number > 1 else ""


def _licences(info: Mapping[str, Any]) -> str:
    rows = [
        f"| {name if not name.startswith('/') else Path(name).name} | {licence} |"
        for name, licence in info["licences"].items()
    ]
    return "\n".join(
        [
            "## Licences",
            "",
            "Of base model and training data, the most restrictive on top: it governs what this model may be used for.",
            "",
            "| what | licence |",
            "|---|---|",
            *rows,
        ]
    )


def _checks(facts: Mapping[str, Any]) -> str:
    return (
        f"## Checks\n\nWhen it was exported, {many(facts['rows_compared'], 'row')} of its own data were answered alike by the "
        "trained model, by the model with its adapter folded into the weights, and by this folder loaded anew. Negative "
        f"log-likelihoods of adapter and merged weights differed by at most {facts['max_nll_difference']:.1e} a token."
    )
