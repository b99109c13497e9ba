"""The commands that answer sets with a finished run, and score answers. As in `cli`, one of them is one function call."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from lalm.errors import UserError

Add = Callable[[str, Callable[[argparse.Namespace], None], str], argparse.ArgumentParser]


def add_answers(command: Add) -> None:
    """Add `predict`, `gap`, `converse` and `score`; `command` makes a parser from name, function and help."""
    add = command("predict", _predict, "answer a test set with a finished run, with noise too if asked")
    _add_set(add)
    add.add_argument("--out", type=Path, help="predictions file to write")
    _add_noise(add)

    add = command("gap", _gap, "answer the same items as text, as synthetic speech and as recordings")
    _add_set(add)
    add.add_argument("--synthetic", type=Path, metavar="MANIFEST", help="manifest with synthetic speech of the set")

    add = command("converse", _converse, "let a finished run talk: it may ask back, a simulated user replies")
    _add_set(add)
    add.add_argument(
        "--user",
        metavar="MODEL",
        help="local language model that words the user's replies: folder, hub id or smol",
    )
    add.add_argument("--max-turns", type=int, metavar="N", help="turns of the model in a dialogue at most (default: 3)")
    _add_noise(add)

    add = command("score", _score, "score predictions, with intervals")
    add.add_argument("predictions_file", type=Path, nargs="?", metavar="PREDICTIONS")
    add.add_argument("--metrics", help="metric plug-ins, comma between them")
    add.add_argument("--out", type=Path, help="scores file to write")
    add.add_argument("--by", choices=["language"], help="score each language by itself, too (several always are)")
    add.add_argument("--corpus", choices=["slurp"], help="score with the official rules of a corpus")
    add.add_argument("--gold", type=Path, help="gold file of that corpus")
    add.add_argument("--predictions", type=Path, help="predictions in that corpus's format")
    add.add_argument("--gold-transcripts", action="store_true", help="predictions were made from gold transcripts")
    add.add_argument("--json", action="store_true", help="print JSON")


def _add_set(add: argparse.ArgumentParser) -> None:
    """A finished run and which rows it is to answer."""
    add.add_argument("run_folder", type=Path, metavar="RUN")
    add.add_argument("manifest", type=Path, nargs="?", help="manifest (none: the test set of the run's own recipe)")
    add.add_argument("--corpus", help="corpus plug-in to read instead of a manifest")
    add.add_argument("--root", type=Path, help="folder of that corpus")
    add.add_argument("--split", help="train, dev or test (none: all of a manifest, the test split of a corpus)")


def _add_noise(add: argparse.ArgumentParser) -> None:
    """Answers under noise."""
    add.add_argument("--noise", type=Path, metavar="FOLDER", help="recordings of noise: answer at several ratios, too")
    add.add_argument("--snr", metavar="DB,DB,...", help="ratios of speech to noise in dB (default: 24,18,12,6)")
    add.add_argument("--seed", type=int, help="which stretches of noise are drawn (default: 0)")


def _check_noise(args: argparse.Namespace) -> None:
    for option, value in (("--snr", args.snr), ("--seed", args.seed)):
        if value is not None and args.noise is None:
            raise UserError(f"{option} belongs to --noise FOLDER, which is missing.")


def _predict(args: argparse.Namespace) -> None:
    from lalm.evaluate.predict import predict_run

    _check_noise(args)
    if args.noise is not None:
        return _predict_noisy(args)
    print(f"Done: {predict_run(args.run_folder, args.manifest, args.corpus, args.root, args.split, args.out)}")


def _predict_noisy(args: argparse.Namespace) -> None:
    from lalm.evaluate.robustness import DEFAULT_SNR_DB, as_text, predict_noisy
    from lalm.rundir import read_json

    if args.out is not None:
        raise UserError("--out names one file, and --noise writes several; they go into the run folder.")
    levels = DEFAULT_SNR_DB if args.snr is None else args.snr
    path = predict_noisy(
        args.run_folder, args.noise, levels, args.seed or 0, args.manifest, args.corpus, args.root, args.split
    )
    print(as_text(read_json(path)))
    print(f"Done: {path}")


def _gap(args: argparse.Namespace) -> None:
    from lalm.evaluate.gap import as_text, measure_gap
    from lalm.rundir import read_json

    path = measure_gap(args.run_folder, args.manifest, args.synthetic, args.corpus, args.root, args.split)
    print(as_text(read_json(path)))
    print(f"Done: {path}")


def _converse(args: argparse.Namespace) -> None:
    from lalm.evaluate.dialogue import MAX_TURNS, as_text, converse_run
    from lalm.evaluate.robustness import DEFAULT_SNR_DB
    from lalm.rundir import read_json

    _check_noise(args)
    path = converse_run(
        args.run_folder,
        args.manifest,
        args.corpus,
        args.root,
        args.split,
        MAX_TURNS if args.max_turns is None else args.max_turns,
        args.noise,
        DEFAULT_SNR_DB if args.snr is None else args.snr,
        args.seed or 0,
        args.user,
    )
    print(as_text(read_json(path)))
    print(f"Done: {path}")


def _score(args: argparse.Namespace) -> None:
    from lalm.evaluate.score import as_text, score_command

    official = (args.corpus, args.gold, args.predictions, args.gold_transcripts)
    scores = score_command(args.predictions_file, args.metrics, args.out, *official, by=args.by)
    print(json.dumps(scores, indent=1) if args.json else as_text(scores))
