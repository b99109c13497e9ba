"""What a user's mistakes look like from the command line: one clear paragraph, exit code 2, nothing half-written.

Nobody waits for a model to hear of a typing mistake: importing torch is an error here, and so is loading a model, but where
a test is about more than that. Commands run as they do for a user, `python -m lalm` in a folder of their own.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lalm.cli import main

SOURCE = Path(__file__).parents[1] / "src"
RECIPE = {"data": {"corpus": "jsonl", "root": "manifest.jsonl"}, "plugins": ["mine"], "backbone": "deaf"}
SMOL = {"backbone": {"name": "smol", "tiny": True}}
DEAF = '''"""A backbone that must not be reached."""

from lalm.plugins import PluginConfig


class Config(PluginConfig):
    """No options."""


def load(cfg):
    raise RuntimeError("a model is loaded")


def make_tiny(seed):
    raise RuntimeError("a model is loaded")
'''
ROWS = [
    {"id": "a", "text": "lights on", "intent": "on", "slots": []},
    {"id": "b", "text": "lights off", "intent": "off", "slots": [{"type": "what", "value": "lights"}]},
    {"id": "s", "audio": "s.wav", "intent": "on"},
    {"id": "t", "audio": "t.wav", "intent": "off", "split": "test"},
]


def project(folder, rows=ROWS, **sections):
    """A recipe, a manifest and the recordings that it names."""
    folder.mkdir(parents=True, exist_ok=True)
    for row in rows:
        if isinstance(row, dict) and str(row.get("audio", "")).endswith(".wav"):
            soundfile.write(folder / row["audio"], 0.1 * np.random.default_rng(0).standard_normal(8000), 16_000)
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "manifest.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (folder / "mine" / "backbones").mkdir(parents=True, exist_ok=True)
    (folder / "mine" / "backbones" / "deaf.py").write_text(DEAF, encoding="utf-8")
    (folder / "recipe.yaml").write_text(json.dumps({**RECIPE, **sections}), encoding="utf-8")  # JSON is YAML


def lalm(folder, *arguments, torch=False, max_file_bytes=None, stdout=subprocess.PIPE):
    """Run a command in `folder`. Unless `torch`, importing torch or transformers fails."""
    paths = [str(SOURCE)]
    if not torch:
        blocked = folder / ".blocked"
        for name in ("torch", "transformers", "peft"):
            (blocked / name).mkdir(parents=True, exist_ok=True)
            (blocked / name / "__init__.py").write_text("raise ImportError('not needed here')", encoding="utf-8")
        paths.insert(0, str(blocked))

    def limit():
        if max_file_bytes is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_bytes, max_file_bytes))

    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "LALM_HOME": str(folder / "home"),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(
        [sys.executable, "-m", "lalm", *map(str, arguments)],
        cwd=folder,
        env=environment,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limit,
        timeout=600,
        check=False,
    )


def paragraph(result):
    """What was said, if it is a paragraph for a person."""
    said = result.stderr
    assert result.returncode == 2, f"exit code {result.returncode}:\n{said}"
    assert said.startswith("lalm"), said
    assert "Traceback" not in said
    assert "\n\n" not in said.strip()
    return said


def files(folder):
    """Everything in a folder but what this test put there to block imports."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if ".blocked" not in p.parts and p.is_file())


def spoilt(folder, good):
    """Files that are no sound, each in its own way -> what is said of them."""
    raw = (folder / good).read_bytes()
    contents = {"empty.wav": b"", "cut.wav": raw[: len(raw) // 2], "words.wav": b"no sound at all\n" * 99}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    soundfile.write(folder / "zero-length.wav", np.zeros(0), 16_000)
    return {
        "empty.wav": "is empty (0 bytes)",
        "cut.wav": "is cut off",
        "words.wav": "is not audio",
        "zero-length.wav": "holds no samples",
    }


MISTAKES = {
    # name: (rows of the manifest, sections of the recipe, arguments after `train recipe.yaml`, what is said)
    "a key that does not exist": (
        ROWS,
        {"trian": {}},
        [],
        ["recipe.yaml: trian: there is no such key", "Did you mean 'train'"],
    ),
    "a nested key that does not exist": (
        ROWS,
        {"train": {"learning_rat": 1}, **SMOL},
        [],
        ["train.learning_rat: there is no such key", "Did you mean 'learning_rate'"],
    ),
    "an option of a plug-in that does not exist": (
        ROWS,
        {"tuner": {"name": "lora", "rr": 4}, **SMOL},
        [],
        ["tuner.rr: there is no such key", "Did you mean 'r'"],
    ),
    "a plug-in that does not exist": (
        ROWS,
        {"scheme": "curiculum", **SMOL},
        [],
        ["'curiculum'", "Did you mean 'curriculum'"],
    ),
    "a metric that does not exist": (
        ROWS,
        {"evaluate": {"metrics": ["intent_acuracy"]}, **SMOL},
        [],
        ["'intent_acuracy'", "Did you mean 'intent_accuracy'"],
    ),
    "a value of the wrong type": (ROWS, {}, ["train.learning_rate=fast"], ["train.learning_rate", "'fast'"]),
    "two budgets": (ROWS, {}, ["data.speech_share=0.5", "data.speech_items=1"], ["give one speech budget"]),
    "an override that is none": (ROWS, {}, ["tuner"], ["'tuner': an override is written key=value"]),
    "a label of the wrong type": (
        [*ROWS, {"id": "x", "text": "dim", "intent": 3, "slots": "none"}],
        {},
        [],
        ["manifest.jsonl, line 5: field 'intent' is 3, a string is needed", "line 5: field 'slots' is \"none\""],
    ),
    "doubled ids": ([*ROWS, ROWS[0]], {}, [], ["line 5: id 'a' stands on line 1 already"]),
    "lines that are no JSON": (
        [*ROWS, "{oops", "[]"],
        {},
        [],
        ["2 problems", "line 5: is not one JSON object", "line 6: is a list"],
    ),
    "an empty pool": ([ROWS[0], ROWS[3]], {"scheme": "speech_only"}, [], ["speech_only needs recordings"]),
    "an empty manifest": ([], {}, [], ["has no training rows at all"]),
    "a share that gives no item": (
        ROWS,
        {},
        ["data.speech_share=0.1"],
        ["0.1 of 1 recordings is less than half a recording"],
    ),
    "more recordings than there are": (
        ROWS,
        {},
        ["data.speech_items=9"],
        ["9 recordings are asked for and the pool has 1"],
    ),
    "a speaker on both sides": (
        [*ROWS[:2], *({**row, "speaker": "ann"} for row in ROWS[2:])],
        {},
        [],
        ["1 speaker in training and in test", "speaker 'ann'"],
    ),
    "a manifest that is not there": (ROWS, {}, ["data.root=nowhere.jsonl"], ["nowhere.jsonl does not exist"]),
    "recordings that are not there": (
        [*ROWS, {"id": "x", "audio": "x.flac", "intent": "on"}, {"id": "y", "audio": "y.flac", "intent": "on"}],
        {},
        [],
        ["2 recordings cannot be used", "x.flac: there is no such file", "y.flac: there is no such file"],
    ),
    "a path that leaves the folder": (
        [*ROWS, {"id": "x", "audio": "../x.wav.mp3", "intent": "on"}],
        {},
        [],
        ["line 5: field 'audio': '../x.wav.mp3' leaves the data folder", "data.allow_outside_paths: true"],
    ),
    "no labels at all": (
        [{"id": "x", "text": "dim", "label": "dim"}],
        {"scheme": "text_only"},
        [],
        ["none of the 1 training rows has an 'intent', 'slots' or 'answers'", "label"],
    ),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """All mistakes of training, each in its own process, two at a time."""

    def run(item):
        name, (rows, sections, arguments, _) = item
        folder = tmp_path_factory.mktemp("mistake", numbered=True)
        project(folder, rows, **sections)
        before = files(folder)
        return name, (lalm(folder, "train", "recipe.yaml", "--out", "run", *arguments), before, files(folder))

    with ThreadPoolExecutor(2) as threads:
        return dict(threads.map(run, MISTAKES.items()))


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_said_without_torch_and_nothing_is_written(outcomes, name):
    result, before, after = outcomes[name]
    said = paragraph(result)
    for part in MISTAKES[name][3]:
        assert part in said
    assert after == before


def test_all_recordings_that_are_no_sound_are_listed_before_any_model(tmp_path):
    project(tmp_path)
    reasons = spoilt(tmp_path, "s.wav")
    rows = [*ROWS, *({"id": name, "audio": name, "intent": "on"} for name in reasons)]
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    said = paragraph(lalm(tmp_path, "train", "recipe.yaml", "--out", "run"))
    for name, reason in reasons.items():
        assert f"{name}: {reason}" in said
    assert not (tmp_path / "run").exists()


def test_samples_that_are_no_numbers_are_found_before_any_model(tmp_path):
    project(tmp_path)
    soundfile.write(tmp_path / "s.wav", np.full(8000, np.nan), 16_000, subtype="FLOAT")
    for command in (("train", "recipe.yaml", "--out", "run"), ("check", "recipe.yaml")):
        said = paragraph(lalm(tmp_path, *command))
        assert "1 of 2 recordings cannot be used" in said
        assert "s.wav: holds NaN or infinite samples, 8000 of 8000" in said
    assert not (tmp_path / "run").exists()


def test_transcribe_names_every_file_that_is_no_sound_before_any_model(tmp_path):
    project(tmp_path)
    reasons = spoilt(tmp_path, "s.wav")
    soundfile.write(tmp_path / "nan.wav", np.full(80, np.nan), 16_000, subtype="FLOAT")
    reasons |= {"nan.wav": "holds NaN", "missing.wav": "there is no such file", ".": "there is no such file"}
    said = paragraph(lalm(tmp_path, "transcribe", "s.wav", *reasons))
    assert "7 of 8 recordings cannot be used" in said
    for name, reason in reasons.items():
        assert f"- {name}: {reason}" in said
    assert not (tmp_path / "home").exists()


OTHER_MISTAKES = {
    "a recipe that is not there": (["train", "gone.yaml"], ["gone.yaml: cannot be read (No such file or directory)"]),
    "a recipe that is no YAML": (["check", "bad.yaml"], ["bad.yaml: line 2, column 1", "not valid YAML"]),
    "a recipe that is binary": (["train", "s.wav"], ["s.wav: is not a UTF-8 text file"]),
    "a command that does not exist": (["trian", "recipe.yaml"], ["invalid choice: 'trian'", "Did you mean 'train'?"]),
    "an option that does not exist": (["train", "recipe.yaml", "--resum"], ["--resum"]),
    "a run folder that holds something else": (
        ["train", "recipe.yaml", "--out", "."],
        [". already holds a run of another recipe"],
    ),
    "a run that is none": (["predict", "nowhere"], ["nowhere is not a finished run folder: recipe.yaml is missing"]),
    "predictions that are not there": (["score", "gone.jsonl"], ["gone.jsonl"]),
    "a study that is not there": (["study", "gone.yaml"], ["gone.yaml: cannot be read"]),
    "a kind that does not exist": (["ls", "tuner"], ["Unknown plug-in kind 'tuner'", "Did you mean 'tuners'?"]),
    "sentences in a format that is not read": (
        ["init", "--text", "s.wav", "--out", "new"],
        ["'.wav' files are not read"],
    ),
    "sentences without labels": (
        ["init", "--text", "plain.csv", "--out", "new"],
        ["plain.csv: no column looks like labels"],
    ),
    "a project that is there already": (
        ["init", "--text", "labels.csv", "--out", "."],
        ["manifest.jsonl exists already"],
    ),
}


@pytest.fixture(scope="module")
def other_outcomes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("others")
    project(folder)
    (folder / "bad.yaml").write_text("data: [1, 2\n", encoding="utf-8")
    (folder / "plain.csv").write_text("text,number\nsay it now,1\nno it is not,2\n", encoding="utf-8")
    (folder / "labels.csv").write_text("text,intent\nsay it now,say\n", encoding="utf-8")
    before = files(folder)
    with ThreadPoolExecutor(2) as threads:
        results = list(threads.map(lambda item: lalm(folder, *item[0]), OTHER_MISTAKES.values()))
    assert files(folder) == before
    return dict(zip(OTHER_MISTAKES, results, strict=True))


@pytest.mark.parametrize("name", OTHER_MISTAKES)
def test_other_mistakes_are_said_too(other_outcomes, name):
    said = paragraph(other_outcomes[name])
    for part in OTHER_MISTAKES[name][1]:
        assert part in said


# A full disk: writes beyond a number of bytes fail in the kernel (EFBIG), as they do on a full one (ENOSPC).


def test_a_disk_that_is_full_while_a_manifest_is_written_leaves_nothing(tmp_path):
    rows = [{"text": f"say number {i}", "intent": "say"} for i in range(200)]
    (tmp_path / "l.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    before = files(tmp_path)
    said = paragraph(lalm(tmp_path, "init", "--text", "l.jsonl", "--out", "new", max_file_bytes=4096))
    assert "new/manifest.jsonl: cannot be written (File too large). Nothing was changed there." in said
    assert files(tmp_path) == before


def test_a_disk_that_is_full_while_weights_are_written_leaves_no_half_checkpoint(tmp_path, monkeypatch):
    project(tmp_path, **SMOL)
    arguments = ("train", "recipe.yaml", "--out", "run", "train.save_steps=1")
    said = paragraph(lalm(tmp_path, *arguments, torch=True, max_file_bytes=16_384))
    assert "run/checkpoint-1: cannot be written (" in said.splitlines()[-1]
    assert "File too large" in said
    left = files(tmp_path / "run")
    assert not [name for name in left if "checkpoint" in name or "adapter" in name or "part" in name]
    assert "run.json" not in left
    # with room again the same command, resumed, goes on to the end
    monkeypatch.chdir(tmp_path)
    assert main([*arguments, "--resume"]) == 0
    assert {"run.json", "adapter/adapter_model.safetensors"} <= set(files(tmp_path / "run"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_an_output_that_is_full_is_said(tmp_path):
    with open("/dev/full", "w", encoding="utf-8") as full:
        said = paragraph(lalm(tmp_path, "ls", stdout=full))
    assert "No space left on device" in said
