"""JSON files of a folder or of a zip, which is read where it is and never unpacked."""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

from lalm.data.intake import Intake
from lalm.errors import DataError

MAX_FILE_BYTES = 64 * 1024 * 1024
MAX_FILES = 100_000
MAX_BYTES = 4 * 1024**3


class Tree:
    """The files of a folder or of a zip by their path; sizes are looked at before anything is read."""

    def __init__(self, source: str) -> None:
        path = Path(source)
        self.where = source
        self._zip: zipfile.ZipFile | None = None
        if path.is_file():
            try:
                self._zip = zipfile.ZipFile(path)
            except (zipfile.BadZipFile, OSError, ValueError) as error:
                raise DataError(f"{source}: a folder or a zip file is needed ({error}).") from None
            entries = [one for one in self._zip.infolist() if not one.is_dir()]
            self.sizes = {one.filename: one.file_size for one in entries}
        elif path.is_dir():
            found = (one for one in path.rglob("*.json") if one.is_file())
            self.sizes = {one.relative_to(path).as_posix(): one.stat().st_size for one in found}
        else:
            raise DataError(f"{source}: there is no such file or folder.")
        if len(self.sizes) > MAX_FILES:
            raise DataError(f"{source}: holds {len(self.sizes):,} files, more than the {MAX_FILES:,} that are read.")
        if sum(self.sizes.values()) > MAX_BYTES:
            raise DataError(
                f"{source}: holds {sum(self.sizes.values()):,} bytes, more than the {MAX_BYTES:,} that are read."
            )

    def __enter__(self) -> Tree:
        return self

    def __exit__(self, *_: object) -> None:
        if self._zip is not None:
            self._zip.close()

    def load(self, name: str, into: Intake) -> Any:
        """The parsed JSON of a file; None, with a problem, if it cannot be used."""
        where = f"{self.where}/{name}"
        if self.sizes[name] > MAX_FILE_BYTES:
            into.problem(where, f"is larger than {MAX_FILE_BYTES // 2**20} MiB, which is more than is read.")
            return None
        try:
            if self._zip is None:
                content = (Path(self.where) / name).read_bytes()
            else:
                with self._zip.open(name) as stream:
                    content = stream.read(MAX_FILE_BYTES + 1)
            if len(content) > MAX_FILE_BYTES:
                raise ValueError("unpacks to more than its size says")
            return json.loads(content)
        except (OSError, ValueError, RecursionError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            into.problem(where, f"is not JSON that can be read ({error}).")
            return None
