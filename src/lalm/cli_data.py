"""The commands of `lalm data`. As in `cli`, one of them is one function call, and nothing heavy is imported before."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def add_data(commands: Any, parser_class: type[argparse.ArgumentParser]) -> None:
    """Add `data` and its own commands to the commands of `lalm`."""
    text = "read and write other tools' files, check data"
    data = commands.add_parser("data", help=text, description=text)
    inner = data.add_subparsers(dest="data_command", metavar="COMMAND", required=True, parser_class=parser_class)

    def command(name: str, run: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = inner.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    add = command("import", _import, "read another tool's files, or a corpus, into a manifest")
    add.add_argument("format", help="format or corpus; `lalm ls formats --options` lists them and their options")
    add.add_argument("source", help="file, folder, or the name of a data set on the Hugging Face Hub")
    add.add_argument("option", nargs="*", default=[], help="option of the format, for example language=fr")
    add.add_argument("--out", type=Path, required=True, help="folder to write manifest.jsonl to")
    add.add_argument("--copy-audio", action="store_true", help="copy recordings into the folder, too")
    add.add_argument("--skip-bad", action="store_true", help="leave out rows that cannot be used, and say which")

    add = command("export", _export, "write a manifest's rows in another tool's format")
    add.add_argument("format", help="format; `lalm ls formats --options` lists them and their options")
    add.add_argument("source", type=Path, help="manifest, folder of manifests, recipe, or predictions")
    add.add_argument("option", nargs="*", default=[], help="option of the format, for example paths=relative")
    add.add_argument("--out", type=Path, required=True, help="file or folder to write")
    add.add_argument("--split", choices=["train", "dev", "test"], help="only the rows of one split")
    add.add_argument("--allow-outside-paths", action="store_true", help="let audio paths leave the manifest's folder")

    add = command("questions", _questions, "let a local language model ask about what is said in training rows")
    add.add_argument("source", type=Path, nargs="?", help="manifest, folder of manifests, or recipe")
    add.add_argument("--corpus", help="corpus plug-in to read instead, with its defaults")
    add.add_argument("--root", type=Path, help="folder of that corpus (none: one that comes with the package)")
    add.add_argument("--model", required=True, help="folder or hub id of an instruction-tuned model, or smol")
    add.add_argument(
        "--out", type=Path, required=True, help="manifest to write: all rows, training rows with questions"
    )
    add.add_argument("--per-row", type=int, default=1, metavar="N", help="questions tried a training row (default 1)")
    add.add_argument("--seed", type=int, default=0, help="seed of the answers that are asked for (default 0)")
    add.add_argument("--allow-outside-paths", action="store_true", help="let audio paths leave the manifest's folder")

    _add_synth(command("synth", _synth, "speak the text rows of a manifest or a corpus into synthetic speech"))

    add = command("validate", _validate, "list every problem of every row; exit code 2 if there are errors")
    add.add_argument("source", type=Path, help="manifest, folder of manifests, or recipe")
    add.add_argument("--decode", action="store_true", help="decode recordings: silence, clipping, NaN, cut files")
    add.add_argument(
        "--ontology", type=Path, help="ontology.json with the labels that may stand (none: beside the manifest)"
    )
    add.add_argument("--allow-outside-paths", action="store_true", help="let audio paths leave the manifest's folder")
    add.add_argument("--json", action="store_true", help="print everything as JSON")
    add.add_argument("--html", type=Path, help="write a page with figures, problems and recordings to listen to")

    add = command("plan", _plan, "choose sentences to record and write the script to read from")
    add.add_argument("source", nargs="?", help="manifest, folder of manifests, or recipe (none with --corpus)")
    add.add_argument("option", nargs="*", default=[], help="option of the selector, for example ngram_length=4")
    add.add_argument("--corpus", help="corpus plug-in to read instead of a manifest")
    add.add_argument("--root", type=Path, help="folder of that corpus")
    add.add_argument("--split", default="train", choices=["train", "dev", "test"], help="sentences of which split")
    add.add_argument(
        "--budget", required=True, help="sentences (50), minutes (10min) or a share of the sentences (5%%)"
    )
    add.add_argument("--selector", default="coverage", help="`lalm ls select --options` lists them and their options")
    add.add_argument("--have", type=Path, help="manifest of what is recorded already, or an earlier script (.jsonl)")
    add.add_argument("--out", type=Path, required=True, help="script to write: .csv, .jsonl or .md")


def _add_synth(add: argparse.ArgumentParser) -> None:
    add.add_argument("source", type=Path, nargs="?", help="manifest, folder of manifests, or recipe")
    add.add_argument("--corpus", help="corpus plug-in to read instead, with its defaults")
    add.add_argument("--root", type=Path, help="folder of that corpus (none: one that comes with the package)")
    add.add_argument("--split", choices=["train", "dev", "test"], help="speak only the rows of one split")
    add.add_argument("--out", type=Path, help="folder for manifest.jsonl and audio/")
    add.add_argument(
        "--list", action="store_true", help="print engines, languages and voices of this machine, and stop"
    )
    add.add_argument(
        "--engine",
        action="append",
        default=[],
        metavar="NAME[@SPLIT]",
        help="synthesis engine; several share the sentences, NAME@test speaks those of the test set alone",
    )
    add.add_argument(
        "--voices",
        action="append",
        default=[],
        metavar="A,B",
        help="voices, ENGINE=A,B with several engines (none: all)",
    )
    add.add_argument("--language", help="language of all rows, for example en (none: their own)")
    for name, what in (("speed", "speaking rate"), ("pitch", "pitch")):
        add.add_argument(
            f"--{name}", type=_range, default=(1.0, 1.0), metavar="LOW,HIGH", help=f"{what}, 1 is the voice's own"
        )
    add.add_argument("--room", type=_range, metavar="LOW,HIGH", help="reverberation time in seconds (none: no room)")
    add.add_argument("--copies", type=int, default=1, help="recordings of each sentence (default 1)")
    add.add_argument("--seed", type=int, default=0, help="seed of all that is drawn (default 0)")
    add.add_argument("--recorded", action="store_true", help="also speak the words of rows that have a recording")
    add.add_argument("--allow-outside-paths", action="store_true", help="let audio paths leave the manifest's folder")
    add.add_argument(
        "--plugins", type=Path, action="append", default=[], metavar="DIR", help="folder with engines of your own"
    )


def commands_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The commands of a command, if it has any."""
    groups = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    return dict(groups[0].choices) if groups else {}


def _import(args: argparse.Namespace) -> None:
    from lalm.data.importing import import_rows

    print(import_rows(args.format, args.source, args.out, args.option, args.copy_audio, args.skip_bad))


def _export(args: argparse.Namespace) -> None:
    from lalm.data.exporting import export_rows

    print(export_rows(args.format, args.source, args.out, args.option, args.split, args.allow_outside_paths))


def _plan(args: argparse.Namespace) -> None:
    from lalm.data.plan import Source, plan_script

    words = [args.source, *args.option] if args.source is not None else []
    path = None if args.corpus is not None or not words else Path(words.pop(0))
    source = Source(path, args.corpus, args.root)
    print(plan_script(source, args.budget, args.out, args.selector, words, args.have, args.split))


def _range(text: str) -> tuple[float, float]:
    """`0.9,1.1`, or one number for both."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2):
        raise argparse.ArgumentTypeError(f"'{text}' is neither a number nor LOW,HIGH")
    return numbers[0], numbers[-1]


def _synth(args: argparse.Namespace) -> None:
    from lalm.errors import ConfigError
    from lalm.plugins import add_roots, load
    from lalm.speak.engines import engines_asked_for, list_engines
    from lalm.speak.rows import Manner, rows_of, speak_rows

    add_roots(args.plugins)
    engines, only = engines_asked_for(args.engine)
    if args.list:
        print(list_engines(args.language or "en", engines))
        return
    if args.out is None:
        raise ConfigError("--out DIR is needed: the folder for manifest.jsonl and audio/.")
    manner = Manner(
        engines,
        tuple(args.voices),
        args.language,
        args.speed,
        args.pitch,
        args.room,
        args.copies,
        args.seed,
        args.recorded,
        only,
    )
    rows = rows_of(args.source, args.corpus, args.root, args.allow_outside_paths)
    licence = None if args.corpus is None else getattr(load("corpora", args.corpus), "LICENCE", None)
    print(speak_rows(rows, args.out, manner, args.split, licence))


def _questions(args: argparse.Namespace) -> None:
    from lalm.speak.rows import rows_of
    from lalm.write.questions_manifest import write_questions

    rows = rows_of(args.source, args.corpus, args.root, args.allow_outside_paths)
    print(write_questions(rows, args.out, args.model, args.per_row, args.seed))


def _validate(args: argparse.Namespace) -> None:
    from lalm.data.validate import check_errors, validate
    from lalm.rundir import check_target

    if args.html is not None:
        check_target(args.html, (".html", ".htm"), args.source)
    found = validate(args.source, args.decode, args.ontology, args.allow_outside_paths)
    if args.html is not None:
        from lalm.report.data_page import write_data_page

        write_data_page(found, args.html)
    if args.json:
        print(json.dumps(found.to_json(), ensure_ascii=False, indent=1))
    else:
        from lalm.data.validate_words import as_text

        print(as_text(found) + (f"\nDone: {args.html}" if args.html is not None else ""))
    check_errors(found)
