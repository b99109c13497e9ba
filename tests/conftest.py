"""What tests of every room share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # as many test processes as cores: each keeps to one
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def smol_folder() -> Path:
    """The real embedded model in LALM_HOME; the first test that asks for it fetches about 240 MB.

    `LALM_TEST_OFFLINE=1` skips these tests where the model is not there yet; otherwise a failed download is an error.
    """
    from lalm.errors import UserError
    from lalm.models.smol import smol_folder

    try:
        return smol_folder()
    except UserError as error:
        if os.environ.get("LALM_TEST_OFFLINE"):
            pytest.skip(f"the embedded model is not in LALM_HOME: {error}")
        raise


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight sentences, four recordings to train on and two to test, in barista's layout."""
    from lalm import plugins

    root = tmp_path_factory.mktemp("corpus")
    plugins.load("corpora", "barista").make_tiny(root, seed=0)
    return root
