"""Embedded models: a plain local folder `$LALM_HOME/models/NAME`, made once from pinned artifacts.

The folder is built beside its place and moved there whole, so a folder that exists is complete; one whose files do not have
the noted sizes is named and made anew. Its `lalm.json` notes the format, where the weights came from (sha256), licences and
the sizes of all files.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lalm.errors import ModelError
from lalm.models.fetch import Fetched, fetch, lalm_home, pinned
from lalm.models.parts import quiet_libraries

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FORMAT = 1
MARKER = "lalm.json"

Save = Callable[[Mapping[str, Fetched], Path], None]  # checked files by artifact -> the folder's files


def made_folder(name: str, artifacts: Sequence[str], needed_bytes: int, save: Save) -> Path:
    """The folder of an embedded model, made on first use by `save`; silent afterwards.

    Raises UserError when the weights cannot be fetched, or when the disk is full or not writable.
    """
    folder = lalm_home() / "models" / name
    if problem_of(folder) is None:
        return folder
    with _disk_errors(folder, needed_bytes), _lock(folder):
        problem = problem_of(folder)  # another process may have finished it meanwhile
        if problem is not None:
            _make(folder, problem, artifacts, needed_bytes, save)
    return folder


def say(message: str) -> None:
    """A line to the person, beside the results on stdout."""
    print(f"lalm: {message}", file=sys.stderr, flush=True)


def _make(folder: Path, problem: str, artifacts: Sequence[str], needed_bytes: int, save: Save) -> None:
    if folder.exists():
        say(f"{folder} is not usable ({problem}); it is made anew.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder.parent).free
    if free < needed_bytes:
        raise OSError(errno.ENOSPC, f"{free / 1e9:.1f} GB are free, {needed_bytes / 1e9:.1f} GB are needed")
    say(f"first use: making the embedded model in {folder}")
    downloads = lalm_home() / "downloads"
    fetched = {name: fetch(pinned()[name], downloads, say) for name in artifacts}
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    say("converting to safetensors")
    with quiet_libraries():
        save(fetched, part)
        _write_marker(part, fetched, folder.name)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(part, folder)
    shutil.rmtree(downloads, ignore_errors=True)
    kept = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    say(f"the embedded model is ready ({kept / 1e6:.0f} MB); no network is needed from now on.")


def load_gguf(file: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model and tokenizer of a GGUF file, its packed weights as float32, unrounded."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    with contextlib.redirect_stderr(io.StringIO()):  # a progress bar that no setting turns off
        model = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
        )
    return model, tokenizer


def artifacts_of(folder: Path) -> dict[str, Any]:
    """Title, licence and origin of what an embedded model is made of, by name."""
    return dict(json.loads((folder / MARKER).read_text(encoding="utf-8"))["artifacts"])


def _write_marker(folder: Path, fetched: Mapping[str, Fetched], name: str) -> None:
    artifacts = pinned()
    marker = {
        "format": FORMAT,
        "name": name,
        "artifacts": {
            one: {"title": artifacts[one].title, "licence": artifacts[one].licence, **files.provenance}
            for one, files in fetched.items()
        },
        "sizes_bytes": {
            path.relative_to(folder).as_posix(): path.stat().st_size
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        },
    }
    (folder / MARKER).write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")


def problem_of(folder: Path) -> str | None:
    """Why the folder cannot be used, or None. Sizes only: a full checksum at each start would cost seconds."""
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        found_format, sizes = marker["format"], dict(marker["sizes_bytes"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"{MARKER} is missing or unreadable"
    if found_format != FORMAT:
        return f"{MARKER} has format {found_format}, this version reads {FORMAT}"
    for name, size_bytes in sizes.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size_bytes:
            return f"{name} has {path.stat().st_size} bytes, not {size_bytes}"
    return None


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """One process makes the folder; others wait for it. The system drops the lock of a process that dies."""
    from filelock import FileLock

    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        yield


@contextlib.contextmanager
def _disk_errors(folder: Path, needed_bytes: int) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"The embedded model cannot be made in {folder}: {error}. Nothing half-made is used. The folder must be "
            f"writable with {needed_bytes / 1e9:.1f} GB free; make room, or set LALM_HOME to another disk."
        ) from error
