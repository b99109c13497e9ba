"""What a run is set up from: rows, stages, model, trainable weights; and the record of how it was made."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from lalm import plugins
from lalm.config import Recipe, TrainSection, config_hash
from lalm.contracts import Model
from lalm.data.audio import content_hash
from lalm.data.grammar import Grammar, Seen, asked_grammar, seen_in
from lalm.data.labels import answer_text
from lalm.data.ontology import read_ontology, write_ontology
from lalm.data.pools import LoadedPools
from lalm.errors import ConfigError, DataError
from lalm.records import Example, Pools, Stage, Utterance
from lalm.rundir import RunDir, write_json
from lalm.train.copies import copies, num_copies
from lalm.train.distributed import team

# the most restrictive first: what a result made from several sources may be used for; "" stands for what is not known
_RESTRICTIVENESS = (
    r"\bnc\b|non-?commercial",
    r"\bgemma\b",
    "",
    r"\bsa\b|share-?alike|\bl?a?gpl",
    r"\bcc[ -]by\b",
    r"\bapache",
    r"\bmit\b|\bbsd\b",
    r"\bcc0\b|public domain",
)


def make_examples(recipe: Recipe, pools: LoadedPools) -> dict[str, list[Example]]:
    """Training rows by pool, made by the recipe's task; recordings are followed by their changed copies, if any."""
    changed = copies(recipe.data, pools)
    return {
        "text": task_examples(recipe, pools.text),
        "speech": task_examples(recipe, [*pools.speech, *changed["speech"]]),
        "synthetic": task_examples(recipe, [*pools.synthetic, *changed["synthetic"]]),
    }


def task_examples(recipe: Recipe, rows: Sequence[Utterance]) -> list[Example]:
    """The recipe's task over rows, seeded."""
    task = plugins.load("tasks", recipe.task.name)
    cfg = plugins.configure(task, recipe.task.options, "task")
    rng = Random(recipe.train.seed)
    return [example for row in rows for example in task.examples(row, cfg, rng)]


def plan(recipe: Recipe, examples: Mapping[str, Sequence[Example]]) -> list[Stage]:
    """The scheme's stages for these pools. Raises ConfigError where a pool that it needs is empty."""
    scheme = plugins.load("schemes", recipe.scheme.name)
    cfg = plugins.configure(scheme, recipe.scheme.options, "scheme")
    sizes = Pools(len(examples["text"]), len(examples["speech"]), len(examples["synthetic"]))
    stages: list[Stage] = scheme.plan(cfg, sizes)
    if any(stage.passes.get("text", 0) > 0 for stage in stages) and not examples["text"]:
        raise DataError(f"The scheme {recipe.scheme.name} trains on text and the corpus has no labelled training text.")
    if any(stage.passes.get("synthetic", 0) > 0 for stage in stages) and not examples["synthetic"]:
        raise ConfigError(
            "scheme.synthetic_passes is above 0 and data.synthetic names no manifest of synthetic speech."
        )
    return stages


def check_machine(cfg: TrainSection) -> None:
    """Raises UserError, before any weight is loaded, if this machine cannot train as `cfg` asks (`bf16`)."""
    from lalm.train.optim import uses_bf16

    uses_bf16(cfg, team().device)


def load_model(recipe: Recipe) -> Model:
    """The recipe's backbone, on this process's accelerator if there is one, with the recipe's memory options.

    Raises UserError if the weights cannot be had, or where it is asked for and the model cannot be put into four bits or
    held to a grammar.
    """
    from lalm.backbones._grammar import check_tokenizer
    from lalm.train import lean

    we = team()
    if recipe.train.load_in_4bit:
        lean.check_4bit(we.device)
    backbone = plugins.load("backbones", recipe.backbone.name)
    model: Model = backbone.load(plugins.configure(backbone, recipe.backbone.options, "backbone"))
    if recipe.evaluate.constrained:
        check_tokenizer(model.tokenizer)
    if recipe.train.load_in_4bit:
        lean.quantize(model, recipe.train, we.device)
    if we.device.type == "cuda":
        model.module.to(we.device)
    if recipe.train.gradient_checkpointing:
        lean.recompute(model)
    return model


def attach(recipe: Recipe, model: Model) -> tuple[list[str], Any]:
    """Attach the tuner, seeded; names of the trainable parameters, and what else the weights depend on.

    Raises UserError for groups that the tuner cannot train.
    """
    import torch

    tuner = plugins.load("tuners", recipe.tuner.name)
    torch.manual_seed(recipe.train.seed)
    try:
        trainable = tuner.attach(model, recipe.train.groups, plugins.configure(tuner, recipe.tuner.options, "tuner"))
    except RuntimeError as error:
        if not recipe.train.load_in_4bit or "floating point" not in str(error):
            raise
        raise ConfigError(
            f"train.load_in_4bit: weights of four bits are frozen, and the tuner {recipe.tuner.name} trains the weights "
            "themselves. Use the tuner lora, or leave train.load_in_4bit out."
        ) from None
    base = {key: value for key, value in model.identity.items() if not key.startswith("connector")}
    trains_connector = any("connector" in group or "audio" in group for group in recipe.train.groups)
    return trainable, [
        base if not trains_connector else dict(model.identity),
        recipe.tuner.model_dump(mode="json"),
        sorted(trainable),
    ]


def answers_obey(recipe: Recipe, pools: LoadedPools) -> Grammar | None:
    """The grammar of the answers, from the training rows; None if they are free.

    Raises UserError for a wrong ontology, and for a task that teaches answers of another layout.
    """
    if recipe.evaluate.constrained:
        for row in [*pools.text, *pools.speech, *pools.synthetic][:1]:
            taught = task_examples(recipe, [row])
            if any(example.answer != answer_text(row.frame) for example in taught):
                raise ConfigError(
                    f"evaluate.constrained: the grammar is of intent and slots ({answer_text(row.frame)}), and the task "
                    f"{recipe.task.name} teaches other answers ({taught[0].answer}). Leave evaluate.constrained out."
                )
    return asked_grammar(recipe.evaluate, _seen(pools))


def write_labels(run: RunDir, recipe: Recipe, pools: LoadedPools) -> None:
    """The label schema of the training rows (intents, slot types and values as seen), and a copy of the recipe's ontology."""
    write_json(run.labels, _seen(pools).to_json())
    if recipe.evaluate.ontology is not None:
        write_ontology(run.ontology, read_ontology(recipe.evaluate.ontology))


def _seen(pools: LoadedPools) -> Seen:
    return seen_in(row.frame for row in (*pools.text, *pools.speech, *pools.synthetic))


def finish(
    run: RunDir, recipe: Recipe, model: Model, pools: LoadedPools, counts: Mapping[str, Any], started: float
) -> None:
    """The finished weights and `run.json`, which is written last: a folder without it is not a finished run.

    All processes call this; the main one writes, and the others wait for it.
    """
    from lalm.train.checkpoint import save_adapter

    save_adapter(run, model)
    if team().is_main:
        made = provenance(recipe, model, pools)
        write_json(run.info, {**made, **counts, "seconds": round(time.monotonic() - started, 1)})
    team().wait()


def provenance(recipe: Recipe, model: Model, pools: LoadedPools) -> dict[str, Any]:
    """What made this run: hashes, versions, hardware, seed, licences with the most restrictive on top."""
    values = recipe.model_dump(mode="json")
    licences = {**model.identity.get("licences", {}), f"corpus {recipe.data.corpus.name}": corpus_licence(recipe)}
    if recipe.data.augment is not None and recipe.data.augment.noise_folder is not None:
        licences[f"noise {recipe.data.augment.noise_folder.name}"] = "not stated"
    return {
        "licences": dict(sorted(licences.items(), key=lambda item: restrictiveness(item[1]))),
        "config_hash": config_hash(values),
        "data_hash": data_hash(pools),
        "model": {key: value for key, value in model.identity.items() if key != "licences"},
        "num_text": len(pools.text),
        "num_speech": len(pools.speech),
        "num_synthetic": len(pools.synthetic),
        "num_copies": num_copies(recipe.data, pools),
        "seed": recipe.train.seed,
        "versions": {
            name: importlib.metadata.version(name) for name in ("torch", "transformers", "peft", "numpy", "soundfile")
        }
        | {"python": platform.python_version(), "lalm": _own_version()},
        "hardware": {"machine": platform.machine(), "cores": os.cpu_count(), "device": _device()},
        "num_processes": team().size,
        "git": _git_state(),
        "command": " ".join(["lalm", *sys.argv[1:]]),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def data_hash(pools: LoadedPools) -> str:
    """Names the training rows: words, labels and the recordings themselves."""
    rows = (*pools.text, *pools.speech, *pools.synthetic)
    return config_hash([[row.id, row.text, row.frame.to_json(), row.audio and content_hash(row.audio)] for row in rows])


def corpus_licence(recipe: Recipe) -> str:
    """The licence that the corpus plug-in states."""
    return str(getattr(plugins.load("corpora", recipe.data.corpus.name), "LICENCE", "not stated"))


def restrictiveness(licence: str) -> int:
    known = (i for i, pattern in enumerate(_RESTRICTIVENESS) if pattern and re.search(pattern, licence.lower()))
    return next(known, _RESTRICTIVENESS.index(""))


def _own_version() -> str:
    import lalm

    return lalm.__version__


def _device() -> str:
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"


def _git_state() -> str | None:
    try:
        state = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
            timeout=5,
            cwd=Path(__file__).parent,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return state.stdout.strip()
