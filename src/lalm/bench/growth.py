"""`lalm bench --growth`: seconds and memory as one size grows and all else stays, as JSON and as figures.

Every point is a process of its own (`growth_worker.py`), as often as there are repetitions; medians are drawn.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lalm.bench.run import machine
from lalm.errors import UserError, nearest
from lalm.rundir import write_json, write_text


@dataclass(frozen=True)
class Growth:
    """What grows: `sizes` with `smol`, `tiny_sizes` with a tiny model; `unit` is the axis's name."""

    title: str
    unit: str
    sizes: tuple[float, ...]
    tiny_sizes: tuple[float, ...]


CURVES = {
    "rows": Growth(
        "from a manifest to the first step", "written rows", (1000, 3000, 10_000, 30_000, 100_000), (20, 60)
    ),
    "clip": Growth("clips of one length, batches of 4", "length of a clip, s", (1, 3, 10, 20, 30, 60), (0.3, 0.9)),
    "labels": Growth("a prompt with labels, batches of 8", "labels in the prompt", (10, 30, 100, 300, 1000), (3, 9)),
    "processes": Growth("a step of 16 rows, one core a process", "processes", (1, 2), (1, 2)),
}


def curves(names: Sequence[str], out: Path, repetitions: int, threads: int | None, tiny: bool = False) -> None:
    """Measure curves (none named: all) and write `growth-<name>.json` and `.svg` for each into `out`.

    Raises UserError for an unknown curve, or if a process fails.
    """
    for name in names:
        if name not in CURVES:
            raise UserError(f"There is no curve '{name}'.{nearest(name, CURVES)}")
    if repetitions < 1:
        raise UserError(f"--repetitions {repetitions}: at least 1 is needed.")
    for name in names or CURVES:
        found = _measure(name, repetitions, threads or os.cpu_count() or 1, tiny)
        write_json(out / f"growth-{name}.json", found)
        write_text(out / f"growth-{name}.svg", draw(found))
        print(as_text(found), flush=True)


def _measure(name: str, repetitions: int, threads: int, tiny: bool) -> dict[str, Any]:
    curve, points = CURVES[name], []
    for size in curve.tiny_sizes if tiny else curve.sizes:
        asked = {"curve": name, "size": size, "tiny": tiny, "threads": 1 if name == "processes" else threads}
        found = [_point(asked) for _ in range(repetitions)]
        seconds = {
            what: {
                "median": statistics.median(one["seconds"][what] for one in found),
                "least": min(one["seconds"][what] for one in found),
                "most": max(one["seconds"][what] for one in found),
            }
            for what in found[0]["seconds"]
        }
        points.append(
            {"size": size, "seconds": seconds, "peak_mib": statistics.median(one["peak_mib"] for one in found)}
        )
    return {
        "curve": name,
        "title": curve.title,
        "unit": curve.unit,
        "model": "tiny" if tiny else "smol",
        "repetitions": repetitions,
        "points": points,
        "machine": machine(threads),
        "made": {
            "command": " ".join(["lalm", *sys.argv[1:]]),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        },
    }


def _point(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What one process found, or several that work on the same steps."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "asked.json"
        write_json(file, {**asked, "folder": folder})
        environment = {**os.environ, "OMP_NUM_THREADS": str(asked["threads"]), "TOKENIZERS_PARALLELISM": "false"}
        environment["LALM_CACHE_GB"] = "0"
        command = [sys.executable, "-m", "lalm.bench.growth_worker", str(file)]
        if asked["curve"] == "processes" and asked["size"] > 1:
            command[1:2] = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={asked['size']}", "-m"]
        print(f"[bench] {asked['curve']}: {asked['size']:g}", file=sys.stderr, flush=True)
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode or not lines:
            reason = "killed, as when memory runs out" if done.returncode < 0 else done.stderr.strip()[-500:]
            raise UserError(f"The point {asked['size']:g} of '{asked['curve']}' failed: {reason}")
        found: dict[str, Any] = json.loads(lines[-1])
        return found


def draw(found: Mapping[str, Any]) -> str:
    """Seconds to the left, memory to the right, both against the size."""
    import matplotlib
    from matplotlib.figure import Figure

    from lalm.report.figures import COLOURS, GRID, MARKERS, STYLE, svg

    sizes = [point["size"] for point in found["points"]]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.4, 2.9), layout="constrained")
        left, right = figure.subplots(1, 2)
        for number, what in enumerate(found["points"][0]["seconds"]):
            spread = [point["seconds"][what] for point in found["points"]]
            middle = [one["median"] for one in spread]
            left.fill_between(
                sizes,
                [one["least"] for one in spread],
                [one["most"] for one in spread],
                color=COLOURS[number],
                alpha=0.15,
                linewidth=0,
            )
            left.plot(sizes, middle, color=COLOURS[number], marker=MARKERS[number], label=what)
        right.plot(sizes, [point["peak_mib"] / 1024 for point in found["points"]], color=COLOURS[0], marker=MARKERS[0])
        for axes, title in ((left, "seconds"), (right, "most memory of a process, GiB")):
            axes.set_xlabel(found["unit"])
            axes.set_title(title, fontsize=9.5, loc="left")
            axes.grid(color=GRID)
            axes.set_ylim(bottom=0)
            if max(sizes) >= 30 * min(sizes):
                axes.set_xscale("log")
            else:
                axes.set_xticks(sizes)
        left.legend(fontsize=8.5)
        return svg(figure, f"growth-{found['curve']}", f"{found['title']}: seconds and memory against {found['unit']}")


def as_text(found: Mapping[str, Any]) -> str:
    """A curve as a table."""
    names = list(found["points"][0]["seconds"])
    lines = [f"{found['curve']}: {found['title']}; {found['model']}, medians of {found['repetitions']}"]
    lines.append(f"  {found['unit']:>22}" + "".join(f"{f'{name}, s':>26}" for name in names) + f"{'memory, MiB':>14}")
    for point in found["points"]:
        seconds = "".join(f"{point['seconds'][name]['median']:>26.2f}" for name in names)
        lines.append(f"  {point['size']:>22g}{seconds}{point['peak_mib']:>14.0f}")
    return "\n".join(lines)
