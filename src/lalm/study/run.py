"""Runs a study: local processes side by side, resumable, ending with results and a report."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from lalm.config import to_yaml
from lalm.data.pools import load_pools
from lalm.errors import UserError
from lalm.report.build import build_report
from lalm.rundir import RunDir, read_json, write_json, write_text
from lalm.study.collect import collect
from lalm.study.plan import Run, Study, load_study, num_workers, runs
from lalm.train.log import format_s


def run_study(study_yaml: Path, out: Path, assignments: Sequence[str] = ()) -> Path:
    """Run what the study asks for into `out`, going on where an earlier call stopped; the path of the report.

    Raises UserError before anything is trained if a recipe, the data or the folder cannot be right, and after the
    other runs have ended if a run failed.
    """
    study, base = load_study(study_yaml, assignments)
    todo = runs(study, base)
    _open(out, study, todo)
    for recipe in {to_yaml(run.recipe): run.recipe for run in todo}.values():
        load_pools(recipe.data)  # every problem of the data, before hours of work
    failed = _run_all(out, todo, study)
    if failed:
        reasons = "\n".join(f"  - {name}: {reason}" for name, reason in failed)
        raise UserError(f"{len(failed)} of {len(todo)} runs failed; the others are kept and a new call goes on.\n{reasons}")
    collect(out, study, todo)
    return build_report([out])


def _open(out: Path, study: Study, todo: Sequence[Run]) -> None:
    """The study folder with `study.yaml`, `plan.json` and a recipe for every run; refuses another study's folder."""
    plan = {
        "runs": [
            {"name": r.name, "role": r.role, "scheme": r.scheme, "share": r.share, "seed": r.seed, "prefix": r.prefix}
            for r in todo
        ]
    }
    if (out / "plan.json").is_file():
        for run in todo:
            recipe = RunDir(out / "runs" / run.name).recipe
            if not recipe.is_file() or recipe.read_text(encoding="utf-8") != to_yaml(run.recipe):
                raise UserError(
                    f"{out} holds another study (the run {run.name} differs or is missing). Choose another folder with --out."
                )
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and holds no study. Choose another folder with --out.")
    for run in todo:
        write_text(RunDir(out / "runs" / run.name).recipe, to_yaml(run.recipe))
    write_text(out / "study.yaml", yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
    write_json(out / "plan.json", plan)


@dataclass
class _Job:
    run: Run
    process: subprocess.Popen[bytes]
    started: float


def _run_all(out: Path, todo: Sequence[Run], study: Study) -> list[tuple[str, str]]:
    """Start runs as workers come free; runs that share a first stage wait for the one that makes it."""
    waiting = [run for run in todo if not RunDir(out / "runs" / run.name).scores("test").is_file()]
    workers = num_workers(study, max(1, len(waiting)))
    threads = max(1, (os.cpu_count() or 1) // workers)
    finished_prefixes = {run.prefix for run in todo if run not in waiting}
    if len(waiting) < len(todo):
        print(f"{len(todo) - len(waiting)} of {len(todo)} runs are there already.", file=sys.stderr)
    jobs: list[_Job] = []
    failed: list[tuple[str, str]] = []
    seconds: list[float] = []
    num_waiting = len(waiting)
    try:
        while waiting or jobs:
            for run in list(waiting):
                making = {job.run.prefix for job in jobs} - finished_prefixes
                if len(jobs) < workers and (run.prefix is None or run.prefix not in making):
                    waiting.remove(run)
                    jobs.append(_Job(run, _start(out, run, study, threads), time.monotonic()))
            time.sleep(0.2)
            for job in [job for job in jobs if job.process.poll() is not None]:
                jobs.remove(job)
                finished_prefixes.add(job.run.prefix)
                log = out / "runs" / job.run.name / "worker.log"
                if job.process.returncode:
                    failed.append((job.run.name, _reason(log, job.process.returncode)))
                    continue
                seconds.append(time.monotonic() - job.started)
                left_s = sum(seconds) / len(seconds) * (len(waiting) + len(jobs)) / workers
                _say(out, job.run, study.primary_metric, len(seconds), num_waiting, left_s)
    finally:
        for job in jobs:
            job.process.terminate()
        for job in jobs:
            job.process.wait()
    return failed


def _start(out: Path, run: Run, study: Study, threads: int) -> subprocess.Popen[bytes]:
    log = (out / "runs" / run.name / "worker.log").open("wb")
    command = [sys.executable, "-m", "lalm.study.worker", str(out), run.name, str(int(study.oracle_text and run.role == "cell"))]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    with log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)


def _say(out: Path, run: Run, metric: str, done: int, total: int, left_s: float) -> None:
    score = read_json(RunDir(out / "runs" / run.name).scores("test"))["metrics"][metric]
    value = "no value" if score["value"] is None else f"{score['value']:.3f} ({score['low']:.3f} to {score['high']:.3f})"
    print(f"[{done}/{total}] {run.name}: {metric} {value}, about {format_s(left_s)} left", file=sys.stderr, flush=True)


def _reason(log: Path, code: int) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    if code == 2:
        return lines[-1] if lines else "no reason given"
    return f"exit code {code}; its output is in {log}" + (f" ({lines[-1]})" if lines else "")


