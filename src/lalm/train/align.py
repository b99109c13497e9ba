"""`lalm align`: trains a connector's weights from sentences and their synthetic speech, resumable at every step."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import safe_open
from torch import Tensor

from lalm import plugins
from lalm.config import config_hash
from lalm.errors import ConfigError, UserError
from lalm.metrics._edits import edit_distance
from lalm.records import Example, Stage
from lalm.rundir import RunDir, write_json, write_text
from lalm.train.align_recipe import AlignRecipe, load_align_recipe
from lalm.train.distributed import only_alone
from lalm.train.lean import MEMORY_OPTIONS
from lalm.train.loop import fit
from lalm.train.material import Clip, encode_clips, plan_clips, speak_clips
from lalm.tuners import full

WEIGHTS = "connector.safetensors"


def align(recipe_file: Path, out: Path, resume: bool = False) -> Path:
    """Make the material, train, and write `connector.safetensors` and `align.json` into `out`; the weights' path.

    Raises UserError for a recipe that cannot be right, a folder that holds another alignment, or a missing engine.
    """
    only_alone("lalm align")
    recipe = load_align_recipe(recipe_file)
    module = plugins.load("connectors", recipe.connector.name)
    if not hasattr(module, "alignment"):
        able = [n for n in plugins.names("connectors") if hasattr(plugins.load("connectors", n), "alignment")]
        raise ConfigError(
            f"connector: {recipe.connector.name} is not trained by lalm align. Allowed: {', '.join(able)}."
        )
    options = plugins.configure(module, recipe.connector.options, "connector")
    clips = plan_clips(recipe, functools.cache(functools.partial(module.frequent_words, options)))
    run = _open(recipe, out, resume)
    speak_clips(clips, out)
    store = FrameStore(encode_clips(clips, out, recipe.augment, module.TAPS))
    model = module.alignment(options, store.get, store.lengths)
    answers = _answers(clips, functools.partial(module.labels, options))
    examples = {dev: _examples(answers, dev) for dev in (False, True)}
    trainable = full.attach(model, ["connector"], full.Config())
    result = fit(
        model,
        trainable,
        [Stage("align", {"speech": 1.0}, recipe.num_train_epochs, warmup_ratio=recipe.warmup_ratio)],
        {"speech": examples[False]},
        recipe.train,
        run,
        identity=config_hash(recipe.model_dump(mode="json", exclude={"train": set(MEMORY_OPTIONS)})),
        resume=resume,
        evaluate=(lambda: _measured(model, examples[True])) if examples[True] else None,
        higher_is_better=False,
    )
    module.save_alignment(model, out / WEIGHTS)
    unlabelled = sum(not answer for answer in answers.values())
    write_json(run.info, _report(recipe, clips, model, examples[True], result.steps, unlabelled))
    return out / WEIGHTS


class FrameStore:
    """Frames of all copies, read from memory-mapped files."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._open = [safe_open(file, framework="pt") for file in files]
        self._where = {name: handle for handle in self._open for name in handle.keys()}  # noqa: SIM118
        self.lengths: Mapping[str, int] = {
            name: handle.get_slice(name).get_shape()[0] for name, handle in self._where.items()
        }

    def get(self, name: str) -> Tensor:
        """float16 frames [frames, width]."""
        return self._where[name].get_tensor(name)


def label_error_rate(model: Any, examples: Sequence[Example]) -> float:
    """Edits over labels (phones, say) of greedy decoding."""
    edits = num_labels = 0
    ordered = sorted(examples, key=model.num_tokens)
    for start in range(0, len(ordered), 16):
        batch = ordered[start : start + 16]
        for example, heard in zip(batch, model.generate(batch), strict=True):
            edits += edit_distance(example.answer, heard)
            num_labels += len(example.answer)
    return edits / max(1, num_labels)


def _answers(
    clips: Sequence[Clip], labels: Callable[[Sequence[str], str], Sequence[str | None]]
) -> dict[Clip, str | None]:
    """What the connector is to write for each clip."""
    found: dict[Clip, str | None] = {}
    for language in sorted({clip.language for clip in clips}):
        spoken = [clip for clip in clips if clip.language == language]
        found |= zip(spoken, labels([clip.text for clip in spoken], language), strict=True)
    return {clip: found[clip] for clip in clips}


def _measured(model: Any, examples: Sequence[Example]) -> dict[str, float]:
    """The label error rate of held-out clips, and of each language where there are several."""
    languages = sorted({example.language for example in examples})
    rates = {
        f"label_error_rate_{language}": label_error_rate(model, [one for one in examples if one.language == language])
        for language in (languages if len(languages) > 1 else ())
    }
    return {"label_error_rate": label_error_rate(model, examples), **rates}


def _examples(answers: Mapping[Clip, str | None], dev: bool) -> list[Example]:
    return [
        Example(id=name, instruction="", answer=answer, audio=Path(name), task="align", language=clip.language)
        for clip, answer in answers.items()
        if clip.dev == dev and answer
        for name in clip.copy_ids()
    ]


def _open(recipe: AlignRecipe, out: Path, resume: bool) -> RunDir:
    run = RunDir(out)
    text = yaml.safe_dump(json.loads(recipe.model_dump_json()), sort_keys=False)
    if run.recipe.is_file():
        if load_align_recipe(run.recipe) != recipe:
            raise UserError(f"{out} holds another alignment. Choose another folder with --out.")
        if not resume:
            raise UserError(
                f"{out} holds this alignment already. Go on with --resume, or choose another folder with --out."
            )
    write_text(run.recipe, text)
    return run


def _report(
    recipe: AlignRecipe, clips: Sequence[Clip], model: Any, dev: Sequence[Example], steps: int, unlabelled: int
) -> dict[str, Any]:
    engines: dict[str, dict[str, Any]] = {}
    for clip in clips:
        row = engines.setdefault(
            f"{clip.engine} {clip.language}{' (held out)' if clip.dev else ''}",
            {"clips": 0, "copies": 0, "voices": set()},
        )
        row["clips"] += 1
        row["copies"] += clip.copies
        row["voices"].add(clip.voice)
    return {
        "title": recipe.title,
        "engines": {
            name: {**row, "voices": len(row["voices"]), "licence": plugins.load("synth", name.split()[0]).LICENCE}
            for name, row in engines.items()
        },
        "clips_without_labels": unlabelled,
        "steps": steps,
        **({f"held_out_{name}": value for name, value in _measured(model, dev).items()} if dev else {}),
        "num_parameters": sum(p.numel() for p in model.module.parameters()),
        "torch": torch.__version__,
    }
