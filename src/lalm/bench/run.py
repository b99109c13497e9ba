"""`lalm bench`: lalm beside the plain reference, each in its own process, turn about; medians, spread, and the bound."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lalm.bench import flops
from lalm.bench.scenarios import REORDERED, SCENARIOS, SIDES, Scenario
from lalm.errors import UserError, nearest
from lalm.rundir import write_json


def bench(names: Sequence[str], out: Path, repetitions: int, bf16: bool, threads: int | None) -> list[dict[str, Any]]:
    """Measure scenarios and write `<name>.json` for each into `out`; what was found.

    Raises UserError for an unknown scenario, or if a side fails (memory, say).
    """
    _check(names)
    if repetitions < 1:
        raise UserError(f"--repetitions {repetitions}: at least 1 is needed.")
    results = []
    for name in names:
        scenario = SCENARIOS[name]
        in_bf16 = bf16 if scenario.precision is None else scenario.precision == "bfloat16"
        found = _measure(scenario, repetitions, in_bf16, threads or os.cpu_count() or 1)
        write_json(out / f"{name}.json", found)
        print(as_text(found), flush=True)
        results.append(found)
    return results


def dry(names: Sequence[str]) -> None:
    """Print what scenarios with random weights would compute and hold (none named: that of a GPU)."""
    from lalm.bench.dry import as_text as said
    from lalm.bench.dry import dry_run

    names = names or ["qwen2_audio_7b"]
    _check(names)
    for name in names:
        print(said(dry_run(SCENARIOS[name])))


def _check(names: Sequence[str]) -> None:
    for name in names:
        if name not in SCENARIOS:
            raise UserError(f"There is no scenario '{name}'.{nearest(name, SCENARIOS)}")


def _measure(scenario: Scenario, repetitions: int, bf16: bool, threads: int) -> dict[str, Any]:
    runs: dict[str, dict[str, list[dict[str, Any]]]] = {
        mode: {side: [] for side in SIDES} for mode in ("train", "answer")
    }
    with tempfile.TemporaryDirectory() as folder:
        asked = {"scenario": asdict(scenario), "folder": folder, "bf16": bf16, "threads": threads}
        starts = [_worker({**asked, "mode": "start", "side": "lalm"}) for _ in range(repetitions)]
        for turn in range(repetitions):
            for mode, sides in runs.items():
                for side in SIDES if turn % 2 == 0 else reversed(SIDES):
                    sides[side].append(_worker({**asked, "mode": mode, "side": side}))
        equal = {} if scenario.precision == "bfloat16" else _apart(asked, "float32", SIDES)
        if bf16:
            equal |= _apart(asked, "bfloat16", (*SIDES, REORDERED))
    device = runs["train"]["lalm"][0]["device"]
    return {
        "scenario": asdict(scenario),
        "repetitions": repetitions,
        "precision": "bfloat16" if bf16 else "float32",
        "ready_to_train_s": _spread([start["since_start_s"] for start in starts]),
        "training": _training(runs["train"], scenario, flops.BF16_PEAK.get(device) if bf16 else None),
        "answering": _answering(runs["answer"], scenario),
        "equal": equal,
        "machine": {**machine(threads), "device": device},
        "made": {
            "command": " ".join(["lalm", *sys.argv[1:]]),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        },
    }


def _worker(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What a process of its own found. Nothing is kept on disk, so that in the first epoch nothing was heard before."""
    file = Path(asked["folder"]) / "asked.json"
    write_json(file, {**asked, "begun": time.time()})
    environment = {**os.environ, "OMP_NUM_THREADS": str(asked["threads"]), "TOKENIZERS_PARALLELISM": "false"}
    environment["LALM_CACHE_GB"] = "0"
    print(f"[bench] {asked['scenario']['name']}: {asked['mode']}, {asked['side']}", file=sys.stderr, flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "lalm.bench.worker", str(file)], capture_output=True, text=True, env=environment
    )
    if done.returncode:
        reason = "killed, as when memory runs out" if done.returncode < 0 else done.stderr.strip().rpartition("\n")[2]
        raise UserError(f"The {asked['side']} side of '{asked['scenario']['name']}' ({asked['mode']}) failed: {reason}")
    found: dict[str, Any] = json.loads(done.stdout.strip().rpartition("\n")[2])
    return found


def _training(
    runs: Mapping[str, Sequence[Mapping[str, Any]]], scenario: Scenario, peak_flops: float | None
) -> dict[str, Any]:
    """`peak_flops` is what the card can do in a second; its share counts four operations a weight and useful token.

    As one counts for LoRA: forward, and back through frozen weights; no recomputation, no padding, no encoder. Useful tokens
    count what rows have in common for every row; `share_of_peak_computed` counts it once, as lalm computes it.
    """
    useful = runs["lalm"][0]["useful_tokens"]
    flops_a_token = 4.0 * runs["lalm"][0]["llm_weights"]
    items = scenario.batch_size * scenario.num_steps
    counted = runs["lalm"][0]["flops"]
    plain = counted["hear_plain"] + counted["rest_plain"]
    bounds = {"first_epoch": plain / (counted["hear"] + counted["rest"]), "later_epochs": plain / counted["rest"]}
    found: dict[str, Any] = {"peak_mib": _peaks(runs)}
    for index, epoch in enumerate(("first_epoch", "later_epochs")):
        seconds = {side: _spread([run["epoch_s"][index] for run in runs[side]]) for side in SIDES}
        ratio = seconds["plain"]["median"] / seconds["lalm"]["median"]
        found[epoch] = {
            "seconds": seconds,
            "items_per_s": {side: items / seconds[side]["median"] for side in SIDES},
            "answer_tokens_per_s": {side: items * scenario.answer_tokens / seconds[side]["median"] for side in SIDES},
            "useful_tokens_per_s": {side: useful / seconds[side]["median"] for side in SIDES},
            "ratio": ratio,
            "bound": bounds[epoch],
            "share_of_bound": ratio / bounds[epoch],
        }
        if peak_flops:
            a_second = {side: flops_a_token / seconds[side]["median"] / peak_flops for side in SIDES}
            found[epoch]["share_of_peak"] = {side: useful * each for side, each in a_second.items()}
            found[epoch]["share_of_peak_computed"] = runs["lalm"][0]["computed_tokens"] * a_second["lalm"]
    return found


def _answering(runs: Mapping[str, Sequence[Mapping[str, Any]]], scenario: Scenario) -> dict[str, Any]:
    counted = runs["lalm"][0]["flops"]
    plain = counted["hear_plain"] + counted["rest_plain"]
    found: dict[str, Any] = {"peak_mib": _peaks(runs)}
    for index, when in enumerate(("first_time", "heard_before")):
        seconds = {side: _spread([run["answer_s"][index] for run in runs[side]]) for side in SIDES}
        bound = plain / (counted["rest"] + (counted["hear"] if index == 0 else 0.0))
        ratio = seconds["plain"]["median"] / seconds["lalm"]["median"]
        found[when] = {"seconds": seconds, "ratio": ratio, "bound": bound, "share_of_bound": ratio / bound}
    return found


def _peaks(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, float]:
    """Most memory of each side's process in MiB, and what it was before any work."""
    found = {side: statistics.median(run["peak_mib"] for run in runs[side]) for side in SIDES}
    return {**found, "before_work": statistics.median(run["load_mib"] for run in runs["lalm"])}


def _spread(seconds: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(seconds), "least": min(seconds), "most": max(seconds)}


def _apart(asked: Mapping[str, Any], precision: str, sides: Sequence[str]) -> dict[str, Any]:
    """After the same steps in a precision: how far losses and weights of each other side lie from the first one's.

    In bfloat16 the plain reference with its rows in another order is such a side: what rounding alone does.
    """
    from safetensors.torch import load_file

    folder = Path(asked["folder"])
    losses = {
        side: _worker({**asked, "mode": "equal", "side": side, "bf16": precision == "bfloat16"})["losses"]
        for side in sides
    }
    weights = {side: load_file(folder / f"equal-{side}.safetensors") for side in sides}
    first, *others = sides
    return {
        precision: {
            "steps": len(losses[first]),
            **{
                side: {
                    "largest_difference_of_losses": max(
                        abs(a - b) for a, b in zip(losses[first], losses[side], strict=True)
                    ),
                    "largest_difference_of_weights": max(
                        float((one - weights[side][name]).abs().max()) for name, one in weights[first].items()
                    ),
                }
                for side in others
            },
        }
    }


def machine(threads: int) -> dict[str, Any]:
    """What was measured on."""
    return {"processor": _processor(), "threads": threads, "python": platform.python_version(), **_versions()}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "transformers", "peft")}


def as_text(found: Mapping[str, Any]) -> str:
    """A scenario's result as a table."""
    scenario, equal = found["scenario"], found["equal"]
    lines = [f"{scenario['name']}: {scenario['summary']}; {found['precision']}, medians of {found['repetitions']}"]
    lines.append(f"  {'':<24}{'plain s':>10}{'lalm s':>10}{'ratio':>8}{'bound':>8}{'share':>8}")
    rows = [
        ("training, first epoch", found["training"]["first_epoch"]),
        ("training, later epochs", found["training"]["later_epochs"]),
    ]
    rows += [
        ("answering, first time", found["answering"]["first_time"]),
        ("answering, heard before", found["answering"]["heard_before"]),
    ]
    for name, row in rows:
        seconds = row["seconds"]
        lines.append(
            f"  {name:<24}{seconds['plain']['median']:>10.2f}{seconds['lalm']['median']:>10.2f}"
            f"{row['ratio']:>8.2f}{row['bound']:>8.2f}{row['share_of_bound']:>8.0%}"
        )
    useful = found["training"]["later_epochs"]
    lines.append(
        f"  {'useful tokens a second':<24}{useful['useful_tokens_per_s']['plain']:>10.0f}"
        f"{useful['useful_tokens_per_s']['lalm']:>10.0f}"
        + "".join(
            f"{side:>8} {share:.0%} of the card's peak" for side, share in useful.get("share_of_peak", {}).items()
        )
    )
    if "share_of_peak_computed" in useful:
        lines.append(
            f"  lalm on the positions that it computes: {useful['share_of_peak_computed']:.0%} of the card's peak"
        )
    lines.append(f"  ready to train {found['ready_to_train_s']['median']:>19.2f} s after the process was started")
    for name in ("training", "answering"):
        peaks = found[name]["peak_mib"]
        lines.append(
            f"  peak memory {name:<12}{peaks['plain']:>10.0f}{peaks['lalm']:>10.0f} MiB, {peaks['before_work']:.0f} MiB of it before any work"
        )
    for precision, sides in equal.items():
        for side, apart in sides.items():
            if side != "steps":
                lines.append(
                    f"  {sides['steps']} steps in {precision}, {side} beside plain: losses apart by at most "
                    f"{apart['largest_difference_of_losses']:.1e}, weights by {apart['largest_difference_of_weights']:.1e}"
                )
    return "\n".join(lines)
