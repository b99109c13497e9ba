"""What a run needs to go on as if nothing had happened, and the adapter that others load. No pickles."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from lalm.contracts import Model
from lalm.errors import ModelError, UserError
from lalm.rundir import RunDir, read_json, write_json
from lalm.train.distributed import team
from lalm.train.engines import kept, like

ADAPTER_FILE = "adapter_model.safetensors"
TRAINED_FILE = "trained.safetensors"


def trained_state(model: Model) -> dict[str, torch.Tensor]:
    """The trained weights by name: peft's own names for adapters, parameter names for full tuning.

    Of several processes all must ask, and the main one is given them.
    """
    if model.peft is not None:
        state = get_peft_model_state_dict(model.peft)
    else:
        state = {name: p.detach() for name, p in model.module.named_parameters() if p.requires_grad}
    return kept(state, team())


def load_trained_state(model: Model, state: dict[str, torch.Tensor], where: str) -> None:
    """Put trained weights back. Raises ModelError if names or shapes do not fit."""
    if model.peft is not None:
        known = get_peft_model_state_dict(model.peft)
    else:
        known = {name: p for name, p in model.module.named_parameters() if p.requires_grad}
    wrong = sorted(set(known) ^ set(state)) or [n for n in known if known[n].shape != state[n].shape]
    if wrong:
        raise ModelError(
            f"{where}: these weights belong to another model or tuner ({len(wrong)} differ, first {wrong[0]})."
        )
    if model.peft is not None and not any(hasattr(tensor, "full_tensor") for tensor in known.values()):
        set_peft_model_state_dict(model.peft, state)
    else:
        with torch.no_grad():
            for name, tensor in state.items():
                known[name].copy_(like(known[name], tensor))


def save_trained(model: Model, folder: Path, state: dict[str, torch.Tensor]) -> None:
    """`adapter_config.json` + safetensors for adapters (as peft reads them), one safetensors file for full tuning."""
    folder.mkdir(parents=True, exist_ok=True)
    if model.peft is not None:
        model.peft.peft_config["default"].save_pretrained(str(folder))
        save_file(state, folder / ADAPTER_FILE, metadata={"format": "pt"})
    else:
        save_file(state, folder / TRAINED_FILE, metadata={"format": "pt"})


def load_trained(model: Model, folder: Path) -> None:
    """Inverse of `save_trained`. Raises ModelError for missing or damaged files."""
    path = folder / (ADAPTER_FILE if model.peft is not None else TRAINED_FILE)
    load_trained_state(model, _read(path), str(path))


def _read(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise ModelError(f"{path}: is missing.")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: is damaged ({error}).") from None


@contextlib.contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """A hidden folder to write into; it takes the name `target` only when everything is written and on the disk.

    Raises UserError if the disk is full or not writable; nothing is left half-written.
    """
    partial = target.with_name(f".{target.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        for path in partial.rglob("*"):  # a name must not outlive a power cut without its content
            if path.is_file():
                with path.open("rb") as stream:
                    os.fsync(stream.fileno())
        _drop(target)
        os.replace(partial, target)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{target}: cannot be written ({error}). Nothing is left half-written.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def save_adapter(run: RunDir, model: Model) -> None:
    """The finished weights, whole or not at all; the main process writes. Raises UserError if they cannot be written."""
    weights = trained_state(model)
    if team().is_main:
        with _whole(run.adapter) as folder:
            save_trained(model, folder, weights)


def save_checkpoint(
    run: RunDir, step: int, model: Model, progress: dict[str, torch.Tensor], state: dict[str, Any], keep: int
) -> None:
    """Write `checkpoint-<step>/` whole or not at all, then drop the oldest ones beyond `keep` (the best one apart).

    `progress` is the optimizer's. All processes call this, the main one writes, and the others wait for it.
    Raises UserError if it cannot be written.
    """
    weights = trained_state(model)
    if team().is_main:
        _write_checkpoint(run, step, model, weights, progress, state, keep)
    team().wait()


def _write_checkpoint(
    run: RunDir,
    step: int,
    model: Model,
    weights: dict[str, torch.Tensor],
    progress: dict[str, torch.Tensor],
    state: dict[str, Any],
    keep: int,
) -> None:
    with _whole(run.checkpoint(step)) as folder:
        save_trained(model, folder, weights)
        save_file(progress, folder / "optimizer.safetensors")
        save_file(_random_state(), folder / "random.safetensors")
        if model.tokenizer is not None:
            model.tokenizer.save_pretrained(str(folder / "tokenizer"))
        for path in (run.recipe, run.labels):
            if path.is_file():
                shutil.copy(path, folder / path.name)
        write_json(folder / "state.json", state)
    apart = run.checkpoint(state.get("best_step") or -1)
    for old in [path for path in run.checkpoints() if path != apart][:-keep]:
        _drop(old)


def clear_away(run: RunDir) -> None:
    """Delete what a killed process left half-written or half-deleted."""
    for left in (*run.root.glob(".checkpoint-*.part"), *run.root.glob(".checkpoint-*.old")):
        shutil.rmtree(left, ignore_errors=True)


def _drop(folder: Path) -> None:
    """Delete a checkpoint; it loses its name first, so that what is named like a checkpoint is always whole."""
    if folder.is_dir():
        gone = folder.with_name(f".{folder.name}.old")
        shutil.rmtree(gone, ignore_errors=True)
        os.replace(folder, gone)
        shutil.rmtree(gone, ignore_errors=True)


def load_progress(folder: Path) -> dict[str, torch.Tensor]:
    """What the optimizer knew at a checkpoint whose weights are loaded already; the random state is put back."""
    random = _read(folder / "random.safetensors")
    torch.set_rng_state(random["torch_cpu"])
    if "torch_cuda" in random and torch.cuda.is_available():
        torch.cuda.set_rng_state(random["torch_cuda"])
    return _read(folder / "optimizer.safetensors")


def checkpoint_state(folder: Path) -> dict[str, Any]:
    """`state.json` of a checkpoint: stage, step, best metric."""
    value = read_json(folder / "state.json")
    if not isinstance(value, dict):
        raise ModelError(f"{folder}/state.json: is not a mapping: {json.dumps(value)[:80]}")
    return value


def _random_state() -> dict[str, torch.Tensor]:
    state = {"torch_cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["torch_cuda"] = torch.cuda.get_rng_state()
    return state
