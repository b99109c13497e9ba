"""`lalm data synth`: speaks the text rows of a manifest or a corpus into a manifest of synthetic speech, resumable."""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from lalm import plugins
from lalm.cores import on_all_cores
from lalm.data import audio
from lalm.data.exporting import read_rows
from lalm.data.manifest import read_manifest, write_manifest
from lalm.data.sources import corpus_rows
from lalm.errors import ConfigError, DataError, MissingExtraError, ModelError, UserError, many
from lalm.records import Utterance
from lalm.speak.clips import Clip, keep
from lalm.speak.deal import Dealer, Voice, check_enough, deal_voices
from lalm.speak.engines import licence_of, voices_asked_for, voices_by_language

Range = tuple[float, float]
ALLOWED = {"speed": (0.5, 2.0), "pitch": (0.5, 2.0), "room": (0.02, 3.0)}


@dataclass(frozen=True)
class Manner:
    """How sentences are spoken. `speed` and `pitch` are factors, `room_s` reverberation times; all are drawn evenly a clip."""

    engines: tuple[str, ...]
    voices: tuple[str, ...] = ()  # `a,b` or `engine=a,b`
    language: str | None = None  # of all rows (None: their own)
    speed: Range = (1.0, 1.0)
    pitch: Range = (1.0, 1.0)
    room_s: Range | None = None
    copies: int = 1
    seed: int = 0
    recorded: bool = False  # also what is said in recordings, where that is written


Spoken = list[tuple[Utterance, Clip]]  # the row as it will stand in the manifest, but for its length


def speak_rows(source: Iterable[Utterance], out: Path, manner: Manner, split: str | None = None) -> str:
    """Speak the text rows of `source` (those of `split`, or all) into `out`; what was done, for a person.

    Clips that are there already are kept. Raises UserError for what cannot be spoken as asked for, before anything is
    spoken; DataError that lists every sentence of which an engine said nothing, with all other clips kept.
    """
    _check(manner, out)
    rows = [replace(row, split=row.split or "train") for row in source]
    texts = [row for row in rows if row.text and (row.audio is None or (manner.recorded and row.source == "recorded"))]
    if not any(split in (None, row.split) for row in texts):
        where = "" if split is None else f" of split '{split}'"
        raise DataError(
            f"There are no text rows{where} to speak, among {many(len(rows), 'row')}; rows with a recording are spoken already "
            "(--recorded speaks their words, too)."
        )
    if manner.language is not None:
        texts = [replace(row, language=manner.language) for row in texts]
    dealt = _deal_voices(texts, manner, split)
    spoken = plan(texts, dealt, manner, split)
    kept = _speak(spoken, out / "audio")
    lengths = {
        name: audio.info(out / "audio" / f"{name}.flac").duration_s for name in {clip.name for _, clip in spoken}
    }
    done = [
        replace(row, audio=Path(os.path.abspath(clip.path(out / "audio"))), duration_s=round(lengths[clip.name], 3))
        for row, clip in spoken
    ]
    write_manifest(Path(os.path.abspath(out)) / "manifest.jsonl", done)
    return _said(done, len(rows) - len(texts), kept, out)


def rows_of(source: Path | None, corpus: str | None, root: Path | None, allow_outside: bool = False) -> list[Utterance]:
    """All rows of a manifest, a folder of manifests, a recipe, or of the corpus `corpus` in `root`. Raises UserError."""
    if (source is None) == (corpus is None):
        raise ConfigError("Name a manifest, a folder of manifests or a recipe, or else --corpus NAME --root DIR.")
    if source is not None:
        if not source.exists():
            raise DataError(f"{source}: there is no such file or folder.")
        return list(read_rows(source, allow_outside))
    assert corpus is not None
    module = plugins.load("corpora", corpus)
    if root is None:
        raise ConfigError(f"--corpus {corpus} needs --root, the folder of that corpus.")
    return list(corpus_rows(module, root, module.Config()))


def _check(manner: Manner, out: Path) -> None:
    """Raises ConfigError for numbers out of range, UserError for a folder that holds something else."""
    for name, value in (("speed", manner.speed), ("pitch", manner.pitch), ("room", manner.room_s)):
        low, high = ALLOWED[name]
        if value is not None and not low <= value[0] <= value[1] <= high:
            raise ConfigError(f"--{name} {value[0]:g},{value[1]:g}: allowed is LOW,HIGH between {low:g} and {high:g}.")
    if manner.copies < 1:
        raise ConfigError(f"--copies {manner.copies}: at least 1.")
    manifest = out / "manifest.jsonl"
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; a folder is needed.")
    if manifest.exists() and not _is_ours(manifest):
        raise UserError(
            f"{manifest} was not written by this command and is not overwritten. Choose another folder with --out."
        )


def _is_ours(manifest: Path) -> bool:
    try:
        return all(row.source == "synthetic" and "text_id" in row.meta for row in read_manifest(manifest))
    except DataError:
        return False


def _deal_voices(texts: Sequence[Utterance], manner: Manner, split: str | None) -> dict[str, dict[Voice, str]]:
    """Language -> voice -> its split. Voices are dealt among all splits of the source, whichever of them is spoken now."""
    sizes = {
        language: Counter(str(row.split) for row in texts if row.language == language) for language in _languages(texts)
    }
    now = [language for language in sizes if split is None or sizes[language][split]]
    known = voices_by_language(manner.engines, voices_asked_for(manner.engines, manner.voices), now)
    given: dict[Voice, str] = {}
    result = {}
    for language in now:
        result[language] = deal_voices(known[language], sizes[language], given, manner.seed)
        check_enough(result[language], sizes[language], [split] if split else list(sizes[language]), language)
        given |= result[language]
    return result


def _languages(texts: Sequence[Utterance]) -> list[str]:
    return sorted({row.language for row in texts})


def plan(
    texts: Sequence[Utterance], dealt: Mapping[str, Mapping[Voice, str]], manner: Manner, split: str | None = None
) -> Spoken:
    """Every clip of the rows of `split` (None: all): its row and what it depends on. Raises DataError for ids that stand twice."""
    ids = _ids(texts)
    dealers: dict[tuple[str, str], Dealer] = {}
    licences = {name: licence_of(plugins.load("synth", name)) for name in manner.engines}
    result = []
    for row, name in zip(texts, ids, strict=True):
        if split not in (None, row.split):
            continue
        key = (row.language, str(row.split))
        if key not in dealers:
            own: dict[str, list[str]] = {}
            for (engine, voice), whose in dealt[row.language].items():
                if whose == row.split:
                    own.setdefault(engine, []).append(voice)
            dealers[key] = Dealer(own, f"{manner.seed}/{row.language}/{row.split}")
        for copy, (engine, voice) in enumerate(dealers[key].next(manner.copies)):
            clip = _clip(row, name, copy, engine, voice, manner)
            made = {"engine": engine, "voice": voice, "speed": clip.speed, "pitch": clip.pitch, "seed": manner.seed}
            made |= {"room_s": clip.reverb_s} if clip.reverb_s is not None else {}
            meta = {**row.meta, **made, "licence": licences[engine], "text_id": row.id}
            speaker = f"{engine}/{voice}"
            heard = replace(row, id=f"{name}.speech{copy}", speaker=speaker, source="synthetic", meta=meta)
            result.append((heard, clip))
        same = manner.copies - len({clip.name for _, clip in result[-manner.copies :]})
        if same:
            raise ConfigError(
                f"--copies {manner.copies}: {row.split} has too few voices for '{row.language}', so that copies would be the "
                "same sound. Add voices, or let something vary (--speed, --pitch, --room)."
            )
    return result


def _ids(texts: Sequence[Utterance]) -> list[str]:
    """A name for each row, its split before it where an id stands in several splits."""
    times = Counter(row.id for row in texts)
    names = [row.id if times[row.id] == 1 else f"{row.split}.{row.id}" for row in texts]
    twice = sorted(name for name, number in Counter(names).items() if number > 1)
    if twice:
        raise DataError(f"{many(len(twice), 'id')} of text rows stand there more than once; ids must differ.", twice)
    return names


def _clip(row: Utterance, name: str, copy: int, engine: str, voice: str, manner: Manner) -> Clip:
    rng = Random(f"{manner.seed}/{name}/{copy}")
    speed, pitch = (round(rng.uniform(*limits), 3) for limits in (manner.speed, manner.pitch))
    room_s, room_seed = (
        (None, 0) if manner.room_s is None else (round(rng.uniform(*manner.room_s), 3), rng.getrandbits(32))
    )
    return Clip(str(row.text), engine, voice, row.language, speed, pitch, room_s, room_seed)


def _speak(spoken: Spoken, folder: Path) -> int:
    """Speak what is not there yet, on all cores; the number of clips that were there.

    The first clip of each engine is spoken here, so that what is missing is said and fetched once.
    """
    todo: dict[str, tuple[str, Clip]] = {}
    first: dict[str, tuple[str, Clip]] = {}
    for row, clip in spoken:
        if not clip.path(folder).is_file():
            todo.setdefault(clip.name, (row.id, clip))
            first.setdefault(clip.engine, (row.id, clip))
    work = functools.partial(_keep, folder=folder, roots=plugins.user_roots())
    problems = [work(item) for item in first.values()]
    problems += on_all_cores(work, [item for item in todo.values() if item not in first.values()], "speech")
    found = [problem for problem in problems if problem is not None]
    if found:
        raise DataError(f"{many(len(found), 'sentence')} could not be spoken; the other clips are kept.", found)
    return len({clip.name for _, clip in spoken}) - len(todo)


def _keep(item: tuple[str, Clip], folder: Path, roots: Sequence[Path]) -> str | None:
    """Speak one clip; what is wrong with the sentence, if anything."""
    name, clip = item
    plugins.add_roots(roots)
    try:
        keep(clip, folder)
    except (MissingExtraError, ModelError, ConfigError):
        raise
    except UserError as error:
        return f"row '{name}': {error}"
    return None


def _said(done: Sequence[Utterance], left_out: int, kept: int, out: Path) -> str:
    minutes = sum(row.duration_s or 0.0 for row in done) / 60
    lines = [f"Spoke {many(len(done), 'row')}, {minutes:.1f} minutes; {many(kept, 'clip')} were there already."]
    for split in sorted({str(row.split) for row in done}):
        own = [row for row in done if row.split == split]
        voices = Counter(str(row.speaker) for row in own)
        shown = [f"{voice} {number}" for voice, number in voices.most_common(8)]
        more = f" and {len(voices) - 8} more" if len(voices) > 8 else ""
        lines.append(f"  {split}: {many(len(own), 'row')} by {many(len(voices), 'voice')}: {', '.join(shown)}{more}")
    for engine in sorted({str(row.meta["engine"]) for row in done}):
        licence = next(row.meta["licence"] for row in done if row.meta["engine"] == engine)
        lines.append(f"  licence of {engine}: {licence}")
    if left_out:
        lines.append(f"  left out: {many(left_out, 'row')} with a recording, or without words")
    lines.append(f"Wrote {out / 'manifest.jsonl'}. In a recipe: data.synthetic, and scheme.synthetic_passes above 0.")
    return "\n".join(lines)
