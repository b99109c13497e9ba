"""The demo: a small study on the corpus that the project ships."""

from __future__ import annotations

from pathlib import Path

from lalm.study.run import run_study

STUDY = Path(__file__).with_name("demo.yaml")


def demo(out: Path) -> Path:
    """Run the shipped study into the folder `out`, which is returned."""
    return run_study(STUDY, out)
