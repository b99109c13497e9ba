"""A run folder: whose it is, and that one of an earlier release can be taken up."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lalm.config import Recipe, parse_recipe
from lalm.errors import UserError
from lalm.rundir import RunDir
from lalm.study.single import train


@pytest.fixture(scope="module")
def recipe(corpus: Path) -> Recipe:
    return parse_recipe(
        {
            "data": {"corpus": {"name": "barista", "test_size": 2}, "root": str(corpus)},
            "backbone": {"name": "smol", "tiny": True, "connector": "mlp"},
            "tuner": {"name": "lora", "r": 2},
            "scheme": {"name": "text_only", "num_train_epochs": 1},
            "train": {"per_device_train_batch_size": 4, "bf16": False, "save_steps": 1},
        },
        corpus,
    )


@pytest.fixture
def of_an_earlier_release(recipe, tmp_path) -> RunDir:
    """A run that was broken off after its first step, by a release without two of today's options."""
    run = train(recipe, tmp_path / "run", quiet=True)
    run.info.unlink()
    shutil.rmtree(run.adapter)
    for checkpoint in run.checkpoints()[1:]:
        shutil.rmtree(checkpoint)
    text = run.recipe.read_text()
    for line in ("  load_in_4bit: false\n", "  gradient_checkpointing: false\n"):
        assert line in text
        text = text.replace(line, "")
    run.recipe.write_text(text)
    return run


def test_a_run_of_an_earlier_release_is_taken_up(of_an_earlier_release, recipe):
    run = of_an_earlier_release
    with pytest.raises(UserError, match=r"already holds this run\. Go on with --resume"):
        train(recipe, run.root, quiet=True)
    train(recipe, run.root, resume=True, quiet=True)
    assert run.info.is_file()


def test_what_differs_still_makes_another_run(of_an_earlier_release, recipe):
    other = recipe.model_copy(update={"train": recipe.train.model_copy(update={"gradient_checkpointing": True})})
    with pytest.raises(UserError, match="holds a run of another recipe"):
        train(other, of_an_earlier_release.root, resume=True, quiet=True)
