"""The command line: one subcommand is one function call. Nothing heavy is imported before a subcommand needs it."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import errno
import json
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from lalm import cli_answers, cli_bench, cli_data


class _Parser(argparse.ArgumentParser):
    """Answers a mistyped command or option with the nearest one, in one line, exit code 2; guesses no abbreviation."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        known = [str(one) for action in self._actions for one in (*action.option_strings, *(action.choices or ()))]
        message = message.split(" (choose from ")[0]
        wrong = [word.strip("'\",:").split("=")[0] for word in message.rpartition(": ")[2].split()]
        hints = [near for word in wrong for near in difflib.get_close_matches(word, known, n=1, cutoff=0.6)]
        hint = next((f" Did you mean '{near}'?" for near in hints if near not in wrong), "")
        self.exit(2, f"{self.prog}: {message}.{hint} See {self.prog} --help\n")


def _parsers() -> tuple[_Parser, dict[str, _Parser]]:
    """The parser of `lalm` itself and those of its commands."""
    parser = _Parser(prog="lalm", description="Adapt large audio language models with much text and little speech.")
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)

    def command(name: str, run: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    add = command("demo", _demo, "run a small study on the corpus that comes along, ending with a report")
    add.add_argument("--out", type=Path, default=Path("out/demo"), help="folder of the study")

    add = command("init", _init, "write a recipe and a manifest for your own sentences and recordings")
    add.add_argument("--text", type=Path, required=True, help="labelled sentences: CSV, TSV or JSON lines")
    add.add_argument("--audio", type=Path, help="folder of recordings")
    add.add_argument("--out", type=Path, default=Path("."), help="folder to write recipe.yaml and manifest.jsonl to")

    cli_data.add_data(commands, _Parser)

    add = command("train", _train, "train one recipe into a run folder")
    add.add_argument("recipe", type=Path)
    add.add_argument("override", nargs="*", default=[], help="key=value, for example tuner.r=8")
    add.add_argument("--out", type=Path, default=Path("out/run"), help="run folder")
    add.add_argument("--resume", action="store_true", help="go on where the run in --out stopped")

    cli_answers.add_answers(command)
    cli_bench.add_bench(command)

    add = command("export", _export, "write a run as a folder that other tools load, if it answers there as here")
    add.add_argument("run_folder", type=Path, metavar="RUN")
    add.add_argument("--out", type=Path, required=True, help="folder to write")
    add.add_argument("--merged", action="store_true", help="the whole model, the adapter folded in (none: the adapter)")

    add = command("transcribe", _transcribe, "print what the model hears")
    add.add_argument("files", type=Path, nargs="+", metavar="FILE")
    add.add_argument("--backbone", default="smol", help="embedded model: smol (default), or gemma for many languages")
    add.add_argument("--connector", help="connector plug-in (none: the default one)")
    add.add_argument("--language", help="language that is spoken, such as fr (none: English; gemma hears which)")
    add.add_argument("--json", action="store_true", help="print a JSON list of file and text")

    add = command("align", _align, "train a connector from audio-text pairs")
    add.add_argument("recipe", type=Path)
    add.add_argument("--out", type=Path, default=Path("out/align"), help="folder of checkpoints and result")
    add.add_argument("--resume", action="store_true", help="go on where the run in --out stopped")

    add = command("study", _study, "run a grid of schemes, speech shares and seeds, resumable")
    add.add_argument("study", type=Path)
    add.add_argument("override", nargs="*", default=[], help="key=value, for example seeds=[0]")
    add.add_argument("--out", type=Path, default=Path("out/study"), help="study folder")
    add.add_argument("--executor", default="local", help="where runs go: local (processes) or ray (a cluster)")
    add.add_argument("--judge-again", action="store_true", help="runs that differ in `evaluate` alone answer anew")

    add = command("report", _report, "draw the report of a study or of runs again, from their folders alone")
    add.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    add.add_argument("--out", type=Path, help="file to write")
    add.add_argument("--format", default="html", choices=["html", "markdown", "latex"], help="default: html")

    add = command("check", _check, "check a recipe: data, model, what is trained, cost; nothing is run")
    add.add_argument("recipe", type=Path)
    add.add_argument("override", nargs="*", default=[], help="key=value")
    add.add_argument("--hear", action="store_true", help="also whether the model hears, alike in any batch")

    add = command("ls", _ls, "list plug-ins")
    add.add_argument("kind", nargs="?")
    add.add_argument("--options", action="store_true", help="print the options of each")
    add.add_argument("--plugins", type=Path, action="append", default=[], metavar="DIR", help="also those of a folder")
    return parser, commands.choices


def _demo(args: argparse.Namespace) -> None:
    from lalm.study.demo import demo

    _reported(demo(args.out))


def _init(args: argparse.Namespace) -> None:
    from lalm.data.init import init_project

    print(init_project(args.text, args.audio, args.out))


def _train(args: argparse.Namespace) -> None:
    from lalm.config import load_recipe
    from lalm.study.single import train

    _done(train(load_recipe(args.recipe, args.override), args.out, args.resume).root)


def _export(args: argparse.Namespace) -> None:
    from lalm.export.run import export_run

    print(export_run(args.run_folder, args.out, args.merged))


def _transcribe(args: argparse.Namespace) -> None:
    from lalm.evaluate.transcribe import transcribe

    texts = transcribe(args.files, args.connector, args.backbone, args.language)
    if args.json:
        rows = [{"file": str(file), "text": text} for file, text in zip(args.files, texts, strict=True)]
        print(json.dumps(rows, ensure_ascii=False, indent=1))
    else:
        print("\n".join(texts if len(texts) == 1 else [f"{f}: {t}" for f, t in zip(args.files, texts, strict=True)]))


def _align(args: argparse.Namespace) -> None:
    from lalm.train.align import align

    _done(align(args.recipe, args.out, args.resume))


def _study(args: argparse.Namespace) -> None:
    from lalm.study.run import run_study

    _reported(run_study(args.study, args.out, args.override, args.executor, args.judge_again))


def _reported(study: Path) -> None:
    """The report of a finished study, its main table and where the page is."""
    from lalm.report.build import build_report
    from lalm.report.terminal import standings_text

    page = build_report([study])
    print(standings_text(study))
    _done(page)


def _report(args: argparse.Namespace) -> None:
    from lalm.report.build import build_report

    _done(build_report(args.folders, args.out, args.format))


def _check(args: argparse.Namespace) -> None:
    from lalm.config import load_recipe
    from lalm.study.check import check_recipe

    print(check_recipe(load_recipe(args.recipe, args.override), args.hear))


def _ls(args: argparse.Namespace) -> None:
    from lalm.plugins import add_roots, describe

    add_roots(args.plugins)
    print(describe(args.kind, args.options))


def _done(path: Path) -> None:
    print(f"Done: {path}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code of docs/formats.md. Raises SystemExit(2) for arguments that are none."""
    parser, commands = _parsers()
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in commands:
        command: argparse.ArgumentParser = commands[words[0]]
        words = words[1:]
        inner = cli_data.commands_of(command)
        if inner and (not words or words[0] not in inner):
            command.parse_args(words)  # help, or what is wrong with the name of the inner command
        if inner:
            command, words = inner[words[0]], words[1:]
        # options and positional arguments in any order, and an unknown option answered by the command's own parser
        args = command.parse_intermixed_args(words)
        return _guarded(args.run, args, " ".join(command.prog.split()[1:]))
    if parser.parse_args(words).version:
        from lalm import __version__

        print(f"lalm {__version__}")
    else:
        parser.print_help()
    return 0


_GOES_ON = "what was finished is kept, and the same command goes on."
_AFTER_INTERRUPT = {
    "train": "its checkpoints are kept; the same command with --resume goes on.",
    "predict": "nothing was written; the same command begins anew.",
    "gap": "what was answered is kept; the same command begins anew.",
    "converse": "the same command begins anew.",
    **dict.fromkeys(("data import", "data export"), "nothing was written; the same command begins anew."),
}


def _guarded(run: Callable[[argparse.Namespace], None], args: argparse.Namespace, command: str = "") -> int:
    """The user's mistakes as a paragraph (2), a full disk too; an interrupt (130); our own faults as a report (1)."""
    from lalm.errors import UserError

    try:
        run(args)
        sys.stdout.flush()  # a full disk shows here, not at exit
    except UserError as error:
        print(f"lalm: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # who presses the keys again does not want a traceback
        print(f"\nlalm: interrupted; {_AFTER_INTERRUPT.get(command, _GOES_ON)}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        _give_up_output()
        return 0
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG):
            return _fault(error)
        _give_up_output()
        print(
            f"lalm: {error.filename or 'the disk'}: {error.strerror}. Nothing was left half-written.", file=sys.stderr
        )
        return 2
    except Exception as error:
        return _fault(error)
    return 0


def _give_up_output() -> None:
    """What is left for a standard output that cannot take it goes nowhere, or Python would complain at exit."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fault(error: BaseException) -> int:
    """A report file for what should not have happened, and one line that says where it is."""
    text = "".join(traceback.format_exception(error))
    said = str(error).encode(errors="backslashreplace").decode()
    what = f"lalm: a fault of ours ({type(error).__name__}: {said})."
    if os.environ.get("LALM_DEBUG"):
        print(text, file=sys.stderr)
        return 1
    try:
        handle, name = tempfile.mkstemp(prefix="lalm-fault-", suffix=".txt", text=True)
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"lalm {' '.join(sys.argv[1:])}\n{sys.version}\n{text}")
    except OSError:
        print(f"{what} Please report it with what LALM_DEBUG=1 prints.", file=sys.stderr)
        return 1
    print(f"{what} Please report it with {name} (LALM_DEBUG=1 prints it).", file=sys.stderr)
    return 1


def run() -> None:
    """Entry point of the console script."""
    from lalm.train.distributed import end, launched

    code = main()
    if launched():
        end(code)
    sys.exit(code)
