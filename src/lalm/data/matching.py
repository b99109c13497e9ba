"""Which recording says which labelled sentence: by file name, by the id that a file is called, or by its sentence."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lalm.data.audio import is_file
from lalm.data.columns import AUDIO_EXTENSIONS
from lalm.data.labelled import EXTENSIONS, LabelledFile, LabelledRow, read_labelled
from lalm.errors import DataError, many
from lalm.languages import only_words
from lalm.records import Frame

OTHER_AUDIO = (".m4a", ".aac", ".wma", ".webm", ".mp4", ".amr", ".aif", ".aiff", ".3gp")  # known by name, not read


@dataclass
class Matches:
    """Recordings with the row that labels them, and what could not be matched."""

    labelled: dict[Path, LabelledRow] = field(default_factory=dict)
    by_line: dict[int, Path] = field(default_factory=dict)  # line of the sentences' own file -> its recording
    unlabelled: list[Path] = field(default_factory=list)
    not_there: list[str] = field(default_factory=list)  # rows that name a recording which is not there
    not_known: list[str] = field(default_factory=list)  # rows whose sentence is none of the labelled ones
    not_read: list[Path] = field(default_factory=list)  # audio in formats that are not read
    said: list[str] = field(default_factory=list)  # how recordings were matched, in words


def match(sentences: LabelledFile, folder: Path | None) -> Matches:
    """Match the recordings of a folder (and those that the sentences' file names) with labels.

    Raises DataError if two rows give one recording different labels, or a recordings file in the folder is not right.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder is not None else []
    recordings = [path for path in files if path.suffix.lower() in AUDIO_EXTENSIONS]
    index = _Index(recordings, folder, sentences.path.parent)
    result = Matches(not_read=[path for path in files if path.suffix.lower() in OTHER_AUDIO])
    problems: list[str] = []
    for path in _label_files(folder, sentences.path):
        _from_labels_file(path, sentences, index, result, problems)
    _from_sentences(sentences, index, result, problems)
    if problems:
        raise DataError(f"{many(len(problems), 'row')} with a recording that another row has.", problems)
    result.unlabelled = [path for path in recordings if path not in result.labelled]
    return result


class _Index:
    """Finds a recording by the name that a row gives it: as a path from either folder, else by its end where that is unique.

    Folders have to agree as far as both have them: another one may hold another recording of that name.
    """

    def __init__(self, recordings: Sequence[Path], folder: Path | None, beside: Path) -> None:
        self._folder = folder
        self._starts = [start for start in (folder, beside) if start is not None]
        self._known = {path.resolve(): path for path in recordings}
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        for path in recordings:
            for name in {path.name, path.stem}:
                self._by_name[name].append(path)

    def find(self, name: str) -> Path | None:
        for start in self._starts:
            path = start / name
            if "\0" not in name and is_file(path):
                return self._known.get(path.resolve(), path)
        *folders, plain = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")] or [""]
        for candidate in (plain, Path(plain).stem):
            found = [path for path in self._by_name[candidate] if self._fits(path, folders)]
            if len(found) == 1:
                return found[0]
        return None

    def _fits(self, path: Path, folders: Sequence[str]) -> bool:
        """Whether a recording's folders within the folder of audio and those that a row names agree, the innermost first."""
        below = path.parent.relative_to(self._folder or path.parent).parts
        number = min(len(below), len(folders))
        return list(below[len(below) - number :]) == list(folders[len(folders) - number :])

    def of_id(self, name: str) -> Path | None:
        found = [path for path in self._by_name[name] if path.stem == name]
        return found[0] if len(found) == 1 else None


def _label_files(folder: Path | None, sentences: Path) -> list[Path]:
    if folder is None:
        return []
    known = [extension for extension in EXTENSIONS if extension != ".json"]  # these hold all sorts of things
    found = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix.lower() in known)
    return [path for path in found if path.resolve() != sentences.resolve()]


def _from_labels_file(path: Path, sentences: LabelledFile, index: _Index, result: Matches, problems: list[str]) -> None:
    """Recordings listed in a file of their own: labelled there, or by the sentence (or its id) that they say."""
    file = read_labelled(path, guess_intent=False)
    if "audio" not in file.columns.of:
        result.said.append(f"{path}: left out, no column of it names recordings")
        return
    by_id = {row.id: row for row in sentences.rows if row.id is not None}
    by_text = _by_text(sentences.rows)
    used = 0
    for row in file.rows:
        if row.audio_name is None:
            continue
        audio = index.find(row.audio_name)
        if audio is None:
            result.not_there.append(f"{path}, line {row.line}: {row.audio_name}")
            continue
        label = row if file.columns.labelled else _sentence_of(row, by_id, by_text)
        if label is None:
            result.not_known.append(f"{path}, line {row.line}: {row.text or row.id}")
            continue
        used += 1
        speaker, split = row.speaker or label.speaker, row.split or label.split
        _put(result, audio, replace(label, speaker=speaker, split=split, line=row.line), path, problems)
    how = "labels" if file.columns.labelled else "the labels of their sentences"
    result.said.append(f"{path}: {many(used, 'recording')} (column '{file.columns.of['audio']}') with {how}")


def _sentence_of(
    row: LabelledRow, by_id: Mapping[str, LabelledRow], by_text: Mapping[str, LabelledRow]
) -> LabelledRow | None:
    if row.text is not None:
        return by_text.get(plain_words(row.text))
    return by_id.get(row.id) if row.id is not None else None


def _by_text(rows: Sequence[LabelledRow]) -> dict[str, LabelledRow]:
    """Sentences whose label is the same wherever they stand."""
    frames: dict[str, set[Frame]] = defaultdict(set)
    found: dict[str, LabelledRow] = {}
    for row in rows:
        if row.text is not None:
            frames[plain_words(row.text)].add(row.frame)
            found.setdefault(plain_words(row.text), row)
    return {words: row for words, row in found.items() if len(frames[words]) == 1}


def _from_sentences(sentences: LabelledFile, index: _Index, result: Matches, problems: list[str]) -> None:
    """Recordings that the sentences' own rows name in a column, or that are called by a row's id."""
    named = by_id = 0
    lines: dict[Path, int] = {}
    for row in sentences.rows:
        audio = None
        if row.audio_name is not None:
            audio = index.find(row.audio_name)
            if audio is None:
                result.not_there.append(f"{sentences.path}, line {row.line}: {row.audio_name}")
            named += audio is not None
        elif row.id is not None:
            audio = index.of_id(row.id)
            audio = None if audio in result.labelled else audio  # a file that lists recordings knows better
            by_id += audio is not None
            if audio is None and row.text is None:
                result.not_there.append(f"{sentences.path}, line {row.line}: {row.id}")
        if audio in lines:
            problems.append(f"{sentences.path}, line {row.line}: {audio} stands on line {lines[audio]} already.")
        elif audio is not None:
            lines[audio] = row.line
            result.by_line[row.line] = audio
            _put(result, audio, row, sentences.path, problems)
    if named:
        result.said.append(
            f"{sentences.path}: {many(named, 'recording')} (column '{sentences.columns.of['audio']}') with labels"
        )
    if by_id:
        result.said.append(
            f"{many(by_id, 'recording')} by name: the id of the sentence (column '{sentences.columns.of['id']}')"
        )


def _put(result: Matches, audio: Path, row: LabelledRow, path: Path, problems: list[str]) -> None:
    known = result.labelled.get(audio)
    if known is not None and known.frame != row.frame:
        problems.append(f"{path}, line {row.line}: {audio} has another label on line {known.line} of its file.")
    result.labelled.setdefault(audio, row)


def plain_words(text: str) -> str:
    """Words alone, to see whether two spellings are one sentence."""
    return only_words(text.casefold())
