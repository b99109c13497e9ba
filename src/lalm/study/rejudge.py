"""The runs of a study judged anew: other metrics, a grammar or more beams need no training, so the weights stay."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import yaml

from lalm.config import to_yaml
from lalm.rundir import RunDir, write_text
from lalm.study.plan import Run


def differ_in_judging(there: str | None, asked: str) -> bool:
    """Whether two resolved recipes (YAML; None: one that cannot be read) are alike but for the section `evaluate`.

    A study trains for fixed epochs and keeps the last weights, so nothing of that section reaches them.
    """
    first, second = yaml.safe_load(there or "{}"), yaml.safe_load(asked)
    return first.pop("evaluate", None) != second.pop("evaluate", None) and first == second


def forget_answers(out: Path, todo: Sequence[Run]) -> None:
    """Take away what was answered and scored by other recipes than those of `todo`, scores first, and write these.

    Answers under noise, of dialogues and in other forms go as well, since they were judged otherwise, too.
    """
    for run in todo:
        folder = RunDir(out / "runs" / run.name)
        if folder.recipe.is_file() and folder.recipe.read_text(encoding="utf-8") != to_yaml(run.recipe):
            for name in ("scores", "predictions", "dialogues"):
                if (folder.root / name).is_dir():
                    shutil.rmtree(folder.root / name)
            write_text(folder.recipe, to_yaml(run.recipe))
