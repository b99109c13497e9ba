"""The command line: help, exit codes, near misses answered, faults reported without a traceback."""

from __future__ import annotations

import argparse
import errno
import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import lalm
from lalm import cli, cli_data, plugins
from lalm.errors import UserError

COMMANDS = sorted(cli._parsers()[1])


def lalm_command(*arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
    """`python -m lalm ...` in a process of its own."""
    return subprocess.run([sys.executable, "-m", "lalm", *arguments], capture_output=True, text=True, **settings)  # type: ignore[call-overload]


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What is said of arguments that are none; the exit code must be 2."""
    with pytest.raises(SystemExit) as caught:
        cli.main(list(arguments))
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    return err


def test_the_commands_are_those_of_the_plan():
    planned = {"demo", "init", "train", "predict", "score", "transcribe", "align", "study", "report", "check", "ls"}
    assert planned <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        cli.main([command, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: lalm {command}")
    assert len(text.splitlines()) > 5
    main_help = cli._parsers()[0].format_help()
    assert re.search(rf"^ +{command}\s+\w", main_help, re.MULTILINE), "the command has a line of its own in lalm --help"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_says_what_it_is(command: str):
    for action in cli._parsers()[1][command]._actions:
        if action.option_strings:
            assert action.help, f"lalm {command} {action.option_strings[0]}"


def test_version_and_help(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"lalm {lalm.__version__}\n"
    assert cli.main([]) == 0
    assert "COMMAND" in capsys.readouterr().out
    done = lalm_command("--version")
    assert (done.returncode, done.stdout) == (0, f"lalm {lalm.__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["trian", "recipe.yaml"], "train"),
        (["socre"], "score"),
        (["--versoin"], "--version"),
        (["train", "recipe.yaml", "--outt", "x"], "--out"),
        (["score", "--jsn"], "--json"),
        (["transcribe", "--conector=ctc", "a.wav"], "--connector"),
        (["score", "--corpus", "slrup"], "slurp"),
        (["report", "--format", "hmtl", "x"], "html"),
    ],
)
def test_near_misses_are_answered(arguments: list[str], meant: str, capsys: pytest.CaptureFixture[str]):
    assert f"Did you mean '{meant}'?" in refused(capsys, *arguments)


def test_nothing_is_guessed(capsys: pytest.CaptureFixture[str]):
    """An abbreviation is not taken for the option, and what is far from everything gets no hint."""
    assert "Did you mean '--metrics'" in refused(capsys, "score", "x", "--metric", "wer")
    assert "Did you mean" not in refused(capsys, "zzz")
    assert "required: recipe." in refused(capsys, "train")


def test_options_and_arguments_come_in_any_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("data: {corpus: barista}\n")
    for arguments in (
        ["train", str(recipe), "--out", str(tmp_path / "run"), "tuner.rr=8"],
        ["train", "--out", str(tmp_path / "run"), str(recipe), "tuner.rr=8"],
        ["train", str(recipe), "tuner.rr=8", "--out", str(tmp_path / "run")],
    ):
        assert cli.main(arguments) == 2
        assert f"{recipe}: tuner.rr: there is no such key. Did you mean 'r'?" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def guarded(error: BaseException) -> int:
    def run(args: argparse.Namespace) -> None:
        raise error

    return cli._guarded(run, argparse.Namespace())


def test_a_users_mistake_is_a_paragraph_and_exit_code_2(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert guarded(UserError("data.root: x does not exist.")) == 2
    assert capsys.readouterr() == ("", "lalm: data.root: x does not exist.\n")
    done = lalm_command("train", str(tmp_path / "no.yaml"))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == f"lalm: {tmp_path / 'no.yaml'}: cannot be read (No such file or directory).\n"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_a_disk_that_takes_nothing_is_not_our_fault(number: int, capsys: pytest.CaptureFixture[str]):
    assert guarded(OSError(number, os.strerror(number), "/data/x")) == 2
    assert f"/data/x: {os.strerror(number)}" in capsys.readouterr().err


def test_a_fault_of_ours_is_reported_in_a_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert guarded(ZeroDivisionError("division by zero")) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    assert "ZeroDivisionError: division by zero" in err
    (report,) = tmp_path.iterdir()
    assert str(report) in err
    assert "Traceback (most recent call last)" in report.read_text(encoding="utf-8")
    monkeypatch.setenv("LALM_DEBUG", "1")
    assert guarded(ZeroDivisionError("division by zero")) == 1
    assert "Traceback" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [report]


def test_a_fault_without_room_for_a_report_still_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    assert guarded(ValueError("odd")) == 1
    err = capsys.readouterr().err
    assert "fault of ours" in err
    assert "Traceback" not in err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes, to have a command that waits")
def test_an_interrupt_is_exit_code_130(tmp_path: Path):
    os.mkfifo(tmp_path / "predictions.jsonl")
    command = [sys.executable, "-m", "lalm", "score", str(tmp_path / "predictions.jsonl")]
    # a shell's background job is started with interrupts ignored, and hands that on
    listens = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=listens)
    # opening the pipe for writing succeeds once the command has opened it for reading, so it waits inside
    deadline = time.monotonic() + 30
    while True:
        try:
            writer = os.open(tmp_path / "predictions.jsonl", os.O_WRONLY | os.O_NONBLOCK)
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    # a signal that comes just before the command begins to wait does not wake it: whoever sits there presses the keys again
    while process.poll() is None:
        assert time.monotonic() < deadline + 30
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
    _, err = process.communicate()
    os.close(writer)
    assert process.returncode == 130, err
    assert "interrupted; what was finished is kept" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "r.yaml"], "the same command with --resume goes on"),
        (["data", "import", "csv", "x", "--out", "y"], "nothing was written"),
        (["study", "s.yaml"], "the same command goes on"),
    ],
)
def test_what_an_interrupt_leaves_is_said_of_the_command(words, said, monkeypatch, capsys):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(signal, "signal", lambda *_: None)
    for module, name in ((cli, "_train"), (cli, "_study"), (cli_data, "_import")):
        assert hasattr(module, name)
        monkeypatch.setattr(module, name, interrupted)
    assert cli.main(words) == 130
    assert said in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
def test_a_reader_that_goes_away_is_no_fault():
    command = f"{sys.executable} -c 'import sys; from lalm.cli import run; run()' ls schemes --options | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "0"
    assert done.stderr == ""


def test_ls_prints_every_plug_in_with_its_first_line(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["ls"]) == 0
    text = capsys.readouterr().out
    for kind in plugins.CONTRACTS:
        names = plugins.names(kind)
        assert f"{kind} ({len(names)})" in text
        for name in names:
            first = (plugins.load(kind, name).__doc__ or "").strip().splitlines()[0]
            assert any(line.split(maxsplit=1) == [name, first] for line in text.splitlines()), f"{kind}/{name}"


def test_ls_of_one_kind_with_options(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["ls", "tuners", "--options"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("tuners (")
    for field, info in plugins.load("tuners", "lora").Config.model_fields.items():
        assert f"{field} = " in text
        assert str(info.description) in text
    assert cli.main(["ls", "tunrs"]) == 2
    assert "Did you mean 'tuners'?" in capsys.readouterr().err


def test_ls_shows_a_users_own(tmp_path: Path):
    (tmp_path / "tuners").mkdir()
    (tmp_path / "tuners" / "mine.py").write_text('"""My own way to tune."""\n')
    done = lalm_command("ls", "tuners", "--plugins", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "mine               My own way to tune." in done.stdout


def test_score_prints_json_alone(tmp_path: Path):
    row = {
        "id": "1",
        "gold": {"intent": "a", "slots": []},
        "prediction": {"intent": "a", "slots": []},
        "raw": "",
        "status": "ok",
    }
    (tmp_path / "p.jsonl").write_text(json.dumps(row) + "\n")
    done = lalm_command("score", str(tmp_path / "p.jsonl"), "--metrics", "exact_match", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["metrics"]["exact_match"]["value"] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check", "studies/fsdd.yaml"], "this is a study, and a recipe is needed. Studies are run with: lalm study"),
        (["data", "validate", "studies/fsdd.yaml"], "this is a study, and a recipe is needed"),
        (
            ["study", "recipes/curriculum.yaml"],
            "this is a recipe, and a study is needed. Recipes are run with: lalm train",
        ),
    ],
)
def test_a_study_for_a_recipe_and_the_other_way_round(arguments, said, monkeypatch, capsys):
    monkeypatch.chdir(Path(__file__).parents[1])
    assert cli.main(arguments) == 2
    err = capsys.readouterr().err
    assert said in err
    assert arguments[-1] in err.partition(said)[2] + err.partition(said)[0]
    assert len(err.strip().splitlines()) == 1
