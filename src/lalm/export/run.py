"""`lalm export`: a run as a folder that other tools load, written only if it answers as the run does.

Three models answer a sample of the run's own rows: the run's, the run's with its adapter folded into the weights, and what
the written folder holds when it is loaded anew. One answer that differs, and nothing is written.
"""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from lalm import plugins
from lalm.config import Recipe, load_recipe
from lalm.contracts import Model
from lalm.data.pools import load_pools
from lalm.errors import UserError
from lalm.export.card import model_card
from lalm.export.folder import Format
from lalm.models.gemma import copy_terms
from lalm.models.parts import quiet_libraries
from lalm.records import Example
from lalm.rundir import RunDir, read_json, write_json, write_text
from lalm.train.setup import attach, load_model, task_examples

NUM_ROWS = 8  # half of them spoken
BEYOND = (
    "Not the language model alone was tuned, but {} too. Servers that read adapters (vLLM, for one) put them on the language "
    "model and leave out or refuse those of an encoder or a connector: served with this adapter, the model would hear as it "
    "did before the training, or not be served at all. Export with --merged and serve that."
)


@dataclass(frozen=True)
class Answers:
    """Of the three models, in the order of the rows; `max_nll_difference` is between adapter and merged weights."""

    rows: tuple[Example, ...]
    trained: tuple[str, ...]
    merged: tuple[str, ...]
    loaded: tuple[str, ...]
    max_nll_difference: float


def export_run(run_folder: Path, out: Path, merged: bool = False) -> str:
    """Write the export of a finished run to the folder `out`; a text that says what it is.

    Raises UserError, and leaves nothing at `out`: an unfinished run, a folder that is not empty, a run without an adapter
    to export, a backbone that has no such folder, answers that differ.
    """
    run = RunDir(run_folder).require()
    recipe = load_recipe(run.recipe)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is not empty. Choose another folder with --out.")
    if not merged and not (run.adapter / "adapter_config.json").is_file():
        raise UserError(
            f"{run_folder} has no adapter: the tuner '{recipe.tuner.name}' trained the weights themselves. Export it with "
            "--merged."
        )
    rows = sample(recipe)
    part = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
        with quiet_libraries():
            answers, form = _write(run, _plain(recipe), rows, part, merged)
        _require_equal(answers)
        note = _describe(run, recipe, part, merged, answers, form)
        _open_to_readers(part)
        if out.is_dir():
            out.rmdir()
        os.replace(part, out)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{out}: cannot be written ({error}). Nothing is left half-written.") from error
    finally:
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)
    kind = "merged model" if merged else "adapter"
    same = f"{len(rows)} rows answered alike by the run, its merged weights and the exported folder, loaded anew."
    return "\n".join([f"The {kind} of {run_folder} in {out}: {same}", *([note] if note else [])])


def _open_to_readers(folder: Path) -> None:
    """Temporary folders and some writers leave files to their owner alone; a server may be another user."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _plain(recipe: Recipe) -> Recipe:
    """The recipe without what saves memory in training alone: what is exported are the weights in full."""
    train = recipe.train.model_copy(update={"load_in_4bit": False, "gradient_checkpointing": False})
    return recipe.model_copy(update={"train": train})


def sample(recipe: Recipe) -> list[Example]:
    """Rows of the test set, spread over it: spoken ones, and others as their words. What it lacks is taken from training.

    Raises UserError if the run's data are not there or hold no row.
    """
    pools = load_pools(recipe.data)
    test, speech, text = (task_examples(recipe, rows) for rows in (pools.test, pools.speech, pools.text))
    spoken = [row for row in test if row.audio is not None] or [row for row in speech if row.audio is not None]
    written = [replace(row, audio=None) for row in test if row.text is not None]
    written = written or [row for row in text if row.text is not None]
    if not spoken and not written:
        raise UserError("The run's data hold no row that the export could be tried on.")
    half = NUM_ROWS // 2
    return [*_spread(spoken, half if written else NUM_ROWS), *_spread(written, half if spoken else NUM_ROWS)]


def _spread(rows: Sequence[Example], number: int) -> list[Example]:
    return [rows[index * len(rows) // number] for index in range(number)] if len(rows) > number else list(rows)


def _write(run: RunDir, recipe: Recipe, rows: Sequence[Example], folder: Path, merged: bool) -> tuple[Answers, Format]:
    """Write the weights and let all three models answer; one model is in memory at a time."""
    from lalm.train.checkpoint import load_trained

    model = load_model(recipe)
    form = format_of(model, recipe)
    attach(recipe, model)
    load_trained(model, run.adapter)
    model.module.eval()
    trained, before = _answers(model, rows, recipe), _nll(model, rows)
    tuner = plugins.load("tuners", recipe.tuner.name)
    tuner.merge(model)
    folded, after = _answers(model, rows, recipe), _nll(model, rows)
    asked = [form.as_given(model, row) for row in rows]
    if merged:
        form.write_merged(model, folder)
    del model
    gc.collect()
    if not merged:
        base = load_model(recipe)
        form.write_adapter(base, run.adapter, folder)
        del base
        gc.collect()
    answer = form.reopen(folder, merged)
    loaded = tuple(answer(row) for row in asked)
    gap = max(abs(a - b) for a, b in zip(before, after, strict=True))
    return Answers(tuple(rows), trained, folded, loaded, gap), form


def format_of(model: Model, recipe: Recipe) -> Format:
    """The format of a model. Raises UserError for a make of model that has none."""
    from lalm.backbones._composed_model import ComposedModel
    from lalm.backbones._native import NativeModel
    from lalm.export.composed import ComposedFormat
    from lalm.export.native import NativeFormat

    if isinstance(model, ComposedModel):
        return ComposedFormat(model, recipe)
    if isinstance(model, NativeModel):
        return NativeFormat(model, recipe)
    raise UserError(
        f"The backbone {recipe.backbone.name} is neither a composed model nor a class of transformers, and there is no "
        "folder that other tools would know it by."
    )


def _answers(model: Model, rows: Sequence[Example], recipe: Recipe) -> tuple[str, ...]:
    cfg = recipe.evaluate
    return tuple(model.generate(list(rows), cfg.max_new_tokens, cfg.num_beams))


def _nll(model: Model, rows: Sequence[Example]) -> list[float]:
    """Of each row's own answer, per token."""
    import torch

    with torch.no_grad():
        summed, number = model.loss(model.batch(rows))
    return (summed.double() / number).tolist()


def _require_equal(answers: Answers) -> None:
    """Raises UserError that shows the first row on which two models differ."""
    for index, row in enumerate(answers.rows):
        found = {"run": answers.trained[index], "merged": answers.merged[index], "exported": answers.loaded[index]}
        if len(set(found.values())) > 1:
            said = "\n".join(f"  {name + ':':<10}{answer}" for name, answer in found.items())
            raise UserError(
                f"Row '{row.id}' is not answered alike, so nothing was exported. Negative log-likelihoods of merged weights "
                f"differ by up to {answers.max_nll_difference:.2g} a token. Weights of a coarse format (backbone.dtype: "
                f"bfloat16) round when an adapter is folded in; load them in float32 for the export, or export the adapter "
                f"where only the merged answer differs.\n{said}"
            )


def _describe(run: RunDir, recipe: Recipe, folder: Path, merged: bool, answers: Answers, form: Format) -> str:
    """`export.json`, the model card; the sentence that a user must know, if there is one."""
    beyond = [group for group in recipe.train.groups if not group.startswith("llm.")]
    note = BEYOND.format(" and ".join(beyond)) if beyond and not merged else ""
    facts: dict[str, Any] = {
        "format": 1,
        "kind": "merged" if merged else "adapter",
        "backbone": recipe.backbone.name,
        "tuned_groups": list(recipe.train.groups),
        "tuned_encoder": "audio_encoder" in beyond,
        "note": note or None,
        "rows_compared": len(answers.rows),
        "max_nll_difference": answers.max_nll_difference,
    }
    if recipe.backbone.name == "gemma" and not recipe.backbone.options.get("tiny"):
        copy_terms(folder)
    write_json(folder / "export.json", facts)
    write_text(folder / "README.md", model_card(run, recipe, read_json(run.info), facts, form.usage(merged)))
    return note
