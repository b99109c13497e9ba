"""Answers of a trained model: for a test set, or for one recording."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lalm import plugins
from lalm.config import EvaluateSection, Recipe, load_recipe
from lalm.contracts import Model
from lalm.errors import UserError
from lalm.evaluate.parse import parse_answer
from lalm.records import Example, Frame, Utterance
from lalm.rundir import RunDir, write_jsonl
from lalm.train.log import format_s

if TYPE_CHECKING:
    import numpy as np


def predict_rows(
    model: Model, examples: Sequence[Example], cfg: EvaluateSection, quiet: bool = False
) -> list[dict[str, Any]]:
    """One predictions row (docs/formats.md) an example, in order. Rows of like length are generated together."""
    size = cfg.per_device_eval_batch_size
    order = sorted(range(len(examples)), key=lambda i: model.num_tokens(examples[i]))
    rows: dict[int, dict[str, Any]] = {}
    started = time.monotonic()
    for start in range(0, len(order), size):
        chunk = order[start : start + size]
        begun = time.monotonic()
        answers = model.generate([examples[i] for i in chunk], cfg.max_new_tokens, cfg.num_beams)
        latency_s = (time.monotonic() - begun) / len(chunk)
        for index, raw in zip(chunk, answers, strict=True):
            rows[index] = prediction_row(examples[index], raw, latency_s)
        if not quiet:
            left_s = (time.monotonic() - started) / len(rows) * (len(order) - len(rows))
            end = "\n" if len(rows) == len(order) else ""
            shown = f"\r[predict] {len(rows)}/{len(order)}  about {format_s(left_s)} left   "
            print(shown, end=end, file=sys.stderr, flush=True)
    return [rows[index] for index in range(len(examples))]


def prediction_row(example: Example, raw: str, latency_s: float) -> dict[str, Any]:
    """The row of one answer."""
    frame, status = parse_answer(raw)
    row: dict[str, Any] = {
        "id": example.id,
        "gold": example.frame.to_json(),
        "prediction": frame.to_json() if frame else None,
        "raw": raw,
        "status": status,
        "latency_s": round(latency_s, 4),
    }
    if example.audio is not None:
        row["audio"] = str(example.audio)
    if example.text is not None:
        row["text"] = example.text
    return row


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


def predict_run(
    run: Path,
    manifest: Path | None = None,
    corpus: str | None = None,
    root: Path | None = None,
    split: str = "test",
    out: Path | None = None,
) -> Path:
    """Predictions of a run on a manifest, on a corpus, or on the test set of its own recipe; the file written."""
    from lalm.data.pools import load_pools
    from lalm.train.setup import task_examples

    folder = RunDir(run).require()
    recipe, model = load_run(run)
    rows: Sequence[Utterance]
    if manifest is not None or corpus is not None:
        name = corpus or "jsonl"
        module = plugins.load("corpora", name)
        where = manifest or root
        if where is None:
            raise UserError(f"--corpus {name} needs --root, the folder of the corpus.")
        given = recipe.data.corpus.options if name == recipe.data.corpus.name else {}
        rows = list(module.read(where, split, plugins.configure(module, given, "corpus")))
        if not rows:
            raise UserError(f"{where}: the split '{split}' holds no rows.")
        set_name = where.stem
    else:
        rows, set_name = load_pools(recipe.data).test, "test"
        if not rows:
            raise UserError(f"The recipe of {run} has no test rows. Name a manifest.")
    target = out or folder.predictions(set_name)
    write_jsonl(target, predict_rows(model, task_examples(recipe, rows), recipe.evaluate))
    return target


class Understander:
    """A trained model as a function: recording in, frame out."""

    def __init__(self, recipe: Recipe, model: Model) -> None:
        self._recipe, self._model = recipe, model

    @classmethod
    def from_run(cls, run: str | Path) -> Understander:
        """From a finished run folder. Raises UserError naming what is missing."""
        return cls(*load_run(Path(run)))

    def __call__(self, audio: str | Path | np.ndarray, sample_rate_hz: int = 16_000) -> Frame:
        """The frame of a recording: a path, or samples [num_samples] (or [num_samples, channels]) in -1..1.

        Raises DataError for unreadable audio. An answer that cannot be parsed is a frame without an intent.
        """
        import tempfile

        import numpy as np
        import soundfile

        from lalm.train.setup import task_examples

        with tempfile.TemporaryDirectory() as folder:
            if isinstance(audio, np.ndarray):
                path = Path(folder) / "audio.wav"
                soundfile.write(path, audio, sample_rate_hz, subtype="FLOAT")
            else:
                path = Path(audio)
            example = task_examples(self._recipe, [Utterance(id=path.name, audio=path)])
            answer = self._model.generate(
                example, self._recipe.evaluate.max_new_tokens, self._recipe.evaluate.num_beams
            )[0]
        frame: Frame | None = parse_answer(answer)[0]
        return frame or Frame(None)


def scores_of(rows: Sequence[Mapping[str, Any]], cfg: EvaluateSection) -> dict[str, Any]:
    """Scores (docs/formats.md) of predictions rows."""
    from lalm.evaluate.score import score_rows

    return score_rows(rows, cfg.metrics, num_resamples=cfg.num_resamples, seed=0)
