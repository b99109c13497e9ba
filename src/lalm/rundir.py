"""The run folder: which file is where, and writes that are whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from lalm.errors import UserError


@contextlib.contextmanager
def atomic(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path`; it takes the name only when the block ended well.

    Raises UserError if the disk is full or the folder cannot be written; nothing is left half-written.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.fchmod(handle, 0o644)
        with os.fdopen(handle, mode, encoding=None if "b" in mode else "utf-8") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error}). Nothing was changed there.") from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, indented, UTF-8."""
    with atomic(path) as stream:
        json.dump(value, stream, ensure_ascii=False, indent=1, allow_nan=False)
        stream.write("\n")


def check_target(path: Path, suffixes: Sequence[str], *read: Path | None) -> None:
    """Raises UserError for a file to write that is one of those `read`, or that is there and is not of the kind that is written."""
    if any(one is not None and one.exists() and path.exists() and one.samefile(path) for one in read):
        raise UserError(f"{path}: is what is read here, and would be overwritten. Choose another file.")
    if path.exists() and path.suffix.lower() not in suffixes:
        raise UserError(
            f"{path}: exists and is no {' or '.join(suffixes)} file; it is not overwritten. Choose another file."
        )


def write_text(path: Path, text: str) -> None:
    """Write text atomically."""
    with atomic(path) as stream:
        stream.write(text)


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write one JSON object a line, atomically; the number of lines."""
    count = 0
    with atomic(path) as stream:
        for row in rows:
            try:
                stream.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
            except ValueError as error:  # NaN and infinity are no JSON, half a character (a lone surrogate) is no UTF-8
                raise UserError(f"{path}: row {count + 1} cannot be written ({error}).") from None
            count += 1
    return count


def append_jsonl(path: Path, row: Mapping[str, Any]) -> None:
    """Append one line to a log."""
    try:
        with path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error}).") from error


def read_json(path: Path) -> Any:
    """Parsed JSON. Raises UserError naming the file and the place of the fault."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not valid JSON ({error}).") from None


# kind of summary -> what is put after a set's name for its parts, if they are sets of answers
_PARTS = {"robustness": "-snr", "gap": "-as-", "dialogue": None}


@dataclass(frozen=True)
class RunDir:
    """Paths within one run folder."""

    root: Path

    @property
    def recipe(self) -> Path:
        return self.root / "recipe.yaml"

    @property
    def info(self) -> Path:
        return self.root / "run.json"

    @property
    def labels(self) -> Path:
        return self.root / "labels.json"

    @property
    def ontology(self) -> Path:
        """The ontology that answers obey, where the recipe names one."""
        return self.root / "ontology.json"

    @property
    def log(self) -> Path:
        return self.root / "log.jsonl"

    @property
    def adapter(self) -> Path:
        return self.root / "adapter"

    def checkpoint(self, step: int) -> Path:
        return self.root / f"checkpoint-{step}"

    def checkpoints(self) -> list[Path]:
        """Complete checkpoints, oldest first."""
        found = [p for p in self.root.glob("checkpoint-*") if p.is_dir() and p.name[11:].isdigit()]
        return sorted(found, key=lambda p: int(p.name[11:]))

    def predictions(self, name: str) -> Path:
        return self.root / "predictions" / f"{name}.jsonl"

    def scores(self, name: str) -> Path:
        return self.root / "scores" / f"{name}.json"

    def robustness(self, name: str) -> Path:
        """Figures of a set under noise."""
        return self.scores(f"{name}-robustness")

    def gap(self, name: str) -> Path:
        """Figures of a set as text, as synthetic speech and as recordings."""
        return self.scores(f"{name}-gap")

    def dialogues(self, name: str) -> Path:
        """Dialogues about a set that went on as the model led them."""
        return self.root / "dialogues" / f"{name}.jsonl"

    def dialogue_scores(self, name: str) -> Path:
        """Figures of these dialogues."""
        return self.scores(f"{name}-dialogue")

    def sets(self) -> list[str]:
        """The sets that were answered or scored, sorted.

        Left out are the summaries of a set (`<set>-robustness`, `<set>-gap`, `<set>-dialogue`; they say their `kind`) and what they are made
        from, which is the same utterances once more.
        """
        found = {path.stem for path in (self.root / "scores").glob("*.json")}
        found |= {path.stem for path in (self.root / "predictions").glob("*.jsonl")}
        for path in (self.root / "scores").glob("*.json"):
            value = read_json(path)
            if isinstance(value, dict) and value.get("kind") in _PARTS:
                found.discard(path.stem)
                if (part := _PARTS[value["kind"]]) is not None:
                    found -= {name for name in found if name.startswith(f"{value.get('set')}{part}")}
        return sorted(found)

    def require(self) -> RunDir:
        """Itself, if it is a finished run. Raises UserError naming what is missing."""
        for path in (self.recipe, self.info):
            if not path.is_file():
                raise UserError(f"{self.root} is not a finished run folder: {path.name} is missing.")
        return self
