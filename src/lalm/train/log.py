"""What a person and a program see of a run: `log.jsonl`, and one line on the terminal with an estimate."""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from lalm.cores import format_s
from lalm.records import Example
from lalm.rundir import RunDir, append_jsonl, write_jsonl
from lalm.train.distributed import Alone


class TrainLog:
    """Losses by modality and task since the last line; time left from the steps done in this process.

    Of several processes each tells its rows, and the main one writes what all of them had.
    """

    def __init__(self, run: RunDir, total_steps: int, first_step: int, quiet: bool, team: Alone) -> None:
        self._run, self._total, self._first, self._quiet, self._team = run, total_steps, first_step, quiet, team
        self._start = time.monotonic()
        self._sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        if team.is_main:
            self._forget_lines_after(first_step)

    def _forget_lines_after(self, step: int) -> None:
        """Drop lines of steps that a killed process logged and that will be done again, and a line cut off by the kill."""
        if not self._run.log.is_file():
            return
        kept = []
        for line in self._run.log.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if row["step"] <= step:
                kept.append(row)
        write_jsonl(self._run.log, kept)

    def rows(self, examples: Iterable[Example], nll: list[float], tokens: list[int]) -> None:
        """Add rows: summed negative log-likelihood and number of answer tokens of each."""
        for example, row_nll, row_tokens in zip(examples, nll, tokens, strict=True):
            for key in ("loss", f"loss/{example.modality}", f"loss/task/{example.task}"):
                self._sums[key][0] += row_nll
                self._sums[key][1] += row_tokens

    def line(self, step: int, stage: str, **values: Any) -> None:
        """Write one line and start anew. All processes call this alike."""
        done = step - self._first
        left_s = (time.monotonic() - self._start) / max(1, done) * (self._total - step)
        sums = self._sums_of_all()
        if not self._team.is_main:
            return
        row = {"step": step, "stage": stage, **{k: round(s / n, 6) for k, (s, n) in sums.items() if n}, **values}
        append_jsonl(self._run.log, {**row, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})
        if not self._quiet:
            loss = f"loss {row['loss']:.3f}  " if "loss" in row else ""
            shown = "  ".join(f"{k} {v:.3f}" for k, v in values.items() if k.startswith("dev/"))
            print(
                f"\r[{stage}] step {step}/{self._total}  {loss}{shown}about {format_s(left_s)} left   ",
                end="\n" if shown or step >= self._total else "",
                file=sys.stderr,
                flush=True,
            )

    def _sums_of_all(self) -> dict[str, list[float]]:
        """Negative log-likelihoods and tokens by key, of all processes since the last line."""
        first, *others = self._team.gather(dict(self._sums))
        self._sums.clear()
        for sums in others:
            for key, (nll, tokens) in sums.items():
                before = first.get(key, [0.0, 0.0])
                first[key] = [before[0] + nll, before[1] + tokens]
        return first
