"""A study folder as `lalm study` leaves it, but for weights: real recipes, real scores and results of made-up answers."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import soundfile
import yaml

from lalm.config import to_yaml
from lalm.data.manifest import write_manifest
from lalm.data.pools import load_pools
from lalm.evaluate.score import score_rows
from lalm.records import Frame, Slot, Utterance
from lalm.rundir import RunDir, read_json, write_json, write_jsonl, write_text
from lalm.study.collect import collect
from lalm.study.plan import Run, load_study, runs

METRICS = ("command_acceptance", "intent_accuracy", "slu_f1", "extra_slots", "wer")
ROOMS = ("kitchen", "hall", "bed room", "attic", "garage")
INTENTS = ("light_on", "light_off", "heat_up", "heat_down", "play_music")
POOL = 60

# the share of right answers: a - b (1 + n / c)^-d of the number of recordings
TRUTH = {
    "text_only": (0.55, 0.0, 1.0, 1.0),
    "direct_mixing": (0.90, 0.35, 10.0, 0.7),
    "curriculum": (0.93, 0.38, 6.0, 0.8),
    "speech_only": (0.35, 0.0, 1.0, 1.0),
    "cascade": (0.78, 0.16, 12.0, 0.8),
}


def accuracy(scheme: str, num_speech: int) -> float:
    """What a made-up run gets right."""
    a, b, c, d = TRUTH[scheme]
    return float(a - b * (1 + num_speech / c) ** -d)


def write_corpus(root: Path, num_test: int = 120, transcripts: bool = True, pool: int = POOL) -> Path:
    """A manifest of text, a pool of recordings and a test set; all recordings are a handful of short tones."""
    rng = Random(0)
    (root / "audio").mkdir(parents=True)
    for number in range(12):
        tone = 0.2 * np.sin(2 * np.pi * (220 + 60 * number) * np.arange(6400) / 16_000)
        soundfile.write(root / "audio" / f"{'pool' if number < 6 else 'test'}-{number % 6}.wav", tone, 16_000)
    rows = []
    for kind, split, number in (("text", "train", 40), ("pool", "train", pool), ("test", "test", num_test)):
        for index in range(number):
            intent, room = rng.choice(INTENTS), rng.choice(ROOMS)
            words = f"please {intent.replace('_', ' ')} in the {room}"
            rows.append(
                Utterance(
                    f"{kind}-{index:03d}",
                    text=words if transcripts or kind == "text" else None,
                    audio=None if kind == "text" else root / "audio" / f"{kind}-{index % 6}.wav",
                    frame=Frame(intent, (Slot("room", room),)),
                    duration_s=None if kind == "text" else 0.4,
                    split=split,
                    source="text" if kind == "text" else "recorded",
                )
            )
    write_manifest(root / "manifest.jsonl", rows)
    return root / "manifest.jsonl"


def write_study_file(folder: Path, manifest: Path, **changes: Any) -> Path:
    """`study.yaml` over that manifest."""
    values = {
        "title": "Lights and heat with little speech",
        "question": "Is it worth recording more commands for the home assistant?",
        "recipe": {
            "data": {"corpus": "jsonl", "root": str(manifest)},
            "backbone": "smol",
            "tuner": {"name": "lora", "r": 4},
            "evaluate": {"metrics": list(METRICS), "num_resamples": 200},
        },
        "schemes": ["text_only", "direct_mixing", "curriculum", "speech_only"],
        "speech_shares": [0, 0.05, 0.1, 1],
        "only_at": {"text_only": [0], "speech_only": [1]},
        "seeds": [0, 1],
        "primary_metric": "command_acceptance",
        "cascade": {"scheme": "curriculum"},
        **changes,
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def answer(row: Utterance, ease: float, accuracy: float, rng: Random, speech: bool = True) -> dict[str, Any]:
    """A predictions row; `ease` (0 to 1) is the utterance's own, so that the runs fail on the same utterances."""
    room = row.frame.slots[0].value
    right = 0.7 * ease + 0.3 * rng.random() < accuracy
    kind = "right" if right else rng.choice(["slot", "slot", "slot", "intent", "intent", "slot", "slot", "failed"])
    frame: dict[str, Any] | None = row.frame.to_json()
    if kind == "slot":
        frame["slots"][0]["value"] = rng.choice([other for other in ROOMS if other != room])
    elif kind == "intent":
        frame["intent"] = rng.choice([other for other in INTENTS if other != row.frame.intent])
        frame["slots"].append({"type": "song", "value": "any"})
    elif kind == "failed":
        frame = None
    made: dict[str, Any] = {
        "id": row.id,
        "gold": row.frame.to_json(),
        "prediction": frame,
        "raw": json.dumps(frame) if frame else '{"intent": "light',
        "status": "failed" if frame is None else "repaired" if rng.random() < 0.03 else "ok",
        "latency_s": 0.05,
    }
    if row.text is not None:
        made["text"] = row.text
    if speech:
        made["audio"] = str(row.audio)
        made["heard"] = (row.text or f"please {row.frame.intent} in the {room}").replace(
            "the", "the" if right else "duh" if rng.random() < 0.7 else "a"
        )
    return made


def write_run(out: Path, run: Run, test: list[Utterance], num_speech: int) -> None:
    """The folder of one run."""
    rng = Random(f"{run.name}/answers")
    ease = {row.id: Random(row.id).random() for row in test}
    folder = RunDir(out / "runs" / run.name)
    name = "cascade" if run.role == "cascade" else run.scheme
    level = accuracy(name, num_speech) + rng.uniform(-0.01, 0.01)
    rows = [answer(row, ease[row.id], level, rng) for row in test]
    write_text(folder.recipe, to_yaml(run.recipe))
    write_json(folder.info, run_info(run, num_speech))
    write_jsonl(folder.predictions("test"), rows)
    write_json(folder.scores("test"), score_rows(rows, METRICS, 200))
    write_jsonl(folder.log, log_rows())
    if run.role == "cell" and all(row.text for row in test):
        oracle = [answer(row, ease[row.id], 0.97, rng, speech=False) for row in test]
        write_jsonl(folder.predictions("oracle_text"), oracle)
        write_json(folder.scores("oracle_text"), score_rows(oracle, METRICS, 200))


def run_info(run: Run, num_speech: int) -> dict[str, Any]:
    """`run.json`."""
    return {
        "licences": {"corpus home": "CC-BY-NC-4.0 (non-commercial)", "SmolLM2": "Apache-2.0", "Whisper base": "MIT"},
        "config_hash": f"{abs(hash(run.name)) % 16**12:012x}",
        "data_hash": "0123456789ab",
        "model": {"backbone": "smol", "connector": "cascade" if run.role == "cascade" else "hybrid"},
        "num_text": 40,
        "num_speech": num_speech,
        "num_synthetic": 0,
        "seed": run.seed,
        "versions": {"torch": "2.9.1", "transformers": "5.0.0", "python": "3.11.9", "lalm": "0.1.0"},
        "hardware": {"machine": "x86_64", "cores": 2, "device": "cpu"},
        "git": "abc1234",
        "command": "lalm study",
        "peak_memory_mb": 2100,
        "finished": "2026-01-02T03:04:05Z",
        "steps": 60,
        "seconds": 100.0 + num_speech,
    }


def log_rows() -> list[dict[str, Any]]:
    """`log.jsonl`: two stages and one dev evaluation."""
    rows = []
    for step in range(10, 70, 10):
        row = {"step": step, "stage": "text" if step <= 40 else "mixed", "loss": 2.0 / step, "loss/text": 1.9 / step}
        row |= {"loss/speech": 2.5 / step} if step > 40 else {}
        rows.append({**row, "learning_rate": 1e-4, "time": "2026-01-02T03:04:05Z"})
    rows.append({"step": 60, "stage": "mixed", "dev/command_acceptance": 0.7, "time": "2026-01-02T03:04:06Z"})
    return rows


def make_study(folder: Path, transcripts: bool = True, num_test: int = 120, pool: int = POOL, **changes: Any) -> Path:
    """A whole study folder below `folder`; its path."""
    manifest = write_corpus(folder / "corpus", num_test, transcripts, pool)
    study_file = write_study_file(folder, manifest, **changes)
    study, base = load_study(study_file)
    todo = runs(study, base)
    out = folder / "study"
    pools = {run.share: load_pools(run.recipe.data) for run in todo}
    for run in todo:
        write_run(out, run, pools[run.share].test, len(pools[run.share].speech))
    write_text(out / "study.yaml", yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False))
    write_json(out / "plan.json", {"runs": [{"name": run.name} for run in todo]})
    collect(out, study, todo)
    return out


def results_of(study: Path) -> dict[str, Any]:
    """`results.json` of a study folder."""
    return read_json(study / "results.json")
