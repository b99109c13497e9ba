"""ITALIC: 16,521 Italian commands to a home assistant, recorded by 70 speakers, with intents (no slots).

Koudounas et al. 2023 (arXiv 2306.08502), MASSIVE's Italian sentences, CC BY 4.0. Layout of the archive on Zenodo:
`CONFIG_SPLIT.json` (JSON lines: `id`, `utt`, `scenario`, `intent`, `speaker_id`, `age`, `environment` ...) and
`recordings/ID.wav`. Configurations: `massive` (MASSIVE's splits), `hard_speaker` (speakers apart), `hard_noisy` (noise in the test).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile
from pydantic import Field

from lalm.corpora._complete import CHECK_COUNTS, check_count, lines_of, text_of
from lalm.corpora.massive import NUM_ROWS, tiny_rows
from lalm.data.manifest import resolve
from lalm.data.recordings import with_durations
from lalm.errors import DataError
from lalm.plugins import PluginConfig
from lalm.records import Frame, Utterance
from lalm.rundir import write_jsonl

LICENCE = "CC-BY-4.0"
NUM_RECORDINGS = 16521  # of every configuration, all splits together
_FILES = {"train": "train", "dev": "validation", "test": "test"}
_ABOUT = ("age", "gender", "region", "nationality", "environment", "device", "is_native")


class Config(PluginConfig):
    """Options of the corpus."""

    config: Literal["hard_speaker", "massive", "hard_noisy"] = Field(
        "hard_speaker", description="how recordings are split; speakers are apart in hard_speaker alone"
    )
    check_counts: bool = Field(True, description=CHECK_COUNTS)


def read(root: Path, split: str, cfg: Config) -> Iterator[Utterance]:
    """The recordings of a split. Where speakers are in all splits, their names stand in `meta` and are not kept apart.

    Raises DataError for missing files, bad rows and recordings (all listed), and files that are not complete.
    """
    paths = {name: root / f"{cfg.config}_{file}.json" for name, file in _FILES.items()}
    rows = list(lines_of(paths[split], lambda value: [_spoken(value, root, split, cfg)]))
    if cfg.config == "massive":
        check_count(paths[split], len(rows), NUM_ROWS[split], cfg.check_counts)
    elif cfg.check_counts:
        others = (path for name, path in paths.items() if name != split and path.is_file())
        total = len(rows) + sum(sum(1 for line in path.open("rb") if line.strip()) for path in others)
        check_count(root / f"{cfg.config}_*.json", total, NUM_RECORDINGS, cfg.check_counts)
    yield from with_durations(rows, paths[split])


def _spoken(value: dict[str, Any], root: Path, split: Any, cfg: Config) -> Utterance:
    name = str(value["id"])
    audio, problem = resolve(root / "recordings", f"{name}.wav", allow_outside=False)
    if problem:
        raise DataError(f"field 'id': {problem}")
    scenario, intent = text_of(value, "scenario"), text_of(value, "intent")
    whole = intent if intent.startswith(f"{scenario}_") else f"{scenario}_{intent}"
    speaker = str(value["speaker_id"])
    apart = cfg.config == "hard_speaker"
    meta = {
        "slurp_id": name,
        "scenario": scenario,
        "action": whole.removeprefix(f"{scenario}_"),
        **({} if apart else {"speaker": speaker}),
        **{key: value[key] for key in _ABOUT if value.get(key) not in (None, "")},
    }
    return Utterance(
        name,
        text_of(value, "utt"),
        audio,
        Frame(whole),
        "it",
        speaker if apart else None,
        split=split,
        source="recorded",
        meta=meta,
    )


def make_tiny(root: Path, seed: int) -> None:
    """Four recordings of noise a split, in all three configurations."""
    rng = np.random.default_rng(seed)
    (root / "recordings").mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(_FILES.values()):
        rows = []
        for row in tiny_rows("it-IT", name, 10 * index):
            soundfile.write(root / "recordings" / f"{row['id']}.wav", 0.1 * rng.standard_normal(8000), 16_000)
            rows.append(
                {
                    "id": int(row["id"]),
                    "age": 30,
                    "gender": "female",
                    "region": "Piemonte",
                    "nationality": "italian",
                    "lisp": "none",
                    "education": "master",
                    "speaker_id": 10 * index + int(row["id"]) % 2,
                    "environment": "silent",
                    "device": "phone",
                    "scenario": row["scenario"],
                    "field": "close",
                    "intent": row["intent"],
                    "utt": row["utt"],
                }
            )
        for config in ("massive", "hard_speaker", "hard_noisy"):
            write_jsonl(root / f"{config}_{name}.json", rows)
