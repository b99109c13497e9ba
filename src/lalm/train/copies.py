"""Changed copies of training recordings, as `data.augment` of a recipe asks for them: files, made once, kept by content.

A copy's name is a hash of the recording's content, of the settings, of the row's id and of the copy's number, so that every
run with the same settings hears the same copies, and what an encoder made of them is kept as that of any recording.
Copies lie in `$LALM_HOME/cache/copies` and are safe to delete: they are made anew.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lalm.config import DataSection
from lalm.cores import on_all_cores
from lalm.data import audio
from lalm.data.augment import RATE_HZ, changed
from lalm.data.cache import version
from lalm.data.noise import noise_files, read_noise
from lalm.data.pools import LoadedPools
from lalm.data.spec_augment import FeatureChanges
from lalm.errors import DataError, many
from lalm.models.fetch import lalm_home
from lalm.records import Turn, Utterance
from lalm.sections import AugmentSection

VERSION = 1  # of the changes: another number makes all copies anew
_NUMBERS = {"copies", "sources"}  # say which copies there are, not what one sounds like


@dataclass(frozen=True)
class Clip:
    """One changed recording: which, of which row, what its changes are drawn by, and the file that it is kept in."""

    row: str
    recording: Path
    name: str
    file: Path


@dataclass(frozen=True)
class Copy:
    """One copy of a row: its recordings, in the order in which they are heard."""

    row: Utterance
    number: int
    clips: tuple[Clip, ...]


def num_copies(data: DataSection, pools: LoadedPools) -> int:
    """How many copies training hears beside the recordings themselves."""
    return sum(len(rows) for rows in _copied(data, pools).values()) * (data.augment.copies if data.augment else 0)


def copies(data: DataSection, pools: LoadedPools) -> dict[str, list[Utterance]]:
    """Pool name -> the copies of its recordings, the first ones of all recordings before the second ones.

    The budget was drawn before and is one of recordings. Raises DataError for noise that cannot be used, and with a list of
    all recordings that cannot be changed as asked for (silence and noise, say).
    """
    result: dict[str, list[Utterance]] = {"speech": [], "synthetic": []}
    cfg = data.augment
    if cfg is None:
        return result
    planned = {pool: _plan(rows, cfg) for pool, rows in _copied(data, pools).items()}
    _make([clip for own in planned.values() for copy in own for clip in copy.clips], cfg)
    for pool, own in planned.items():
        result[pool] = [_as_row(copy) for copy in own]
    return result


def _copied(data: DataSection, pools: LoadedPools) -> dict[str, list[Utterance]]:
    sources = data.augment.sources if data.augment else ()
    own = {"speech": pools.speech if "recorded" in sources else []}
    return {**own, "synthetic": pools.synthetic if "synthetic" in sources else []}


def _plan(rows: Sequence[Utterance], cfg: AugmentSection) -> list[Copy]:
    settings = cfg.model_dump(mode="json", exclude=_NUMBERS)
    folder = cfg.noise_folder
    if folder is not None:  # its files by name and size: reading them all would take longer than most runs
        settings["noise_folder"] = [
            (str(path.relative_to(folder)), path.stat().st_size) for path in noise_files(folder)
        ]
    heard = [row for row in rows if row.recordings]
    return [Copy(row, number, _clips(row, number, settings)) for number in range(1, cfg.copies + 1) for row in heard]


def _clips(row: Utterance, number: int, settings: Mapping[str, Any]) -> tuple[Clip, ...]:
    clips = []
    for index, path in enumerate(row.recordings):
        id_of_clip = row.id if row.audio is not None else f"{row.id}/turn{index}"
        made = json.dumps([VERSION, _content(path, version(path)), settings, id_of_clip, number], sort_keys=True)
        name = hashlib.sha256(made.encode()).hexdigest()[:32]
        file = lalm_home() / "cache" / "copies" / name[:2] / f"{name}.flac"
        clips.append(Clip(row.id, path, f"{id_of_clip}/{number}", file))
    return tuple(clips)


def _make(planned: Sequence[Clip], cfg: AugmentSection) -> None:
    """Write the files that are not there, on all cores."""
    todo = [clip for clip in planned if not clip.file.is_file()]
    if todo and cfg.noise_folder is not None:
        _noise(cfg.noise_folder)  # what is wrong with it is said once
    found = [problem for problem in on_all_cores(functools.partial(_write, cfg=cfg), todo, "copies") if problem]
    if found:
        raise DataError(f"{many(len(found), 'recording')} cannot be changed as data.augment asks for.", found)


def _write(clip: Clip, cfg: AugmentSection) -> str | None:
    """Make one changed recording; what is wrong with the recording, if anything."""
    try:
        samples = audio.load(clip.recording, RATE_HZ)
        noise = _noise(cfg.noise_folder) if cfg.noise_folder is not None else []
        samples = changed(samples, cfg, noise, clip.name)
    except DataError as error:
        return f"row '{clip.row}': {error}"
    features = None
    if cfg.spec_augment is not None or cfg.tera is not None:
        changes = FeatureChanges(seed=cfg.seed, name=clip.name, spec_augment=cfg.spec_augment, tera=cfg.tera)
        features = changes.comment()
    audio.write_flac(clip.file, samples, RATE_HZ, features)
    return None


@functools.cache
def _noise(folder: Path) -> list[np.ndarray]:
    return read_noise(folder)


@functools.cache
def _content(path: Path, _: object) -> str:
    """A study asks for the same recordings run by run; `_` is the file's version."""
    return audio.content_hash(path)


@functools.cache
def _duration_s(path: Path) -> float:
    return round(audio.info(path).duration_s, 3)


def _as_row(copy: Copy) -> Utterance:
    row = replace(copy.row, id=f"{copy.row.id}.copy{copy.number}")
    files = iter(clip.file for clip in copy.clips)
    if row.audio is not None:
        file = next(files)
        row = replace(row, audio=file, duration_s=_duration_s(file))
    return replace(row, turns=tuple(_changed_turn(turn, files) for turn in row.turns))


def _changed_turn(turn: Turn, files: Iterator[Path]) -> Turn:
    if turn.audio is None:
        return turn
    file = next(files)
    return replace(turn, audio=file, duration_s=_duration_s(file))
