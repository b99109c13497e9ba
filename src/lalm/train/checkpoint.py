"""What a run needs to go on as if nothing had happened, and the adapter that others load. No pickles."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from lalm.contracts import Model
from lalm.errors import ModelError, UserError
from lalm.rundir import RunDir, read_json, write_json

ADAPTER_FILE = "adapter_model.safetensors"
TRAINED_FILE = "trained.safetensors"


def trained_state(model: Model) -> dict[str, torch.Tensor]:
    """The trained weights by name: peft's own names for adapters, parameter names for full tuning."""
    if model.peft is not None:
        state = get_peft_model_state_dict(model.peft)
    else:
        state = {name: p.detach() for name, p in model.module.named_parameters() if p.requires_grad}
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}


def load_trained_state(model: Model, state: dict[str, torch.Tensor], where: str) -> None:
    """Put trained weights back. Raises ModelError if names or shapes do not fit."""
    if model.peft is not None:
        known = get_peft_model_state_dict(model.peft)
    else:
        known = {name: p for name, p in model.module.named_parameters() if p.requires_grad}
    wrong = sorted(set(known) ^ set(state)) or [n for n in known if known[n].shape != state[n].shape]
    if wrong:
        raise ModelError(f"{where}: these weights belong to another model or tuner ({len(wrong)} differ, first {wrong[0]}).")
    if model.peft is not None:
        set_peft_model_state_dict(model.peft, state)
    else:
        with torch.no_grad():
            for name, tensor in state.items():
                known[name].copy_(tensor)


def save_trained(model: Model, folder: Path) -> None:
    """`adapter_config.json` + safetensors for adapters (as peft reads them), one safetensors file for full tuning."""
    folder.mkdir(parents=True, exist_ok=True)
    if model.peft is not None:
        model.peft.peft_config["default"].save_pretrained(str(folder))
        save_file(trained_state(model), folder / ADAPTER_FILE, metadata={"format": "pt"})
    else:
        save_file(trained_state(model), folder / TRAINED_FILE, metadata={"format": "pt"})


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


def save_checkpoint(
    run: RunDir, step: int, model: Model, optimizer: torch.optim.Optimizer, state: dict[str, Any], keep: int
) -> Path:
    """Write `checkpoint-<step>/` whole or not at all, then drop the oldest ones beyond `keep`."""
    target, partial = run.checkpoint(step), run.root / f".checkpoint-{step}.part"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        save_trained(model, partial)
        save_file(_optimizer_state(optimizer), partial / "optimizer.safetensors")
        save_file({"torch_cpu": torch.get_rng_state()}, partial / "random.safetensors")
        if model.tokenizer is not None:
            model.tokenizer.save_pretrained(str(partial / "tokenizer"))
        if run.recipe.is_file():
            shutil.copy(run.recipe, partial / "recipe.yaml")
        if (run.root / "labels.json").is_file():
            shutil.copy(run.root / "labels.json", partial / "labels.json")
        write_json(partial / "state.json", state)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(partial, target)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise UserError(f"{target}: the checkpoint cannot be written ({error}). Training stopped there.") from error
    kept = {target, run.checkpoint(state.get("best_step") or -1)}
    others = [path for path in run.checkpoints() if path not in kept]
    for old in others[: max(0, len(others) - keep + 1)]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def load_checkpoint(folder: Path, model: Model, optimizer: torch.optim.Optimizer) -> None:
    """Weights, optimizer and random state of a checkpoint."""
    load_trained(model, folder)
    stored = _read(folder / "optimizer.safetensors")
    parameters = optimizer.param_groups[0]["params"]
    for index, parameter in enumerate(parameters):
        entries = {key.split("/", 1)[1]: value for key, value in stored.items() if key.split("/", 1)[0] == str(index)}
        if entries:
            optimizer.state[parameter] = {key: value.to(parameter.device) if value.dim() else value for key, value in entries.items()}
    torch.set_rng_state(_read(folder / "random.safetensors")["torch_cpu"])


def checkpoint_state(folder: Path) -> dict[str, Any]:
    """`state.json` of a checkpoint: stage, step, best metric."""
    value = read_json(folder / "state.json")
    if not isinstance(value, dict):
        raise ModelError(f"{folder}/state.json: is not a mapping: {json.dumps(value)[:80]}")
    return value


def _optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    state = {}
    for index, parameter in enumerate(optimizer.param_groups[0]["params"]):
        for key, value in optimizer.state.get(parameter, {}).items():
            state[f"{index}/{key}"] = torch.as_tensor(value).detach().cpu().contiguous().clone()
    return state
