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

    add = command("validate", _validate, "list every problem of every row; exit code 2 if there are errors")
    add.add_argument("source", type=Path, help="manifest, folder of manifests, or recipe")
    add.add_argument("--decode", action="store_true", help="decode recordings: silence, clipping, NaN, cut files")
    add.add_argument(
        "--ontology", type=Path, help="ontology.json with the labels that may stand (none: beside the manifest)"
    )
    add.add_argument("--allow-outside-paths", action="store_true", help="let audio paths leave the manifest's folder")
    add.add_argument("--json", action="store_true", help="print everything as JSON")
    add.add_argument("--html", type=Path, help="write a page with figures, problems and recordings to listen to")


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


def _validate(args: argparse.Namespace) -> None:
    from lalm.data.validate import check_errors, validate

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
