"""A test set answered clean and with noise at several ratios: how much accuracy noise costs.

Each recording gets the same stretch of noise at every ratio, drawn from the seed and the row's id, so the curve over the
ratios is paired: what differs between two levels is the loudness of the noise and nothing else. The recordings of turns, which
many rows may share, are drawn for by their file's name instead, and mixed once for all rows.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from lalm import plugins
from lalm.config import EvaluateSection, load_recipe
from lalm.data import audio, noise
from lalm.data.dialogue import all_recordings, with_turns
from lalm.errors import DataError, UserError, many
from lalm.evaluate import stats
from lalm.evaluate.predict import answered, load_run, rows_to_answer, run_grammar, scores_of
from lalm.evaluate.prediction_rows import group, has_sound
from lalm.evaluate.score import compare_rows, grouped_counts
from lalm.records import Turn, Utterance
from lalm.rundir import RunDir, write_json, write_jsonl

DEFAULT_SNR_DB = "24,18,12,6"
_MOST_DB = 100.0  # beyond this the softer side is below the last bit of the recordings
_SOUNDS = ("audio", "turns")  # the fields of a predictions row that name recordings
Row = Mapping[str, Any]


def predict_noisy(
    run: Path,
    noise_folder: Path,
    snr_db: str = DEFAULT_SNR_DB,
    seed: int = 0,
    manifest: Path | None = None,
    corpus: str | None = None,
    root: Path | None = None,
    split: str | None = None,
) -> Path:
    """Answer a set as `predict_run` does, and its recordings again with noise at each ratio; the summary written.

    Left in the run folder: `predictions/<set>.jsonl` (what `lalm predict` writes), predictions and scores
    `<set>-snr<dB>`, and `scores/<set>-robustness.json`. Rows without a recording are answered in the first alone, and
    the summary counts them. Raises UserError, before the model is loaded, for ratios that are none, a run that is not
    finished, noise or recordings that cannot be used, and a set without recordings.
    """
    from lalm.train.setup import task_examples

    levels = parse_snr(snr_db)
    if seed < 0:
        raise UserError(f"--seed {seed}: a whole number from 0 is needed.")
    folder = RunDir(run).require()
    recipe = load_recipe(folder.recipe)
    rows, name = rows_to_answer(recipe, manifest, corpus, root, split)
    files, sources = noise.noise_files(noise_folder), noise.read_noise(noise_folder)
    spoken = with_sound(name, rows)
    grammar = run_grammar(folder, recipe.evaluate)
    _, model = load_run(run)
    _say("clean", 1, len(levels) + 1)
    clean = answered(model, task_examples(recipe, rows), recipe.evaluate, grammar)
    write_jsonl(folder.predictions(name), clean)
    heard = [row for row in clean if has_sound(row)]
    ids = {row["id"] for row in heard}  # a task that looks at other rows may ask more of them where these are fewer
    noisy = {}
    for number, level in enumerate(levels, 2):
        _say(f"{level:g} dB", number, len(levels) + 1)
        with tempfile.TemporaryDirectory(prefix="lalm-noise-") as copies:
            noisy_rows = write_noisy(spoken, Path(copies), sources, level, seed)
            examples = [
                example for example in task_examples(recipe, noisy_rows) if example.recordings and example.id in ids
            ]
            rows_at = answered(model, examples, recipe.evaluate, grammar)
        # the copies with noise are gone: `audio` and `turns` name the recordings without it
        noisy[level] = [
            {**row, **{key: was[key] for key in _SOUNDS if key in was}, "snr_db": level}
            for row, was in zip(rows_at, heard, strict=True)
        ]
        write_jsonl(folder.predictions(part(name, level)), noisy[level])
        write_json(folder.scores(part(name, level)), scores_of(noisy[level], recipe.evaluate))
    own_set = manifest is None and split in (None, "test")
    summary = {
        "kind": "robustness",
        "set": name,
        "num": len(heard),
        "num_without_recording": len(clean) - len(heard),
        "noise": about(noise_folder, files, seed),
        **summarise(heard, noisy, recipe.evaluate),
        "published": published(corpus or recipe.data.corpus.name) if own_set else None,
    }
    write_json(folder.robustness(name), summary)
    return folder.robustness(name)


def parse_snr(text: str) -> tuple[float, ...]:
    """Ratios in dB from `24,18,12,6`, loudest speech first. Raises UserError for what is no number or stands twice."""
    levels: list[float] = []
    for word in text.split(","):
        try:
            level = float(word)
        except ValueError:
            level = math.nan
        if not abs(level) <= _MOST_DB:
            raise UserError(
                f"--snr {text}: '{word.strip()}' is no ratio in dB; numbers from -{_MOST_DB:g} to {_MOST_DB:g} with "
                f"commas between them are needed, for example {DEFAULT_SNR_DB}."
            )
        if level in levels:
            raise UserError(f"--snr {text}: {level:g} stands there twice.")
        levels.append(level + 0.0)  # no minus before a zero
    return tuple(sorted(levels, reverse=True))


def part(name: str, level: float) -> str:
    """What a set is called with noise at a ratio in dB: `test-snr6`."""
    return f"{name}-snr{level:g}"


def _say(what: str, number: int, total: int) -> None:
    print(f"[noise] {what} ({number} of {total})", file=sys.stderr, flush=True)


def with_sound(name: str, rows: Sequence[Utterance]) -> list[Utterance]:
    """The rows of a set that have a recording, of a turn or of what the user may reply too.

    Raises UserError if there are none; DataError that lists every recording which cannot be read, or is silent so that no
    ratio is defined.
    """
    spoken, problems = [row for row in rows if all_recordings(row)], []
    if not spoken:
        raise UserError(
            f"The set '{name}' holds no recordings ({many(len(rows), 'written row')}), so nothing is heard."
        )
    paths = dict.fromkeys(path for row in spoken for path in all_recordings(row))
    for path in paths:
        try:
            if noise.speech_power(audio.load(path)) == 0:
                raise DataError(f"{path}: is silent, so no ratio of speech to noise is defined.")
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError(f"{len(problems)} of {many(len(paths), 'recording')} cannot be used.", problems)
    return spoken


def write_noisy(
    rows: Iterable[Utterance], folder: Path, sources: Sequence[np.ndarray], snr_db: float, seed: int
) -> list[Utterance]:
    """The rows with copies of their recordings, written into `folder` with noise at a ratio."""
    numbers = itertools.count()
    of_turns: dict[Path, Path] = {}

    def copy(path: Path, name: str) -> Path:
        target = folder / f"{next(numbers)}.wav"
        _mix_file(path, target, sources, snr_db, noise.generator(seed, name))
        return target

    def noisy(turn: Turn) -> Turn:
        if turn.audio is None:
            return turn
        if turn.audio not in of_turns:
            of_turns[turn.audio] = copy(turn.audio, turn.audio.name)
        return replace(turn, audio=of_turns[turn.audio])

    return [
        with_turns(row if row.audio is None else replace(row, audio=copy(row.audio, row.id)), noisy) for row in rows
    ]


def _mix_file(
    source: Path, target: Path, sources: Sequence[np.ndarray], snr_db: float, rng: np.random.Generator
) -> None:
    """Write a recording with noise.

    24 bits, so that the noise of a high ratio is not rounded away, and a header without the time: the same mixture is the
    same file, and what was prepared of it is found again in the cache.
    """
    mixed = noise.mix(audio.load(source), sources, snr_db, rng)
    try:
        soundfile.write(target, mixed, noise.RATE_HZ, subtype="PCM_24")
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise UserError(f"{target}: the noisy recording cannot be written ({error}).") from None


def summarise(clean: Sequence[Row], noisy: Mapping[float, Sequence[Row]], cfg: EvaluateSection) -> dict[str, Any]:
    """`clean`, `levels` and their `mean`: each metric with its 95 % interval and, under noise, its difference to clean.

    All are predictions rows of the same items in the same order. The mean is over the levels, not over clean; its
    interval comes from drawing the same utterances at all of them.
    """
    levels: list[dict[str, Any]] = [
        {"snr_db": level, "metrics": _with_differences(scores_of(rows, cfg)["metrics"], [rows], clean)}
        for level, rows in noisy.items()
    ]
    means, groups = {}, [group(row) for row in clean]
    for name in cfg.metrics:
        metric = plugins.load("metrics", name)
        members = [grouped_counts(rows, metric, groups) for rows in noisy.values()]
        if all(counts.shape[1] for counts in members):
            found = stats.mean_interval(members, metric.reduce, cfg.num_resamples, seed=0)
            value, low, high = map(stats.known, found)
        else:
            value = low = high = None
        number = min(level["metrics"][name]["n"] for level in levels)
        means[name] = {"value": value, "low": low, "high": high, "n": number}
    return {
        "snr_db": list(noisy),
        "clean": {"metrics": scores_of(clean, cfg)["metrics"]},
        "levels": levels,
        "mean": {"metrics": _with_differences(means, list(noisy.values()), clean)},
    }


def _with_differences(
    metrics: Mapping[str, Mapping[str, Any]], noisy: Sequence[Sequence[Row]], clean: Sequence[Row]
) -> dict[str, Any]:
    return {
        name: {**score, "difference_to_clean": compare_rows(noisy, [clean], name)} for name, score in metrics.items()
    }


def published(corpus: str) -> dict[str, Any] | None:
    """What others reached on a corpus under noise, as its plug-in states it (`PUBLISHED`); None if it states nothing."""
    found = getattr(plugins.load("corpora", corpus), "PUBLISHED", None)
    return None if found is None else dict(found)


def about(folder: Path, files: Sequence[Path], seed: int) -> dict[str, Any]:
    """Which noise it was: names, content and seed."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.read_bytes())
    names = [str(path.relative_to(folder)) for path in files]
    return {"folder": folder.resolve().name, "files": names, "sha256": digest.hexdigest(), "seed": seed}


def as_text(summary: Mapping[str, Any]) -> str:
    """The summary for a person: for each metric a line a level, with the difference to clean."""
    lines = []
    for name in summary["clean"]["metrics"]:
        rows = [("clean", summary["clean"]["metrics"][name])]
        rows += [(f"{level['snr_db']:g} dB", level["metrics"][name]) for level in summary["levels"]]
        rows += [("mean", summary["mean"]["metrics"][name])] if len(summary["levels"]) > 1 else []
        if all(score["value"] is None for _, score in rows):
            lines.append(f"{name}: nothing could be counted")
            continue
        lines.append(f"{name} (n = {rows[0][1]['n']})")
        lines += [f"  {label:<8} {_shown(score)}" for label, score in rows]
    if summary["num_without_recording"]:
        lines.append(f"{many(summary['num_without_recording'], 'row')} without a recording left out")
    return "\n".join(lines)


def _shown(score: Mapping[str, Any]) -> str:
    text = stats.in_words(score, 4)
    found = score.get("difference_to_clean")
    if found is None or found["low"] is None:
        return text
    interval = f"({found['low']:+.4f} to {found['high']:+.4f})"
    return f"{text}   {found['difference']:+.4f} to clean {interval}, {found['verdict']}"
