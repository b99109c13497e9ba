"""Dialogues with a tiny model that was taught to ask back, and with one that says what it is told to: who is given what."""

from __future__ import annotations

import json
import resource
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from prediction_rows import rows_of
from tones import HIGH, LOW, RATE_HZ, tone

from lalm.backbones._tiny import tiny_llama
from lalm.cli import main
from lalm.config import Recipe, parse_recipe
from lalm.data import audio, noise
from lalm.data.manifest import write_manifest
from lalm.errors import DataError, UserError
from lalm.evaluate.dialogue import converse, converse_run
from lalm.evaluate.predict import load_run
from lalm.evaluate.robustness import write_noisy
from lalm.records import Clarification, Example, Turn, Utterance
from lalm.rundir import RunDir, read_json
from lalm.study.single import train
from lalm.train.setup import load_model

ASK, STORY = tone(600, 0.4), Turn("narrator", "tom is black, kit is white")


def recipe_of(root: Path, **sections: Any) -> Recipe:
    return parse_recipe(
        {
            "data": {"corpus": "jsonl", "root": str(root)},
            "backbone": {"name": "smol", "tiny": True, "connector": "mlp"},
            "task": {"name": "response_generation", "instruction": "?"},
            "tuner": "full",
            "scheme": {"name": "speech_only", "num_train_epochs": 60},
            "train": {
                "groups": ["llm.attention", "llm.mlp", "llm.embeddings", "connector"],
                "learning_rate": 1e-2,
                "per_device_train_batch_size": 4,
            },
            "evaluate": {"max_new_tokens": 12, "metrics": ["squad_em", "clarification_recall"], "num_resamples": 50},
            **sections,
        },
        root,
    )


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model taught to ask back after a tone, to tell a low reply from a high one, and to answer a written question."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("asking")
    rows = []
    for split, loudness in (("train", 1.0), ("test", 0.9)):
        for name, samples in (("ask", ASK), ("low", LOW), ("high", HIGH)):
            soundfile.write(root / f"{split}-{name}.wav", loudness * samples, RATE_HZ, subtype="FLOAT")
        low, high, ask = (root / f"{split}-{name}.wav" for name in ("low", "high", "ask"))
        asked = Clarification("which?", ((Turn("user", None, low), ("tom",)), (Turn("user", None, high), ("kit",))))
        row = Utterance(f"{split}-a", turns=(STORY, Turn("user", None, ask)), clarification=asked, split=split)
        clear = replace(row, id=f"{split}-b", clarification=None, answers=("yes",), question="is tom black?")
        rows += [row, replace(clear, turns=(STORY, Turn("narrator", None, ask)))]
    write_manifest(root / "manifest.jsonl", [replace(row, source="recorded", meta={"passage": "p"}) for row in rows])
    try:
        return train(recipe_of(root), root / "run", quiet=True).root
    finally:
        torch.set_num_threads(num_threads)


@pytest.fixture
def talker(taught: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "run"
    shutil.copytree(taught, copy)
    return copy


def said(trajectory: dict[str, Any]) -> list[str | None]:
    return [turn["text"] for turn in trajectory["turns"]]


def test_the_reply_is_heard_and_answered(talker: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["converse", str(talker)]) == 0
    shown = capsys.readouterr().out
    assert "2 dialogues, 1 ambiguous, at most 3 turns of the model" in shown
    assert shown.rstrip().endswith(f"Done: {talker / 'scores' / 'test-dialogue.json'}")
    first, second, clear = rows_of(talker / "dialogues" / "test.jsonl")
    # nothing but the recording of the reply tells the two apart
    assert (said(first), said(second)) == (["which?", None, "tom"], ["which?", None, "kit"])
    assert [one["turns"][1]["audio"].rpartition("/")[2] for one in (first, second)] == ["test-low.wav", "test-high.wav"]
    assert (said(clear), clear["request"], clear["reply"]) == (["yes"], "is tom black?", None)
    summary = read_json(talker / "scores" / "test-dialogue.json")
    assert (summary["num"], summary["num_ambiguous"], summary["num_passages"], summary["num_left_out"]) == (2, 1, 1, 0)
    assert {name: score["value"] for name, score in summary["metrics"].items()} == {
        **dict.fromkeys(("turn_em", "turn_f1", "trajectory_em", "trajectory_f1", "question_overlap"), 1.0),
        **dict.fromkeys(("clarification_recall", "clarification_precision"), 1.0),
        "asks_when_clear": 0.0,
    }
    (talker / "predictions").mkdir(exist_ok=True)
    (talker / "predictions" / "test-dialogues.jsonl").touch()
    assert RunDir(talker).sets() == ["test-dialogues"], "a set of that name is a set, the summary is none"


def test_asking_and_answering_where_it_is_wrong(talker: Path, taught: Path, tmp_path: Path):
    """The same sounds with other annotations: what the model does is wrong then."""
    audio = taught.parent / "test-ask.wav"
    shutil.copy(audio, tmp_path / "ask.wav")
    heard = Turn("user", None, tmp_path / "ask.wav")
    replies = ((Turn("user", "the black"), ("yes",)), (Turn("user", "the white"), ("no",)))
    rows = [
        Utterance("clear", turns=(STORY, heard), answers=("tom",), source="recorded"),
        Utterance(
            "unclear",
            turns=(STORY, replace(heard, role="narrator")),
            question="is tom black?",
            clarification=Clarification("who?", replies),
            source="recorded",
        ),
    ]
    write_manifest(tmp_path / "others.jsonl", [*rows, Utterance("no dialogue", "hello")])
    summary = read_json(converse_run(talker, tmp_path / "others.jsonl"))
    clear, one, other = rows_of(talker / "dialogues" / "others.jsonl")
    assert (said(clear), said(one), said(other)) == (["which?"], ["yes"], ["yes"])
    assert (one["answers"], other["answers"]) == (["yes"], ["no"])
    values = {name: score["value"] for name, score in summary["metrics"].items()}
    # the clear request has no answer; the unclear one was answered as one of two users wanted
    assert values["trajectory_em"] == (0 + 1 / 2) / 2
    assert values["turn_em"] == 0, "one answer was due, a question came"
    assert (values["asks_when_clear"], values["clarification_recall"], values["clarification_precision"]) == (1, 0, 0)
    assert (values["question_overlap"], summary["num_left_out"]) == (None, 1)


def test_with_noise_too(talker: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "hiss").mkdir()
    soundfile.write(tmp_path / "hiss" / "a.flac", 0.1 * np.random.default_rng(0).standard_normal(RATE_HZ), RATE_HZ)
    assert main(["converse", str(talker), "--noise", str(tmp_path / "hiss"), "--snr=60,-30"]) == 0
    assert "  -30 dB" in capsys.readouterr().out
    clean = rows_of(talker / "dialogues" / "test.jsonl")
    soft, loud = (rows_of(talker / "dialogues" / f"test-snr{level}.jsonl") for level in ("60", "-30"))
    assert [said(one) for one in soft] == [said(one) for one in clean], "a thousandth of the amplitude"
    assert [one["turns"][1]["audio"] for one in soft[:2]] == [one["turns"][1]["audio"] for one in clean[:2]]
    assert {one["snr_db"] for one in loud} == {-30.0}
    summary = read_json(talker / "scores" / "test-dialogue.json")
    assert [level["snr_db"] for level in summary["levels"]] == [60.0, -30.0]
    assert summary["levels"][0]["metrics"]["trajectory_em"]["difference_to_clean"]["difference"] == 0
    assert summary["noise"]["files"] == ["a.flac"]


def test_noise_reaches_the_recordings_of_turns_in_predictions(talker: Path, tmp_path: Path):
    (tmp_path / "hiss").mkdir()
    soundfile.write(tmp_path / "hiss" / "a.flac", 0.1 * np.random.default_rng(0).standard_normal(RATE_HZ), RATE_HZ)
    assert main(["predict", str(talker), "--noise", str(tmp_path / "hiss"), "--snr", "60"]) == 0
    clean, noisy = (rows_of(talker / "predictions" / f"{name}.jsonl") for name in ("test", "test-snr60"))
    assert len(clean) == 4
    assert [(row["raw"], row["turns"]) for row in noisy] == [(row["raw"], row["turns"]) for row in clean]
    assert read_json(talker / "scores" / "test-robustness.json")["levels"][0]["metrics"]["squad_em"]["value"] == 1


def test_a_recording_of_many_rows_is_mixed_once_and_replies_are_too(tmp_path: Path):
    for name, samples in (("story", ASK), ("reply", LOW)):
        soundfile.write(tmp_path / f"{name}.wav", samples, RATE_HZ, subtype="FLOAT")
    story, reply = (Turn("narrator", None, tmp_path / f"{name}.wav") for name in ("story", "reply"))
    rows = [
        replace(ROW, id=name, turns=(story, *ROW.turns[1:]), clarification=Clarification("?", ((reply, ("tom",)),)))
        for name in ("a", "b")
    ]
    (tmp_path / "copies").mkdir()
    hiss = 0.1 * np.random.default_rng(0).standard_normal(RATE_HZ).astype(np.float32)
    a, b = write_noisy(rows, tmp_path / "copies", [hiss], 10.0, 3)
    assert a.turns == b.turns
    assert len(list((tmp_path / "copies").iterdir())) == 2
    assert a.clarification is not None
    copies = (a.turns[0].audio, a.clarification.replies[0][0].audio)
    for path, samples, name in zip(copies, (ASK, LOW), ("story.wav", "reply.wav"), strict=True):
        assert path is not None
        mixed = noise.mix(samples, [hiss], 10.0, noise.generator(3, name))
        assert audio.load(path) == pytest.approx(mixed, abs=2**-23)
        assert np.abs(audio.load(path) - samples).max() > 0.01


class Told:
    """A model that says what it is told to, in order, and keeps what it was given."""

    def __init__(self, *answers: str) -> None:
        self.answers: list[str] = list(answers)
        self.given: list[Example] = []
        self.module = torch.nn.Linear(1, 1)

    def num_tokens(self, example: Example) -> int:
        return len(example.turns)

    def generate(self, examples: Sequence[Example], *options: Any) -> list[str]:
        self.given += examples
        return [self.answers.pop(0) for _ in examples]


ROW = Utterance(
    "d",
    turns=(STORY, Turn("user", "who is there?"), Turn("assistant", "tom and kit"), Turn("user", "what is it called?")),
    clarification=Clarification("which cat?", ((Turn("user", "the black one"), ("tom",)),)),
)


def test_what_the_model_is_given(tmp_path: Path):
    model = Told(" Which one? ", "who?", "Tom.")
    (found,) = converse(model, recipe_of(tmp_path), [ROW], 3)
    assert said(found) == ["Which one?", "the black one", "who?", "the black one", "Tom."], (
        "asked again, the user says it again"
    )
    reply = Turn("user", "the black one")
    question = Turn("assistant", "Which one?")
    assert [one.turns for one in model.given] == [
        ROW.turns,
        (*ROW.turns, question, reply),
        (*ROW.turns, question, reply, Turn("assistant", "who?"), reply),
    ]
    assert {one.instruction for one in model.given} == {"?"}
    (short,) = converse(Told("a?", "b?", "c"), recipe_of(tmp_path), [ROW], 2)
    assert said(short) == ["a?", "the black one", "b?"], "no third turn, and nobody replies to the last question"
    replies = tuple((Turn("user", words), (words,)) for words in ("black", "white"))
    two = replace(ROW, clarification=Clarification("which cat?", replies))
    found = converse(Told("a?", "b?", "c?", "d", "e"), recipe_of(tmp_path), [two], 3)
    assert [said(one) for one in found] == [["a?", "black", "b?", "black", "d"], ["a?", "white", "c?", "white", "e"]]
    for task in ("answer", "response_generation"):
        model = Told("Which?", "Tom")
        written = replace(ROW, turns=ROW.turns[:1], question="what is it called?", context="cats")
        (found,) = converse(model, recipe_of(tmp_path, task=task), [written], 3)
        asked = (Turn("narrator", "cats"), STORY, Turn("user", "what is it called?"))
        assert [one.turns for one in model.given] == [asked, (*asked, Turn("assistant", "Which?"), reply)]
        assert found["request"] == "what is it called?"


def test_a_language_model_words_what_the_user_means(tmp_path: Path):
    def write(prompts: Sequence[str], max_new_tokens: int, what: str = "") -> list[str]:
        return [
            "I mean the black one, please." if 'You mean this: "black"' in prompt else "Well." for prompt in prompts
        ]

    replies = tuple((Turn("user", words), (words,)) for words in ("black", "white"))
    two = replace(ROW, clarification=Clarification("which cat?", replies))
    model = Told("a?", "b?", "c", "d")
    black, white = converse(model, recipe_of(tmp_path), [two], 3, write=write)
    # asked again, the model of the user is asked again; words that do not tell black from white are not taken
    assert said(black) == ["a?", "I mean the black one, please.", "b?", "I mean the black one, please.", "d"]
    assert said(white) == ["a?", "white", "c"]
    assert [turn.get("by") for one in (black, white) for turn in one["turns"] if turn["role"] == "user"] == [
        "model",
        "model",
        "annotation",
    ]
    assert model.given[1].turns[-1] == Turn("user", "I mean the black one, please.")
    assert (black["answers"], white["answers"]) == (["black"], ["white"])


def test_the_user_may_be_a_model_of_this_machine(talker: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for part in tiny_llama():
        part.save_pretrained(tmp_path / "user")
    assert main(["converse", str(talker), "--user", str(tmp_path / "user")]) == 0
    assert f"0 replies in the words of {tmp_path / 'user'}, 2 in the annotation's" in capsys.readouterr().out
    first, second, _ = rows_of(talker / "dialogues" / "test.jsonl")
    assert (said(first), said(second)) == (["which?", None, "tom"], ["which?", None, "kit"]), "replies without words"
    summary = read_json(talker / "scores" / "test-dialogue.json")
    assert summary["user"] == {"model": str(tmp_path / "user"), "num_worded": 0, "num_annotated": 2}
    assert main(["converse", str(talker), "--user", str(tmp_path / "nowhere")]) == 2
    assert "there is no such folder" in capsys.readouterr().err


def test_mistakes_are_said_before_the_model_is_loaded(talker: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["converse", str(talker), "--snr", "6"]) == 2
    assert "--snr belongs to --noise" in capsys.readouterr().err
    assert main(["converse", str(talker), "--max-turns", "0"]) == 2
    assert "a number from 1 is needed" in capsys.readouterr().err
    assert main(["converse", str(talker), "--noise", str(tmp_path), "--snr", "6", "--seed", "-1"]) == 2
    assert "--seed -1" in capsys.readouterr().err
    (talker / "adapter").rename(tmp_path / "away")  # a model that were loaded would be missed
    write_manifest(tmp_path / "plain.jsonl", [Utterance("a", "hello")])
    with pytest.raises(UserError, match="'plain' holds no rows with 'turns'"):
        converse_run(talker, tmp_path / "plain.jsonl")
    write_manifest(tmp_path / "lost.jsonl", [replace(ROW, turns=(STORY, Turn("user", None, tmp_path / "no.wav")))])
    with pytest.raises(DataError, match=r"no\.wav"):
        converse_run(talker, tmp_path / "lost.jsonl")
    write_manifest(tmp_path / "written.jsonl", [ROW])
    (tmp_path / "hiss").mkdir()
    soundfile.write(tmp_path / "hiss" / "a.flac", 0.1 * np.random.default_rng(0).standard_normal(RATE_HZ), RATE_HZ)
    with pytest.raises(UserError, match="'written' holds no recordings"):
        converse_run(talker, tmp_path / "written.jsonl", noise_folder=tmp_path / "hiss", snr_db="6")
    recipe = talker / "recipe.yaml"
    text = recipe.read_text(encoding="utf-8")
    other = text.replace("name: response_generation", "name: slu").replace("  after_reply: true\n", "")
    recipe.write_text(other, encoding="utf-8")
    with pytest.raises(UserError, match="The task slu of this run asks nothing about row 'd'"):
        converse_run(talker, tmp_path / "written.jsonl")
    recipe.write_text(text.replace("constrained: false", "constrained: true"), encoding="utf-8")
    with pytest.raises(UserError, match="obey a grammar"):
        converse_run(talker, tmp_path / "written.jsonl")
    assert not (talker / "dialogues").exists()


NUM_TURNS, TURN_S = 10, 30.0
MOST_CPU_S, MOST_MB = 20.0, 400


def test_ten_turns_and_five_minutes_of_audio_stay_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The bounds that docs/questions.md states for the tiny model, which the machinery alone is measured with."""
    monkeypatch.setenv("LALM_CACHE_GB", "0")
    rng = np.random.default_rng(0)
    roles = ["narrator"] * 5 + ["user", "assistant"] * 2 + ["user"]
    turns = []
    for number, role in enumerate(roles):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, 0.1 * rng.standard_normal(int(TURN_S * RATE_HZ)), RATE_HZ)
        turns.append(Turn(role, None, path, TURN_S))
    assert len(turns) == NUM_TURNS
    row = Utterance("long", turns=tuple(turns), clarification=ROW.clarification, source="recorded")
    pooled = {"name": "smol", "tiny": True, "connector": {"name": "mlp", "stack": 13}}
    recipe = recipe_of(tmp_path, backbone=pooled)
    model = load_model(recipe)
    model.module.eval()
    before_mb, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, time.process_time()
    (found,) = converse(model, recipe, [row], 3)
    assert found["turns"]
    assert time.process_time() - started < MOST_CPU_S
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before_mb < MOST_MB


def test_the_example_of_the_format_is_what_is_written(talker: Path):
    main(["converse", str(talker)])
    text = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
    example = next(block for block in text.split("```json\n")[1:] if '"d7-3", "passage"' in block).split("```")[0]
    assert set(json.loads(example)) == set(rows_of(talker / "dialogues" / "test.jsonl")[0])
    assert load_run(talker)[0].task.name == "response_generation"
