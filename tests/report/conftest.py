"""A study folder made once, and copies of it to break."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fake_study import make_study

from lalm.report.build import build_report


@pytest.fixture(scope="session")
def study(tmp_path_factory) -> Path:
    """A study of four schemes, four shares, two seeds and a cascade, over 80 test utterances. Not to be changed."""
    return make_study(tmp_path_factory.mktemp("study"), num_test=80)


@pytest.fixture(scope="session")
def page(study) -> str:
    """Its report."""
    return build_report([study]).read_text(encoding="utf-8")


@pytest.fixture
def copied(study, tmp_path) -> Path:
    """A copy of it elsewhere, as if mailed to another machine."""
    target = tmp_path / "elsewhere"
    shutil.copytree(study, target)
    return target
