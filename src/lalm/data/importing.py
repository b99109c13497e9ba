"""`lalm data import`: rows of other files and tools into a manifest, streaming, all of it or nothing."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from lalm import plugins
from lalm.config import override
from lalm.data import audio
from lalm.data.dialogue import with_turns
from lalm.data.intake import Intake
from lalm.data.manifest import row_to_json
from lalm.data.ontology import write_ontology
from lalm.data.sources import SPLITS, corpus_rows
from lalm.errors import ConfigError, DataError, UserError, many, nearest
from lalm.records import Turn, Utterance


def import_rows(
    name: str,
    source: str,
    out: Path,
    assignments: Sequence[str] = (),
    copy_audio: bool = False,
    skip_bad: bool = False,
) -> str:
    """Write `manifest.jsonl` (and `audio/`, `ontology.json` where there is something for them) into `out`; what was done.

    `name` is a format or a corpus, `assignments` its options (`key=value`). Recordings are read where they are unless
    `copy_audio`. Raises DataError with every row that cannot be used (unless `skip_bad`), and UserError if `out` holds a
    manifest already; nothing is left in `out` then.
    """
    module, kind = _plugin(name)
    cfg = plugins.configure(module, override({}, assignments), name)
    _check_free(out)
    part = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=_parent(out)))
    try:
        into = Intake(part / "audio")
        if kind == "formats":
            rows = _without_end(module.read(source, into, cfg), into)
        else:
            rows = _of_corpus(module, Path(source), cfg, into)
        written = _Writer(part, out, into, copy_audio)
        with (part / "manifest.jsonl").open("w", encoding="utf-8") as stream:
            written.write(rows, stream)
        if into.problems.total and not skip_bad:
            into.problems.check(source)
        if not written.num_rows:
            raise DataError(f"{source}: no rows were found.", into.problems)
        if into.ontology is not None:
            write_ontology(part / "ontology.json", into.ontology)
        _move(part, out)
    except OSError as error:
        raise UserError(f"{error.filename or out}: {error.strerror or error}. Nothing was written.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return written.said(source, into)


def _plugin(name: str) -> tuple[ModuleType, str]:
    """The format of that name, else the corpus."""
    for kind in ("formats", "corpora"):
        if name in plugins.names(kind):
            return plugins.load(kind, name), kind
    known = [*plugins.names("formats"), *plugins.names("corpora")]
    raise ConfigError(f"Unknown format or corpus '{name}'.{nearest(name, known)}")


def _without_end(rows: Iterable[Utterance], into: Intake) -> Iterator[Utterance]:
    """The rows; the DataError that a reader may end with becomes problems among the others."""
    try:
        yield from rows
    except DataError as error:
        if not error.problems:
            raise
        for problem in error.problems:
            into.problems.append(problem)


def _of_corpus(module: ModuleType, source: Path, cfg: Any, into: Intake) -> Iterator[Utterance]:
    """The rows of a corpus, split by split: what is wrong in one says nothing of the others."""
    for split in SPLITS:
        before, number = into.problems.total, 0
        for row in _without_end(corpus_rows(module, source, cfg, (split,)), into):
            number += 1
            yield row
        if into.problems.total > before and not number:
            into.problem(
                f"{source}, split {split}",
                "the corpus gives all of its rows or none: its good rows are left out as well.",
            )


def _check_free(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; a folder is needed.")
    for name in ("manifest.jsonl", "audio", "ontology.json"):
        if (out / name).exists():
            raise UserError(f"{out / name} exists already and is not overwritten. Choose another folder with --out.")


def _parent(out: Path) -> Path:
    """The folder that `out` will stand in; made if it is not there."""
    parent = Path(os.path.abspath(out)).parent
    parent.mkdir(parents=True, exist_ok=True)
    return parent


def _move(part: Path, out: Path) -> None:
    """What was made into its place; the manifest last, for it is what others look for."""
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(part.iterdir(), key=lambda one: one.name == "manifest.jsonl"):
        os.chmod(path, 0o755 if path.is_dir() else 0o644)
        os.replace(path, out / path.name)


class _Writer:
    """Checks rows and writes them, with the paths that they will have in `out`."""

    def __init__(self, part: Path, out: Path, into: Intake, copy_audio: bool) -> None:
        self.part, self.out, self.into, self.copy_audio = part, Path(os.path.abspath(out)), into, copy_audio
        self.num_rows = self.num_recordings = self.num_outside = 0
        self.splits: Counter[str] = Counter()
        self.seen: set[int] = set()

    def write(self, rows: Iterable[Utterance], stream: IO[str]) -> None:
        for row in rows:
            try:
                line = json.dumps(self._json(row), ensure_ascii=False, allow_nan=False)
                stream.write(line + "\n")
            except DataError as error:
                self.into.problem(f"row '{row.id}'", str(error))
                continue
            except (ValueError, RecursionError) as error:  # NaN, half a character, values nested without end
                self.into.problem(f"row {row.id!r}", f"cannot be written as JSON ({error}).")
                continue
            self.num_rows += 1
            self.num_recordings += len(row.recordings)
            self.splits[row.split or "without a split"] += 1

    def _json(self, row: Utterance) -> Mapping[str, Any]:
        if hash(row.id) in self.seen:
            raise DataError("stands there twice; ids must differ.")
        self.seen.add(hash(row.id))
        if not row.text and row.audio is None and not row.turns:
            raise DataError("has neither text nor audio.")
        if row.audio is not None:
            path, seconds = self._sound(row.audio, row.duration_s)
            row = replace(row, audio=path, duration_s=seconds)
        return row_to_json(with_turns(row, self._turn), self.out)

    def _turn(self, turn: Turn) -> Turn:
        if turn.audio is None:
            return turn
        path, seconds = self._sound(turn.audio, turn.duration_s)
        return replace(turn, audio=path, duration_s=seconds)

    def _sound(self, path: Path, seconds: float | None) -> tuple[Path, float]:
        """A recording's path from the manifest, and its length in seconds. Raises DataError if it is not there."""
        if seconds is None or self.copy_audio:  # what is copied is audio, whatever a row says
            seconds = round(audio.info(path).duration_s, 3)
        elif not audio.is_file(path):
            raise DataError(f"{path}: there is no such file.")
        return self._place(path), seconds

    def _place(self, path: Path) -> Path:
        """The path from the manifest: of a clip that came with the files, of a copy, or of the file where it is."""
        if path.is_relative_to(self.part):
            return path.relative_to(self.part)
        if self.copy_audio:
            target = self.into.new_path(path.stem, path.suffix.lower())
            shutil.copyfile(path, target)
            return target.relative_to(self.part)
        relative = os.path.relpath(path, self.out)
        self.num_outside += relative.startswith("..")
        return Path(relative)

    def said(self, source: str, into: Intake) -> str:
        """What was written, for a person."""
        splits = ", ".join(f"{number} {split}" for split, number in sorted(self.splits.items()))
        lines = [
            f"Read {source}: {many(self.num_rows, 'row')} ({splits}), {many(self.num_recordings, 'recording')}.",
            f"Wrote {self.out / 'manifest.jsonl'}"
            + (f" and {many(into.num_clips, 'recording')} in {self.out / 'audio'}" if into.num_clips else "")
            + (f" and {self.out / 'ontology.json'}" if into.ontology is not None else "")
            + ".",
        ]
        if self.num_outside:
            lines.append(
                f"{many(self.num_outside, 'recording')} outside that folder, read where they are: a recipe needs "
                "data.allow_outside_paths: true. Or import with --copy-audio."
            )
        if into.problems.total:
            lines.append(f"Left out: {many(into.problems.total, 'problem')}.")
            lines += [f"  - {problem}" for problem in into.problems]
        lines.append(f"Next: lalm data validate {self.out / 'manifest.jsonl'}")
        return "\n".join(lines)
