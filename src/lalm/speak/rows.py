"""`lalm data synth`: speaks sentences and dialogues of a manifest or a corpus into a manifest of synthetic speech, resumable."""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

from lalm import plugins
from lalm.cores import on_all_cores
from lalm.data import audio
from lalm.data.dialogue import in_writing
from lalm.data.exporting import read_rows
from lalm.data.manifest import read_manifest, write_manifest
from lalm.data.sources import corpus_rows
from lalm.errors import ConfigError, DataError, MissingExtraError, ModelError, UserError, many
from lalm.records import Utterance
from lalm.rundir import write_text
from lalm.speak.card import CARD, card, said
from lalm.speak.clips import Clip, keep
from lalm.speak.deal import Dealer, Voice, check_enough, deal_voices
from lalm.speak.dialogues import (
    Casts,
    check_dialogues,
    dialogue_clips,
    how_spoken,
    named_voices,
    roles_together,
    with_recordings,
)
from lalm.speak.engines import licence_of, voices_asked_for, voices_by_language
from lalm.speak.manner import Manner, check_manner, drawn

Spoken = list[
    tuple[Utterance, tuple[Clip, ...]]
]  # the row as it will stand in the manifest but for its recordings, and these


def speak_rows(
    source: Iterable[Utterance], out: Path, manner: Manner, split: str | None = None, licence: str | None = None
) -> str:
    """Speak the text rows of `source` (those of `split`, or all) into `out`; what was done, for a person.

    Clips that are there already are kept. A data card is written beside dialogues; `licence` is that of the text, for the card.
    Raises UserError for what cannot be spoken as asked for, before anything is spoken; DataError that lists every sentence of
    which an engine said nothing, with all other clips kept.
    """
    _check(manner, out)
    rows = [replace(row, split=row.split or "train") for row in source]
    texts = [text for row in rows if (text := _in_words(row, manner)) is not None]
    if not any(split in (None, row.split) for row in texts):
        where = "" if split is None else f" of split '{split}'"
        raise DataError(
            f"There are no text rows{where} to speak, among {many(len(rows), 'row')}; rows with a recording are spoken already "
            "(--recorded speaks their words, too)."
        )
    if manner.language is not None:
        texts = [replace(row, language=manner.language) for row in texts]
    dealt = deal_to_splits(texts, manner, split)
    spoken = plan(texts, dealt, manner, split)
    folder = Path(os.path.abspath(out))
    kept = _speak(spoken, folder / "audio")
    names = {clip.name for _, clips in spoken for clip in clips}
    lengths_s = {name: audio.info(folder / "audio" / f"{name}.flac").duration_s for name in names}
    done = [_heard(row, clips, lengths_s, folder / "audio") for row, clips in spoken]
    write_manifest(folder / "manifest.jsonl", done)
    if any(row.turns for row in done):
        write_text(folder / CARD, card(done, manner, licence))
    return said(done, len(rows) - len(texts), kept, out)


def rows_of(source: Path | None, corpus: str | None, root: Path | None, allow_outside: bool = False) -> list[Utterance]:
    """All rows of a manifest, a folder of manifests, a recipe, or of the corpus `corpus` in `root`. Raises UserError.

    A corpus that comes with the package needs no `root`.
    """
    if (source is None) == (corpus is None):
        raise ConfigError("Name a manifest, a folder of manifests or a recipe, or else --corpus NAME --root DIR.")
    if source is not None:
        if not source.exists():
            raise DataError(f"{source}: there is no such file or folder.")
        return list(read_rows(source, allow_outside))
    assert corpus is not None
    module = plugins.load("corpora", corpus)
    root = root if root is not None else getattr(module, "FOLDER", None)
    if root is None:
        raise ConfigError(f"--corpus {corpus} needs --root, the folder of that corpus.")
    return list(corpus_rows(module, root, module.Config()))


def _in_words(row: Utterance, manner: Manner) -> Utterance | None:
    """The row as it is to be spoken; None if it is a recording already, or has no words."""
    if row.recordings and not (manner.recorded and row.source == "recorded"):
        return None
    if row.turns:
        return in_writing(row)
    return row if row.text else None


def _heard(row: Utterance, clips: Sequence[Clip], lengths_s: Mapping[str, float], folder: Path) -> Utterance:
    if row.turns:
        return with_recordings(row, clips, lengths_s, folder)
    return replace(row, audio=clips[0].path(folder), duration_s=round(lengths_s[clips[0].name], 3))


def _check(manner: Manner, out: Path) -> None:
    """Raises ConfigError for numbers out of range, UserError for a folder that holds something else."""
    check_manner(manner)
    manifest = out / "manifest.jsonl"
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; a folder is needed.")
    if manifest.exists() and not _is_ours(manifest):
        raise UserError(
            f"{manifest} was not written by this command and is not overwritten. Choose another folder with --out."
        )
    if (out / CARD).exists() and not manifest.exists():
        raise UserError(f"{out / CARD} is there already and is not overwritten. Choose another folder with --out.")


def _is_ours(manifest: Path) -> bool:
    try:
        return all(row.source == "synthetic" and "text_id" in row.meta for row in read_manifest(manifest))
    except DataError:
        return False


def deal_to_splits(texts: Sequence[Utterance], manner: Manner, split: str | None) -> dict[str, dict[Voice, str]]:
    """Language -> voice -> its split. Voices are dealt among all splits of the source, whichever of them is spoken now."""
    sizes = {
        language: Counter(str(row.split) for row in texts if row.language == language) for language in _languages(texts)
    }
    now = [language for language in sizes if split is None or sizes[language][split]]
    known = voices_by_language(manner.engines, voices_asked_for(manner.engines, manner.voices), now)
    problems: list[str] = []
    bound = {
        (engine, voice): split_of_engine
        for engine, split_of_engine in manner.only.items()
        for by_engine in known.values()
        for voice in by_engine.get(engine, ())
    }
    given = named_voices([row for row in texts if row.language in now], known, bound, problems)
    check_dialogues(texts, problems)
    result = {}
    for language in now:
        least = max(1, len(roles_together(row for row in texts if row.language == language)))
        result[language] = deal_voices(known[language], sizes[language], given, manner.seed, least)
        check_enough(result[language], sizes[language], [split] if split else list(sizes[language]), language, least)
        given |= result[language]
    return result


def _languages(texts: Sequence[Utterance]) -> list[str]:
    return sorted({row.language for row in texts})


def plan(
    texts: Sequence[Utterance], dealt: Mapping[str, Mapping[Voice, str]], manner: Manner, split: str | None = None
) -> Spoken:
    """The rows of `split` (None: all) with the clips that each is made of, one of a sentence, one a turn of a dialogue.

    Raises DataError for ids that stand twice.
    """
    ids = _ids(texts)
    sentences, casts = _dealers(dealt, f"{manner.seed}"), _dealers(dealt, f"{manner.seed}/dialogues")
    cast = Casts(casts, len(roles_together(texts)), manner.copies)
    licences = {name: licence_of(plugins.load("synth", name)) for name in manner.engines}
    result: Spoken = []
    for row, name in zip(texts, ids, strict=True):
        if split not in (None, row.split):
            continue
        voices = [] if row.turns else sentences[row.language, str(row.split)].next(manner.copies)
        for copy in range(manner.copies):
            if row.turns:
                clips = dialogue_clips(row, cast.of(row, copy), copy, manner)
                made = how_spoken(clips, row)
                speaker = made["voices"].get("user") or made["voices"]["narrator"]
            else:
                clip = drawn(str(row.text), voices[copy], row.language, manner, Random(f"{manner.seed}/{name}/{copy}"))
                clips, speaker = (clip,), f"{clip.engine}/{clip.voice}"
                made = {"engine": clip.engine, "voice": clip.voice, "speed": clip.speed, "pitch": clip.pitch}
                made |= {"room_s": clip.reverb_s} if clip.reverb_s is not None else {}
            licence = "; ".join(sorted({licences[clip.engine] for clip in clips}))
            meta = {**row.meta, **made, "seed": manner.seed, "licence": licence, "text_id": row.id}
            heard = replace(row, id=f"{name}.speech{copy}", speaker=speaker, source="synthetic", meta=meta)
            result.append((heard, clips))
        same = manner.copies - len({clips for _, clips in result[-manner.copies :]})
        if same:
            raise ConfigError(
                f"--copies {manner.copies}: {row.split} has too few voices for '{row.language}', so that copies would be the "
                "same sound. Add voices, or let something vary (--speed, --pitch, --room)."
            )
    return result


def _dealers(dealt: Mapping[str, Mapping[Voice, str]], seed: str) -> dict[tuple[str, str], Dealer]:
    """Who deals the voices of each language and split."""
    own: dict[tuple[str, str], dict[str, list[str]]] = {}
    for language, voices in dealt.items():
        for (engine, voice), split in voices.items():
            own.setdefault((language, split), {}).setdefault(engine, []).append(voice)
    return {(language, split): Dealer(found, f"{seed}/{language}/{split}") for (language, split), found in own.items()}


def _ids(texts: Sequence[Utterance]) -> list[str]:
    """A name for each row, its split before it where an id stands in several splits."""
    times = Counter(row.id for row in texts)
    names = [row.id if times[row.id] == 1 else f"{row.split}.{row.id}" for row in texts]
    twice = sorted(name for name, number in Counter(names).items() if number > 1)
    if twice:
        raise DataError(f"{many(len(twice), 'id')} of text rows stand there more than once; ids must differ.", twice)
    return names


def _speak(spoken: Spoken, folder: Path) -> int:
    """Speak what is not there yet, on all cores; the number of clips that were there.

    The first clip of each engine is spoken here, so that what is missing is said and fetched once.
    """
    todo: dict[str, tuple[str, Clip]] = {}
    first: dict[str, tuple[str, Clip]] = {}
    for row, clip in ((row, clip) for row, clips in spoken for clip in clips):
        if not clip.path(folder).is_file():
            todo.setdefault(clip.name, (row.id, clip))
            first.setdefault(clip.engine, (row.id, clip))
    work = functools.partial(_keep, folder=folder, roots=plugins.user_roots())
    problems = [work(item) for item in first.values()]
    problems += on_all_cores(work, [item for item in todo.values() if item not in first.values()], "speech")
    found = [problem for problem in problems if problem is not None]
    if found:
        raise DataError(f"{many(len(found), 'sentence')} could not be spoken; the other clips are kept.", found)
    return len({clip.name for _, clips in spoken for clip in clips}) - len(todo)


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
