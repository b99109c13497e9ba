"""Runs a study: local processes side by side, resumable, ending with its results."""

from __future__ import annotations

import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import lalm
from lalm.config import as_written_now, to_yaml
from lalm.cores import format_s
from lalm.data.pools import LoadedPools, check_recordings, load_pools
from lalm.errors import ConfigError, DataError, UserError
from lalm.evaluate import stats
from lalm.models.fetch import sha256_of
from lalm.rundir import RunDir, read_json, write_json, write_text
from lalm.study import executors
from lalm.study.collect import collect
from lalm.study.executors import RETRIES, Executor
from lalm.study.plan import Run, Study, load_study, num_workers, runs
from lalm.study.processes import in_use
from lalm.study.rejudge import differ_in_judging, forget_answers
from lalm.train.distributed import only_alone
from lalm.train.setup import answers_obey, make_examples, plan
from lalm.train.unheard import used_rows, warn_of_unheard

POLL_S = 0.1


def run_study(
    study_yaml: Path, out: Path, assignments: Sequence[str] = (), executor: str = "local", judge_again: bool = False
) -> Path:
    """Run what the study asks for into `out`, which is returned, going on where an earlier call stopped.

    `executor` says where: `local`, processes of this machine, or `ray`, a cluster; results are the same. `judge_again`
    allows a folder whose recipes differ in `evaluate` alone: its runs keep their weights and answer anew.
    Raises UserError before anything is trained if a recipe, the data or the folder cannot be right, and after the
    other runs have ended if a run failed.
    """
    only_alone("lalm study")
    study, base = load_study(study_yaml, assignments)
    todo = runs(study, base)
    check_folder(out, todo, judge_again)
    loaded = []
    for recipe in {to_yaml(run.recipe): run.recipe for run in todo}.values():
        pools = load_pools(recipe.data)  # every problem of the data, before hours of work
        loaded.append(pools)
        warn_of_unheard(recipe, used_rows(pools))
        plan(recipe, make_examples(recipe, pools))
        answers_obey(recipe, pools)
        if not pools.test:
            raise DataError(
                f"The corpus '{recipe.data.corpus.name}' in {recipe.data.root} has no test rows to judge runs by."
            )
    _check_same_test(todo, loaded)
    check_recordings(*loaded)
    where = executors.executor(executor, num_workers(study, len(todo)))
    try:
        with in_use(out):
            if judge_again:
                forget_answers(out, todo)
            _open(out, study, todo, judge_again)
            failed = _run_all(out, todo, study, where)
            if failed:
                reasons = "\n".join(f"  - {name}: {reason}" for name, reason in failed)
                raise UserError(
                    f"{len(failed)} of {len(todo)} runs failed; the others are kept and a new call goes on.\n{reasons}"
                )
            collect(out, study, todo)
    finally:
        where.close()
    return out


def _check_same_test(todo: Sequence[Run], loaded: Sequence[LoadedPools]) -> None:
    """Raises ConfigError for runs that would be judged on other test rows than the first: they could not be compared."""
    recipes = list({to_yaml(run.recipe): run for run in todo}.values())
    sets = [{(row.id, row.frame, row.answers) for row in pools.test} for pools in loaded]
    for run, rows in zip(recipes, sets, strict=True):
        if rows != sets[0]:
            raise ConfigError(
                f"The runs {recipes[0].name} and {run.name} have different test sets ({len(sets[0])} and {len(rows)} rows, {len(rows & sets[0])} of "
                "them the same), so they cannot be compared. Take what changes the test set out of the variants."
            )


def check_folder(out: Path, todo: Sequence[Run], judge_again: bool = False) -> None:
    """Raises UserError if the folder holds another study, one made with other weights, or something that is none."""
    if (out / "plan.json").is_file():
        plan = read_json(out / "plan.json")
        if plan.get("connector_weights", _connector_weights()) != _connector_weights():
            raise UserError(
                f"{out} holds runs of a release of lalm whose connectors heard otherwise. Choose another folder with --out."
            )
        there = {run["name"]: as_written_now(run.get("recipe") or "") for run in plan["runs"]}
        asked = {run.name: to_yaml(run.recipe) for run in todo}
        differs = sorted(name for name in there.keys() | asked.keys() if there.get(name) != asked.get(name))
        judged_otherwise = bool(differs) and all(
            name in there and name in asked and differ_in_judging(there[name], asked[name]) for name in differs
        )
        if differs and not (judge_again and judged_otherwise):
            again = "They differ in `evaluate` alone: --judge-again keeps their weights and answers anew. "
            raise UserError(
                f"{out} holds another study ({len(differs)} runs differ, first {differs[0]}). "
                f"{again if judged_otherwise else ''}Choose another folder with --out."
            )
    elif out.exists() and (not out.is_dir() or any(not path.name.startswith(".") for path in out.iterdir())):
        raise UserError(f"{out} exists and holds no study. Choose another folder with --out.")


def _connector_weights() -> dict[str, str]:
    """Hashes of the weights that come with the package; a recipe does not name their version."""
    folder = Path(lalm.__file__).parent / "connectors" / "weights"
    return {file.name: sha256_of(file)[:12] for file in sorted(folder.iterdir()) if file.suffix != ".md"}


def _open(out: Path, study: Study, todo: Sequence[Run], judge_again: bool) -> None:
    """The study folder: `plan.json` first, which makes it this study's, then `study.yaml` and a recipe for every run."""
    entries = [
        {
            "name": run.name,
            "role": run.role,
            "scheme": run.scheme,
            "selector": run.selector,
            "share": run.share,
            "seed": run.seed,
            "prefix": run.prefix,
            "recipe": to_yaml(run.recipe),
        }
        for run in todo
    ]
    plan_now = {"runs": entries, "connector_weights": _connector_weights()}
    if not (out / "plan.json").is_file() or judge_again:
        write_json(out / "plan.json", plan_now)
    write_text(out / "study.yaml", yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
    for run in todo:
        recipe = RunDir(out / "runs" / run.name).recipe
        if not recipe.is_file():
            write_text(recipe, to_yaml(run.recipe))


@dataclass
class _Job:
    run: Run
    started: Any  # the executor's
    at: float


def _run_all(out: Path, todo: Sequence[Run], study: Study, where: Executor) -> list[tuple[str, str]]:
    """Start runs as workers come free; runs that share a first stage wait for the one that makes it."""
    waiting = [run for run in todo if not RunDir(out / "runs" / run.name).scores("test").is_file()]
    made_prefixes = {run.prefix for run in todo if run not in waiting}
    if len(waiting) < len(todo):
        print(f"{len(todo) - len(waiting)} of {len(todo)} runs are there already.", file=sys.stderr)
    jobs: list[_Job] = []
    failed: list[tuple[str, str]] = []
    killed: Counter[str] = Counter()
    seconds: list[float] = []
    num_waiting = len(waiting)
    try:
        while waiting or jobs:
            for run in list(waiting):
                making = {job.run.prefix for job in jobs} - made_prefixes
                if len(jobs) < where.workers and (run.prefix is None or run.prefix not in making):
                    waiting.remove(run)
                    oracle_text = study.oracle_text and run.role == "cell"
                    jobs.append(_Job(run, where.start(out, run.name, oracle_text), time.monotonic()))
            time.sleep(POLL_S)
            for job, code in [(job, where.code(job.started)) for job in jobs]:
                if code is None:
                    continue
                jobs.remove(job)
                if code < 0 and killed[job.run.name] < RETRIES:
                    killed[job.run.name] += 1
                    _say_again(job.run, code, killed[job.run.name])
                    waiting.insert(0, job.run)
                    continue
                if code:
                    failed.append((job.run.name, _reason(out / "runs" / job.run.name, code)))
                    continue
                made_prefixes.add(job.run.prefix)
                seconds.append(time.monotonic() - job.at)
                left_s = sum(seconds) / len(seconds) * (len(waiting) + len(jobs)) / where.workers
                _say(out, job.run, study.primary_metric, len(seconds), num_waiting, left_s)
    finally:
        where.stop([job.started for job in jobs])
    return failed


def _say(out: Path, run: Run, metric: str, done: int, total: int, left_s: float) -> None:
    score = read_json(RunDir(out / "runs" / run.name).scores("test"))["metrics"][metric]
    print(
        f"[{done}/{total}] {run.name}: {metric} {stats.in_words(score, 3)}, about {format_s(left_s)} left",
        file=sys.stderr,
        flush=True,
    )


def _say_again(run: Run, code: int, time: int) -> None:
    print(
        f"{run.name}: {_killed(code)}; it goes on from its last checkpoint ({time} of {RETRIES} times).",
        file=sys.stderr,
    )


def _killed(code: int) -> str:
    memory = " (the system does so when memory runs out)" if -code == signal.SIGKILL else ""
    return f"killed by signal {-code}{memory}"


def _reason(run: Path, code: int) -> str:
    log = run / "worker.log"
    text = log.read_text(encoding="utf-8", errors="replace").strip() if log.is_file() else ""
    if code == 2:
        return text.rpartition("lalm: ")[2] or "no reason given"
    if code < 0:
        return _killed(code)
    return f"exit code {code}; its output is in {log} ({text.rpartition(chr(10))[2]})"
