"""Answers of a trained model to the rows of a set."""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lalm import plugins
from lalm.config import EvaluateSection, Recipe, load_recipe
from lalm.contracts import Model
from lalm.cores import format_s
from lalm.data.grammar import Grammar, asked_grammar, read_seen
from lalm.data.sources import SPLITS
from lalm.errors import UserError, many, nearest
from lalm.evaluate.parse import parse_answer
from lalm.records import Example, Frame, Status, Turn, Utterance
from lalm.rundir import RunDir, check_target, write_jsonl

OWN_SETS = ("test", "test_free", "oracle_text")  # what predictions of the recipe's own test set are called


def predict_rows(
    model: Model,
    examples: Sequence[Example],
    cfg: EvaluateSection,
    quiet: bool = False,
    grammar: Grammar | None = None,
) -> list[dict[str, Any]]:
    """One predictions row (docs/formats.md) an example, in order. Rows of like length are generated together.

    `grammar` is what answers must obey (none: they are free, whatever `cfg` says).
    """
    from lalm.models.half import bfloat16_answers  # torch is not needed to read this module
    from lalm.train.hearing import hear_ahead

    hear_ahead(model, examples, quiet)
    size = cfg.per_device_eval_batch_size
    order = sorted(range(len(examples)), key=lambda i: model.num_tokens(examples[i]))
    rows: dict[int, dict[str, Any]] = {}
    started = time.monotonic()
    for start in range(0, len(order), size):
        chunk = order[start : start + size]
        begun = time.monotonic()
        with bfloat16_answers(model, cfg.bf16):
            answers = model.generate([examples[i] for i in chunk], cfg.max_new_tokens, cfg.num_beams, grammar)
        latency_s = (time.monotonic() - begun) / len(chunk)
        for index, raw in zip(chunk, answers, strict=True):
            rows[index] = prediction_row(examples[index], raw, latency_s)
        if not quiet:
            left_s = (time.monotonic() - started) / len(rows) * (len(order) - len(rows))
            end = "\n" if len(rows) == len(order) else ""
            shown = f"\r[predict] {len(rows)}/{len(order)}  about {format_s(left_s)} left   "
            print(shown, end=end, file=sys.stderr, flush=True)
    return [rows[index] for index in range(len(examples))]


@functools.cache
def _final(task: str) -> Callable[[str], str]:
    """What cuts the part that counts out of an answer of a task; for most, the whole answer."""
    module = plugins.load("tasks", task) if task in plugins.names("tasks") else None
    return getattr(module, "final", str)


def prediction_row(example: Example, raw: str, latency_s: float) -> dict[str, Any]:
    """The row of one answer. Answers of questions are words and not read as frames: whatever is not empty is `ok`."""
    question = bool(example.answers) or example.ambiguous is not None
    frame, status = _words_read(raw) if question else parse_answer(_final(example.task)(raw))
    row: dict[str, Any] = {
        "id": example.id,
        "gold": example.frame.to_json(),
        "prediction": frame.to_json() if frame else None,
        "raw": raw,
        "status": status,
        "latency_s": round(latency_s, 4),
    }
    if question:
        row["answers"] = list(example.answers)
    if example.ambiguous is not None:
        row["ambiguous"] = example.ambiguous
    if example.language != "en":
        row["language"] = example.language
    if example.audio is not None:
        row["audio"] = os.path.abspath(example.audio)  # a predictions file may lie anywhere
    if example.text is not None:
        row["text"] = example.text
    if example.turns:
        row["turns"] = [_turn(turn) for turn in example.turns]
    return row


def _words_read(raw: str) -> tuple[Frame | None, Status]:
    return (Frame(None), "ok") if raw.strip() else (None, "failed")


def _turn(turn: Turn) -> dict[str, Any]:
    audio = None if turn.audio is None else os.path.abspath(turn.audio)
    return {"role": turn.role, "text": turn.text, "audio": audio}


def load_run(run_folder: Path) -> tuple[Recipe, Model]:
    """Recipe and trained model of a finished run."""
    from lalm.train.checkpoint import load_trained
    from lalm.train.setup import attach, load_model

    run = RunDir(run_folder).require()
    recipe = load_recipe(run.recipe)
    model = load_model(recipe)
    attach(recipe, model)
    load_trained(model, run.adapter)
    model.module.eval()
    return recipe, model


def run_grammar(run: RunDir, cfg: EvaluateSection) -> Grammar | None:
    """What the answers of a run must obey, from what its folder keeps; None if they are free."""
    return asked_grammar(cfg, read_seen(run.labels), run.ontology) if cfg.constrained else None


def with_heard(model: Model, examples: Sequence[Example], rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Predictions rows with what the model heard (`heard`), where it can say so in words: for the word error rate."""
    heard = getattr(model, "heard", None)
    words = heard(examples) if heard is not None else [None] * len(rows)
    return [{**row, **({} if said is None else {"heard": said})} for row, said in zip(rows, words, strict=True)]


def predict_run(
    run: Path,
    manifest: Path | None = None,
    corpus: str | None = None,
    root: Path | None = None,
    split: str | None = None,
    out: Path | None = None,
) -> Path:
    """Predictions of a run on a manifest, on a corpus, or on the test set of its own recipe; the file written.

    Without `split` every row of a manifest is answered, and the test set of a corpus. Where answers obey a grammar, the
    test set of the recipe is answered freely as well, into `test_free`.
    Raises UserError before the model is loaded if the run is not finished or there is nothing to answer.
    """
    from lalm.train.setup import task_examples
    from lalm.train.unheard import warn_of_unheard

    folder = RunDir(run).require()
    recipe = load_recipe(folder.recipe)
    if out is not None:
        check_target(out, (".jsonl",), manifest)
    rows, set_name = rows_to_answer(recipe, manifest, corpus, root, split)
    warn_of_unheard(recipe, rows)
    grammar = run_grammar(folder, recipe.evaluate)
    examples = task_examples(recipe, rows)
    check_asked(recipe, rows, examples)
    _, model = load_run(run)
    target = out or folder.predictions(set_name)
    if grammar is not None and target == folder.predictions("test"):
        write_jsonl(folder.predictions("test_free"), answered(model, examples, recipe.evaluate))
    write_jsonl(target, answered(model, examples, recipe.evaluate, grammar))
    return target


def check_asked(recipe: Recipe, rows: Sequence[Utterance], examples: Sequence[Example]) -> None:
    """Say how many rows hold nothing that the recipe's task asks about. Raises UserError if none does."""
    left_out = len(rows) - len({example.id for example in examples})
    if not examples:
        raise UserError(
            f"None of the {many(len(rows), 'row')} holds what the task {recipe.task.name} asks about "
            f"({plugins.summary('tasks', recipe.task.name)})"
        )
    if left_out > 0:
        print(
            f"{left_out} of {many(len(rows), 'row')} hold nothing that the task {recipe.task.name} asks about, and are left out.",
            file=sys.stderr,
        )


def answered(
    model: Model, examples: Sequence[Example], cfg: EvaluateSection, grammar: Grammar | None = None
) -> list[dict[str, Any]]:
    """Predictions rows of examples, with what the model heard: what stands in a predictions file."""
    return with_heard(model, examples, predict_rows(model, examples, cfg, grammar=grammar))


def rows_to_answer(
    recipe: Recipe, manifest: Path | None, corpus: str | None, root: Path | None, split: str | None
) -> tuple[Sequence[Utterance], str]:
    """The rows and what the set is called.

    Raises UserError for a corpus without a folder, a split that is none, or no rows at all.
    """
    rows, name = _rows_of(recipe, manifest, corpus, root, split)
    if not rows:
        where = manifest or root or recipe.data.root
        raise UserError(f"{where}: the split '{split or 'test'}' holds no rows. Name another with --split.")
    return rows, name


def _rows_of(
    recipe: Recipe, manifest: Path | None, corpus: str | None, root: Path | None, split: str | None
) -> tuple[Sequence[Utterance], str]:
    from lalm.data.pools import corpus_options, load_pools

    if split is not None and split not in SPLITS:
        raise UserError(f"--split {split}: there is no such split.{nearest(split, SPLITS)}")
    if manifest is None and corpus is None and root is None and split in (None, "test"):
        return load_pools(recipe.data).test, "test"
    name = corpus or ("jsonl" if manifest is not None else recipe.data.corpus.name)
    where = manifest or root or (recipe.data.root if name == recipe.data.corpus.name else None)
    if where is None:
        raise UserError(f"--corpus {name} needs --root, the folder of the corpus.")
    module = plugins.load("corpora", name)
    given = corpus_options(recipe.data) if name == recipe.data.corpus.name else {}
    cfg = plugins.configure(module, given, "corpus")
    wanted = SPLITS if split is None and corpus is None and manifest is not None else (split or "test",)
    rows = [row for one in wanted for row in module.read(where, one, cfg)]
    return rows, _set_name(where, split)


def _set_name(where: Path, split: str | None) -> str:
    """What a set of another source is called; never as the recipe's own test set is, in any of its forms."""
    name = where.stem if split in (None, "test") else f"{where.stem}-{split}"
    return f"{where.absolute().parent.name or 'other'}-{name}" if name in OWN_SETS else name


def scores_of(rows: Sequence[Mapping[str, Any]], cfg: EvaluateSection) -> dict[str, Any]:
    """Scores (docs/formats.md) of predictions rows."""
    from lalm.evaluate.score import score_rows

    return score_rows(rows, cfg.metrics, num_resamples=cfg.num_resamples, seed=0)
