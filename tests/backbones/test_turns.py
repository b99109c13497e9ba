"""Rows with turns on every backbone: each recording is heard in its place, in any batch, between the words around it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from lalm import plugins
from lalm.errors import DataError
from lalm.records import Example, Turn

ONE_RECORDING = ("qwen3_asr",)  # their chat templates have no place for words around a recording
NAMES = [name for name in plugins.names("backbones") if name not in ONE_RECORDING]
RATE_HZ = 16_000
INSTRUCTION = "Answer the last question."
NOISE, HEARD = 1e-5, 1e-4  # relative: rounding, and what another sound must change at least


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sounds")
    for name, seconds, pitch_hz in (("low", 0.9, 110), ("high", 0.9, 220), ("short", 0.4, 140), ("long", 1.6, 180)):
        time_s = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
        hum = sum(np.sin(2 * np.pi * pitch_hz * k * time_s) / k for k in range(1, 8))
        soundfile.write(folder / f"{name}.wav", 0.1 * hum * (0.6 + 0.4 * np.sin(8 * np.pi * time_s)), RATE_HZ)
    return {path.stem: path for path in folder.glob("*.wav")}


@pytest.fixture(scope="module", params=NAMES)
def model(request):
    return plugins.load("backbones", request.param).make_tiny(0)


def dialogue(sounds, *names: str | None, answer: str = "Tom") -> Example:
    """Passage, request, question asked back, reply; `names` are the recordings (None: a turn in writing)."""
    roles = ("narrator", "user", "assistant", "user")
    words = ("Two cats.", "Its name?", "Which one?", "The red one.")
    turns = tuple(
        Turn(role, text, None if name is None else sounds[name])
        for role, text, name in zip(roles, words, names, strict=True)
    )
    return Example("-".join(map(str, names)), INSTRUCTION, answer, turns=turns, answers=(answer,))


def mixed(sounds) -> list[Example]:
    return [
        dialogue(sounds, "low", "short", None, "high"),
        Example("one", INSTRUCTION, "{}", audio=sounds["low"]),
        dialogue(sounds, None, None, None, None, answer="Kit and Tom"),
        Example("text", INSTRUCTION, "[]", text="turn on the light"),
        dialogue(sounds, "long", None, None, None),
    ]


def nll(model, examples) -> torch.Tensor:
    with torch.no_grad():
        return model.loss(model.batch(examples))[0].double()


def test_each_recording_is_heard_in_its_own_place(model, sounds):
    row = dialogue(sounds, "low", "short", None, "high")
    before = nll(model, [row])
    assert torch.equal(before, nll(model, [dialogue(sounds, "low", "short", None, "high")]))
    for other in (("high", "short", None, "high"), ("low", "short", None, "low"), ("high", "short", None, "low")):
        assert not torch.allclose(before, nll(model, [dialogue(sounds, *other)]), rtol=HEARD, atol=0), other


def test_the_prompt_has_a_line_a_turn_with_its_speaker(model, sounds):
    rows = [dialogue(sounds, "low", None, None, "short"), dialogue(sounds, None, None, None, None)]
    spoken, written = model.batch(rows).decoded_prompts(model.tokenizer)
    for prompt, first, last in ((spoken, "[audio]", "[audio]"), (written, "Two cats.", "The red one.")):
        assert prompt.count("[audio]") == (2 if prompt is spoken else 0)
        at = [prompt.index(part) for part in (INSTRUCTION, "Narrator: ", first, "User: ", "Its name?", "Assistant: ")]
        assert at == sorted(at)
        assert prompt.rindex("User: ") < prompt.rindex(last)
    assert "\nUser: Its name?\nAssistant: Which one?\nUser: " in spoken
    assert "Narrator: Two cats.\nUser: Its name?\nAssistant: Which one?\nUser: The red one." in written


def test_a_batch_of_mixed_rows_equals_batches_of_one(model, sounds):
    rows = mixed(sounds)
    together = nll(model, rows)
    alone = torch.cat([nll(model, [row]) for row in rows])
    assert torch.allclose(together, alone, rtol=NOISE, atol=0), (together, alone)
    assert model.generate(rows, 8) == [model.generate([row], 8)[0] for row in rows]


def test_placeholders_are_as_many_as_what_is_heard_of_all_turns(model, sounds):
    rows = mixed(sounds)
    places, vectors = model.audio_positions(rows)
    assert places == vectors == sum(model.audio_positions([row])[0] for row in rows)
    single = [
        model.audio_positions([Example(name, INSTRUCTION, "", audio=sounds[name])])[0]
        for name in ("low", "short", "high")
    ]
    assert model.audio_positions(rows[:1]) == (sum(single), sum(single))
    assert model.audio_positions([rows[2]]) == (0, 0)


def test_a_recording_of_a_turn_written_anew_is_heard_anew(model, sounds, tmp_path):
    path = tmp_path / "clip.wav"
    row = dialogue({"clip": path, **sounds}, "low", "clip", None, None)
    path.write_bytes(sounds["low"].read_bytes())
    first = nll(model, [row])
    path.write_bytes(sounds["high"].read_bytes())
    assert torch.equal(first, nll(model, [dialogue(sounds, "low", "low", None, None)]))
    assert torch.equal(nll(model, [row]), nll(model, [dialogue(sounds, "low", "high", None, None)]))


def test_content_names_every_turn(model, sounds):
    rows = [
        dialogue(sounds, "low", "short", None, "high"),
        dialogue(sounds, "low", "short", None, "low"),
        dialogue(sounds, "short", "low", None, "high"),
        dialogue(sounds, "low", None, None, "high"),
        dialogue(sounds, None, None, None, None),
    ]
    first = rows[4].turns
    rows.append(replace(rows[4], turns=(replace(first[0], role="user"), *first[1:])))
    keys = [model.content(row) for row in rows]
    assert len(set(keys)) == len(keys)
    assert [model.content(replace(row, id="other", answers=())) for row in rows] == keys


def test_what_is_wrong_with_a_turn_is_said_with_the_row(model, sounds, tmp_path):
    with pytest.raises(DataError, match=r"(?s)'gone'.*gone\.wav"):
        model.batch(
            [replace(dialogue({"gone": tmp_path / "gone.wav", **sounds}, "low", "gone", None, None), id="gone")]
        )
    with pytest.raises(DataError, match=r"'empty'.*turn 2 has neither text nor audio"):
        model.batch([Example("empty", INSTRUCTION, "", turns=(Turn("user", "a"), Turn("user")))])


@pytest.mark.parametrize("name", ONE_RECORDING)
def test_a_family_without_a_place_for_turns_says_so_and_reads_written_ones(name, sounds):
    model = plugins.load("backbones", name).make_tiny(0)
    with pytest.raises(DataError, match=rf"'low-None-None-None': it has turns with recordings.*{name}.*Choose another"):
        model.batch([dialogue(sounds, "low", None, None, None)])
    (prompt,) = model.batch([dialogue(sounds, None, None, None, None)]).decoded_prompts(model.tokenizer)
    assert "Narrator: Two cats.\nUser: Its name?\nAssistant: Which one?\nUser: The red one." in prompt


@pytest.mark.parametrize("name", plugins.names("backbones"))
def test_more_vectors_than_are_allowed_are_an_error_that_names_the_row(name, sounds):
    backbone = plugins.load("backbones", name)
    free = backbone.load(backbone.Config(tiny=True))
    row = Example("clip", INSTRUCTION, "{}", audio=sounds["long"])
    number = free.audio_positions([row])[0]
    assert backbone.load(backbone.Config(tiny=True, max_audio_vectors=number)).audio_positions([row])[0] == number
    bounded = backbone.load(backbone.Config(tiny=True, max_audio_vectors=number - 1))
    with pytest.raises(DataError, match=rf"'clip': its 1 recording take {number} vectors.*allows {number - 1}"):
        bounded.batch([row])
    assert bounded.batch([Example("text", INSTRUCTION, "{}", text="turn on the light")])
