"""How a run was made: hashes, versions, hardware, licences with the most restrictive on top; what `run.json` says."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lalm import plugins
from lalm.config import Recipe, config_hash
from lalm.contracts import Model
from lalm.data.audio import content_hash
from lalm.data.pools import LoadedPools
from lalm.records import Stage, Utterance
from lalm.train.copies import num_copies
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


def provenance(recipe: Recipe, model: Model, pools: LoadedPools, stages: Sequence[Stage]) -> dict[str, Any]:
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
        **({"beginnings": model.beginnings} if hasattr(model, "beginnings") else {}),
        "num_text": len(pools.text),
        "num_speech": len(pools.speech),
        "num_synthetic": len(pools.synthetic),
        "num_copies": num_copies(recipe.data, pools),
        "languages": languages_of(pools, stages),
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


def languages_of(pools: LoadedPools, stages: Sequence[Stage]) -> dict[str, dict[str, int]]:
    """Rows by language and pool that the stages go through: `num_text`, `num_speech`, `num_synthetic`."""
    used = {pool.partition(":")[0] for stage in stages for pool, passes in stage.passes.items() if passes > 0}
    result: dict[str, dict[str, int]] = {}
    for name in ("text", "speech", "synthetic"):
        for row in getattr(pools, name):
            own = result.setdefault(row.language, {"num_text": 0, "num_speech": 0, "num_synthetic": 0})
            own[f"num_{name}"] += bool(used & {name, f"{name}@{row.language}"})
    return dict(sorted(result.items()))


def data_hash(pools: LoadedPools) -> str:
    """Names the training rows: words, labels and the recordings themselves."""
    return config_hash([_content(row) for row in (*pools.text, *pools.speech, *pools.synthetic)])


def _content(row: Utterance) -> list[Any]:
    own = [row.id, row.text, row.frame.to_json(), row.audio and content_hash(row.audio)]
    if not row.turns:
        return own
    replies = row.clarification.replies if row.clarification is not None else ()
    turns = [*row.turns, *(reply for reply, _ in replies)]
    said = [[turn.role, turn.text, turn.audio and content_hash(turn.audio)] for turn in turns]
    asked = row.clarification and [row.clarification.question, *(answers for _, answers in replies)]
    return [*own, row.context, row.question, row.answers, said, asked]


def corpus_licence(recipe: Recipe) -> str:
    """The licence that the corpus plug-in states."""
    corpus = plugins.load("corpora", recipe.data.corpus.name)
    if hasattr(corpus, "licence"):  # of a corpus that is made of others
        return str(corpus.licence(plugins.configure(corpus, recipe.data.corpus.options, "data.corpus")))
    return str(getattr(corpus, "LICENCE", "not stated"))


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
