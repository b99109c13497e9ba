"""`lalm data validate`: every problem of every row, found in one pass over the rows and one over what they share."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random

from lalm.config import DataSection
from lalm.data import audio
from lalm.data.findings import CHECKS, Clip, Findings, Problem, SplitNumbers
from lalm.data.labelled import Split
from lalm.data.manifest import parse_row
from lalm.data.ontology import Ontology, read_ontology
from lalm.data.row_checks import LONGEST_S, Found, Sound, check_label, check_sound, plain
from lalm.data.rowstore import RowStore, hash64
from lalm.data.set_checks import Durations, Labels, Near, Speakers, check_ids, check_recordings, check_texts
from lalm.data.sources import RECIPES, SPLITS, corpus_of, corpus_rows, manifests, recipe_data
from lalm.errors import DataError, many
from lalm.records import Utterance

_BATCH_ROWS = 512
_CLIPS_A_CHECK, _RANDOM_CLIPS = 3, 8
_FIELD = re.compile(r"field '([^']+)' is (.*?)[,;] ")
_PLACE = re.compile(r"^(?P<file>.+?), line (?P<line>\d+): (?P<message>.*)$", re.DOTALL)


def validate(source: Path, decode: bool = False, ontology: Path | None = None, allow_outside: bool = False) -> Findings:
    """Look at all rows of a manifest, a folder of manifests, or a recipe's corpus; recordings are decoded if `decode`.

    Labels are held against `ontology`, else `ontology.json` beside the manifest, if there is one. Raises UserError if there
    is nothing to look at; what is wrong with rows is in what is returned.
    """
    if not source.exists():
        raise DataError(f"{source}: there is no such file or folder.")
    data = recipe_data(source) if source.suffix.lower() in RECIPES else None
    root = source if data is None else data.root
    beside = (root if root.is_dir() else root.parent) / "ontology.json"
    known = ontology or (beside if beside.is_file() else None)
    look = _Look(str(source), decode, read_ontology(known) if known is not None else None)
    for path, split in _manifests(source, data):
        look.rows(_of_manifest(path, split, look, allow_outside or (data is not None and data.allow_outside_paths)))
    if data is not None and data.corpus.name != "jsonl":
        _of_corpus(data, look)
    look.end()
    return look.found


def check_errors(found: Findings) -> None:
    """Raises DataError if errors were found, so that the command ends with exit code 2; warnings are none."""
    errors = found.number("error")
    if errors:
        raise DataError(f"{found.source}: {many(errors, 'error')} must be mended.")


def _manifests(source: Path, data: DataSection | None) -> list[tuple[Path, Split | None]]:
    if data is None:
        return manifests(source)
    own = manifests(data.root) if data.corpus.name == "jsonl" else []
    return [*own, *([(data.synthetic, None)] if data.synthetic is not None else [])]


_Row = tuple[int, Utterance]


def _of_manifest(path: Path, split: Split | None, look: _Look, allow_outside: bool) -> Iterator[_Row]:
    """The rows of a manifest that can be made, with their index; the others are problems."""
    look.store.open_file(path)
    offset = 0
    try:
        with path.open("rb") as stream:
            for line, raw in enumerate(stream, 1):
                start, offset = offset, offset + len(raw)
                if not raw.strip():
                    continue
                try:
                    value = json.loads(raw)
                except (ValueError, RecursionError) as error:
                    look.add(Problem("row", f"is not one JSON object ({error}).", str(path), line))
                    continue
                row, problems = parse_row(value, path.parent, allow_outside)
                for problem in problems:
                    name = _FIELD.match(problem)
                    identity = value.get("id") if isinstance(value, dict) and isinstance(value.get("id"), str) else None
                    more = (name[1], name[2]) if name else (None, None)
                    look.add(Problem("row", problem, str(path), line, identity, *more))
                if row is not None:
                    row = row if split is None else replace(row, split=split)
                    yield look.store.add(row, plain(row.text or ""), line, start), row
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from None


def _of_corpus(data: DataSection, look: _Look) -> None:
    """The rows of another corpus, a split after the other; one that cannot be read is a problem and the others go on."""
    corpus, cfg = corpus_of(data)
    for split in SPLITS:
        try:
            rows = list(corpus_rows(corpus, data.root, cfg, (split,)))
        except DataError as error:
            for problem in error.problems or (str(error),):
                place = _PLACE.match(problem)
                where = (place["file"], int(place["line"])) if place else (str(data.root), None)
                look.add(Problem("row", place["message"] if place else problem, *where))
            continue
        look.store.open_rows(f"{data.corpus.name} {split}", rows)
        look.rows((look.store.add(row, plain(row.text or "")), row) for row in rows)


@dataclass(frozen=True)
class _Heard:
    """One recording of a row: what is said in it if that is known, what it is, what is wrong, a hash of it (or 0)."""

    path: Path
    text: str | None
    sound: Sound | None
    problems: list[Found]
    content: int


class _Look:
    """Everything that is gathered while rows stream by."""

    def __init__(self, source: str, decode: bool, ontology: Ontology | None) -> None:
        self.found = Findings(source, decode)
        self.store = RowStore()
        self.ontology = ontology
        self.speakers, self.labels, self.durations, self.near = Speakers(), Labels(), Durations(), Near()
        self.random = Random(0)
        self.num_sounds = 0
        self.sample: list[Clip] = []

    def add(self, problem: Problem) -> None:
        self.found.add(problem)

    def rows(self, rows: Iterable[_Row]) -> None:
        """Look at rows in batches; recordings are opened by several threads, which decoders and disks gain from."""
        stream = iter(rows)
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as threads:
            sound = partial(_sounds, decode=self.found.decoded)
            while batch := list(islice(stream, _BATCH_ROWS)):
                for (index, row), heard in zip(batch, threads.map(sound, [row for _, row in batch]), strict=True):
                    self._row(index, row, heard)

    def _row(self, index: int, row: Utterance, heard: list[_Heard]) -> None:
        words, split = plain(row.text or ""), row.split or "train"
        self._count(row, words, split, [one.sound for one in heard if one.sound is not None])
        self.near.add(words, split, index)
        for kind, labels in (("intent", [row.frame.intent]), ("slot type", [slot.type for slot in row.frame.slots])):
            for label in dict.fromkeys(labels):
                if label is not None:
                    self.labels.add(kind, label, split, index)
        if heard and row.speaker:
            self.speakers.add(row.speaker, split, index)
        labels_found = list(check_label(row, words, self.ontology))
        for problem in (*(problem for one in heard for problem in one.problems), *labels_found):
            place = self.store.where(index)
            self.add(Problem(problem.check, problem.message, *place, row.id, problem.field, problem.value))
        for one in heard:
            self.store.add_sound(index, one.path, one.content)
            if one.sound is not None:
                if one.path == row.audio:  # passages and requests are not alike in length
                    self.durations.add(index, one.sound.info.duration_s)
                self._listen(index, row, one, [problem.check for problem in (*one.problems, *labels_found)])

    def _count(self, row: Utterance, words: str, split: str, sounds: list[Sound]) -> None:
        numbers = self.found.splits.setdefault(split, SplitNumbers())
        numbers.rows += 1
        numbers.recordings += len(row.recordings)
        if words:
            numbers.words[len(words.split())] += 1
        if row.frame.intent is not None:
            numbers.intents[row.frame.intent] += 1
        numbers.slot_types.update(slot.type for slot in row.frame.slots)
        self.found.languages[row.language] += 1
        self.found.sources[row.source] += 1
        if row.recordings and row.speaker:
            numbers.speakers.add(row.speaker)
        for sound in sounds:
            numbers.seconds += sound.info.duration_s
            numbers.durations_s[round(sound.info.duration_s, 1)] += 1
            self.found.sample_rates[sound.info.sample_rate_hz] += 1
            self.found.channels[sound.info.num_channels] += 1
            if sound.peak_db is not None:
                self.found.peaks_db[round(sound.peak_db)] += 1

    def _listen(self, index: int, row: Utterance, heard: _Heard, checks: list[str]) -> None:
        """Keep some recordings for the page: a few of every check, and some drawn at random."""
        for check in checks:
            title = CHECKS[check][1]
            if sum(one.why == title for one in self.found.clips) < _CLIPS_A_CHECK:
                self.found.clips.append(self._clip(index, row, heard, title))
                return
        self.num_sounds += 1
        place = self.random.randrange(self.num_sounds)
        if len(self.sample) < _RANDOM_CLIPS:
            self.sample.append(self._clip(index, row, heard, "drawn at random"))
        elif place < _RANDOM_CLIPS:
            self.sample[place] = self._clip(index, row, heard, "drawn at random")

    def _clip(self, index: int, row: Utterance, heard: _Heard, why: str) -> Clip:
        file, line = self.store.where(index)
        where = file if line is None else f"{file}:{line}"
        slots = tuple(f"{slot.type}: {slot.value}" for slot in row.frame.slots)
        split, seconds = row.split or "train", heard.sound.info.duration_s if heard.sound is not None else None
        return Clip(where, row.id, split, heard.path, heard.text, row.frame.intent, slots, seconds, why)

    def end(self) -> None:
        """What needs all rows. Raises DataError if there were none, good or bad."""
        if not len(self.store) and not self.found.counts:
            raise DataError(f"{self.found.source}: holds no rows.")
        checks: list[Callable[[RowStore], Iterable[Problem]]] = [
            check_ids, check_texts, check_recordings,
            self.speakers.check, self.labels.check, self.durations.check, self.near.check,
        ]  # fmt: skip
        for check in checks:
            for problem in check(self.store):
                self.add(problem)
        self.store.close()
        self._unlike_rates()
        self.found.splits = {name: self.found.splits[name] for name in SPLITS if name in self.found.splits}
        self.found.clips += self.sample

    def _unlike_rates(self) -> None:
        """Several sample rates: a model may learn the band instead of the words. Told once, with the numbers."""
        if len(self.found.sample_rates) > 1:
            rates = ", ".join(f"{number:,} at {rate:,} Hz" for rate, number in self.found.sample_rates.most_common())
            self.add(Problem("sample_rate", f"recordings have different sample rates: {rates}.", self.found.source))


def _sounds(row: Utterance, decode: bool) -> list[_Heard]:
    """What a row's recordings are, their problems, and with `decode` a hash of their files (else 0)."""
    found = [] if row.audio is None else [_hear(row.audio, row.text, row.duration_s, "audio", decode, LONGEST_S)]
    for index, turn in enumerate(row.turns):
        if turn.audio is not None:
            name = f"turns[{index}].audio"
            found.append(_hear(turn.audio, turn.text, turn.duration_s, name, decode, math.inf))
    return found


def _hear(path: Path, text: str | None, stated_s: float | None, field: str, decode: bool, longest_s: float) -> _Heard:
    sound, found = check_sound(path, stated_s, decode, longest_s)
    content = hash64(audio.content_hash(path)) if decode and sound is not None else 0
    renamed = [
        replace(one, field=field if one.field == "audio" else field.replace("audio", one.field)) for one in found
    ]
    return _Heard(path, text, sound, renamed, content)
