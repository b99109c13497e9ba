"""Where rows of Hugging Face data sets come from: the Hub, `save_to_disk`, Parquet files, AudioFolder.

Sound is never decoded by `datasets` (`Audio(decode=False)`), so neither torchcodec nor FFmpeg is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lalm.data.columns import AUDIO_EXTENSIONS
from lalm.data.intake import Intake
from lalm.data.labelled import Split
from lalm.data.manifest import json_lines
from lalm.data.table import read_table
from lalm.errors import DataError, MissingExtraError
from lalm.formats._files import split_of

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_BATCH_ROWS = 64


@dataclass(frozen=True)
class Part:
    """Rows of one split. `audio` names columns of sound, `labels` the names behind columns of numbered classes."""

    name: str
    split: Split | None
    folder: Path
    columns: list[str]
    rows: Iterator[tuple[str, dict[str, Any]]]  # where, and the row
    audio: list[str]
    labels: dict[str, list[str]]
    fetched: bool = False  # recordings lie in a cache, from which they may go


def parts(source: str, config: str | None, revision: str | None, wanted: str | None, into: Intake) -> Iterator[Part]:
    """The parts of a local data set, or of one on the Hub; `wanted` is the only split to be read."""
    path = Path(source)
    if path.is_dir() and ((path / "dataset_dict.json").is_file() or (path / "state.json").is_file()):
        yield from _from_disk(path, wanted)
    elif path.suffix == ".parquet" or (path.is_dir() and _parquet_files(path)):
        yield from _parquet(path, wanted)
    elif path.is_dir():
        yield from _audio_folder(path, wanted, into)
    elif path.exists() or source.startswith(("/", ".", "~")) or source.count("/") > 1:
        raise DataError(f"{source}: is neither a folder nor a Parquet file, nor the name of a data set on the Hub.")
    else:
        yield from _hub(source, config, revision, wanted, into)


def datasets() -> Any:
    """The package. Raises MissingExtraError."""
    try:
        import datasets as package
    except ImportError:
        raise MissingExtraError("the package datasets", "data sets of Hugging Face", "pip install 'lalm[hf]'") from None
    return package


def _features(features: Any) -> tuple[list[str], dict[str, list[str]]]:
    """Columns of sound, and the names of columns of classes."""
    package = datasets()
    sound = [name for name, feature in features.items() if isinstance(feature, package.Audio)]
    labels = {name: list(f.names) for name, f in features.items() if isinstance(f, package.ClassLabel)}
    return sound, labels


def _undecoded(rows: Any) -> tuple[Any, list[str], dict[str, list[str]]]:
    sound, labels = _features(rows.features)
    for name in sound:
        rows = rows.cast_column(name, datasets().Audio(decode=False))
    return rows, sound, labels


def _from_disk(path: Path, wanted: str | None) -> Iterator[Part]:
    package = datasets()
    try:
        loaded = package.load_from_disk(str(path))
    except Exception as error:  # pyarrow and datasets raise what they like for damaged files
        raise DataError(f"{path}: cannot be read by datasets ({_short(error)}).") from None
    named = loaded if isinstance(loaded, package.DatasetDict) else {"": loaded}
    yield from _loaded(str(path), named, path, wanted)


def _hub(source: str, config: str | None, revision: str | None, wanted: str | None, into: Intake) -> Iterator[Part]:
    package = datasets()
    try:
        builder = package.load_dataset_builder(
            source, config, revision=revision
        )  # no code of the data set's own is run
        is_folder = any(base.__name__ == "FolderBasedBuilder" for base in type(builder).__mro__)
        named = None if is_folder else package.load_dataset(source, config, revision=revision)
    except Exception as error:  # the network, a name that is none, a gated data set, a missing configuration
        raise DataError(f"{source}: cannot be read from the Hub ({_short(error.__cause__ or error)}).") from None
    if named is None:  # of recordings as files `datasets` makes rows by torchcodec alone, so the files are read here
        yield from _downloaded(source, config, revision, wanted, into)
        return
    yield from _loaded(source, named, Path(package.config.HF_CACHE_HOME), wanted)


def _downloaded(
    source: str, config: str | None, revision: str | None, wanted: str | None, into: Intake
) -> Iterator[Part]:
    """The files of a data set on the Hub, read as those of a local folder."""
    import huggingface_hub

    try:
        folder = Path(huggingface_hub.snapshot_download(source, repo_type="dataset", revision=revision))
    except Exception as error:
        raise DataError(f"{source}: cannot be read from the Hub ({_short(error)}).") from None
    own = folder / (config or "")
    for part in parts(str(own if own.is_dir() else folder), None, None, wanted, into):
        yield replace(part, fetched=True)


def _loaded(source: str, named: Any, folder: Path, wanted: str | None) -> Iterator[Part]:
    for name, rows in named.items():
        if wanted not in (None, name):
            continue
        rows, sound, labels = _undecoded(rows)
        where = f"{source} {name}".strip()
        numbered = ((f"{where}, row {number}", row) for number, row in enumerate(rows))
        yield Part(name or Path(source).name, split_of(name), folder, list(rows.column_names), numbered, sound, labels)


def _parquet_files(path: Path) -> list[Path]:
    return sorted(one for one in path.rglob("*.parquet") if one.name != "metadata.parquet")


def _parquet(path: Path, wanted: str | None) -> Iterator[Part]:
    package = datasets()
    import pyarrow.parquet as pq

    for file in [path] if path.is_file() else _parquet_files(path):
        split = split_of(file.stem)
        if wanted is not None and wanted != file.stem.split("-")[0]:
            continue
        try:
            opened = pq.ParquetFile(file)
            features = package.Features.from_arrow_schema(opened.schema_arrow)
        except Exception as error:  # pyarrow raises what it likes for damaged files
            raise DataError(f"{file}: is no Parquet file that can be read ({_short(error)}).") from None
        sound, labels = _features(features)
        names = list(opened.schema_arrow.names)
        yield Part(file.stem, split, file.parent, names, _batches(opened, file), sound, labels)


def _batches(opened: Any, file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    number = 0
    try:
        for batch in opened.iter_batches(batch_size=_BATCH_ROWS):
            for row in batch.to_pylist():
                yield f"{file}, row {number}", row
                number += 1
    except Exception as error:
        if isinstance(error, GeneratorExit):
            raise
        raise DataError(f"{file}: cannot be read behind row {number} ({_short(error)}).") from None


def _audio_folder(path: Path, wanted: str | None, into: Intake) -> Iterator[Part]:
    """Folders with `metadata.csv` or `metadata.jsonl` (`file_name` and any columns), else a folder a class."""
    found = sorted(one for one in path.rglob("metadata.*") if one.name in METADATA)
    for file in found:
        split = split_of(file.parent.name if file.parent != path else "")
        if wanted not in (None, split, file.parent.name):
            continue
        if file.suffix == ".parquet":
            raise DataError(f"{file}: is not read; save the metadata as metadata.csv or metadata.jsonl.")
        rows = list(_csv(file) if file.suffix == ".csv" else _jsonl(file, into))
        names = list(dict.fromkeys(name for _, row in rows for name in row))
        if "file_name" not in names:
            raise DataError(f"{file}: has no column 'file_name'. Columns: {', '.join(names) or '(none)'}.")
        yield Part(f"{file.parent.name}", split, file.parent, names, iter(rows), ["file_name"], {})
    if not found:
        yield from _class_folders(path, wanted)


def _csv(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for line, cells in read_table(file).rows:
        yield f"{file}, line {line}", {name: cell or None for name, cell in cells.items()}


def _jsonl(file: Path, into: Intake) -> Iterator[tuple[str, dict[str, Any]]]:
    for line, value in json_lines(file, into.problems):
        if isinstance(value, dict):
            yield f"{file}, line {line}", value
        else:
            into.problem(f"{file}, line {line}", "an object is needed.")


def _class_folders(path: Path, wanted: str | None) -> Iterator[Part]:
    """`[split/]class/file`: the name of the folder is the class."""
    sound = sorted(one for one in path.rglob("*") if one.suffix.lower() in AUDIO_EXTENSIONS and one.is_file())
    if not sound:
        raise DataError(f"{path}: holds neither Parquet files, nor metadata.csv or metadata.jsonl, nor recordings.")
    by_split: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for file in sound:
        folders = file.relative_to(path).parts[:-1]
        first = folders[0] if folders and split_of(folders[0]) else ""
        row = {
            "file_name": file.relative_to(path).as_posix(),
            "label": folders[-1] if folders[1 if first else 0 :] else None,
        }
        by_split.setdefault(first, []).append((str(file), row))
    for name, rows in by_split.items():
        if wanted in (None, name, split_of(name)):
            yield Part(name or path.name, split_of(name), path, ["file_name", "label"], iter(rows), ["file_name"], {})


def _short(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}"
