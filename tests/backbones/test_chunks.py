"""Long recordings: cut in pauses, heard chunk by chunk, as many vectors as the length asks, the same as cut by hand."""

from __future__ import annotations

import math
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from transformers import WhisperFeatureExtractor

from lalm import plugins
from lalm.backbones._chunks import CUT, SLACK_S, chunks_of, cut, joined, separate
from lalm.backbones._composed_model import ComposedModel
from lalm.backbones._encoder import AudioEncoder
from lalm.backbones._listening import Listening
from lalm.backbones._tiny import byte_tokenizer, tiny_llm, tiny_whisper
from lalm.config import PluginChoice
from lalm.connectors import mlp
from lalm.data import audio
from lalm.data.cache import PreparedCache
from lalm.data.spec_augment import FeatureChanges
from lalm.errors import DataError
from lalm.records import Example, Turn

RATE_HZ = 16_000
LONGEST = int(29.5 * RATE_HZ)  # thirty seconds of positions, half a second of margin
PAUSES_S = (22.0, 47.5)


def speech(seconds: float, pauses_s: tuple[float, ...] = ()) -> np.ndarray:
    """Noise that swells, with pauses of 0.3 s in which it is softer by 60 dB."""
    time_s = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    loud = 0.1 * (1.2 + np.sin(2 * np.pi * 3 * time_s))
    for pause_s in pauses_s:
        loud[np.abs(time_s - pause_s) < 0.15] = 1e-4
    return (loud * np.random.default_rng(int(10 * seconds)).standard_normal(len(time_s))).astype(np.float32)


@pytest.fixture(scope="module")
def passage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("long") / "passage.wav"
    soundfile.write(path, speech(70.0, PAUSES_S), RATE_HZ, subtype="FLOAT")
    return path


def make(stack: int = 5, cache: PreparedCache | None = None) -> ComposedModel:
    torch.manual_seed(0)
    whisper, tokenizer = tiny_whisper(), byte_tokenizer()
    llm = tiny_llm(len(tokenizer))
    connector = mlp.build(24, llm.config.hidden_size, mlp.Config(stack=stack))
    encoder = AudioEncoder(whisper.model.encoder, WhisperFeatureExtractor())
    return ComposedModel(encoder, connector, llm, tokenizer, identity={}, cache=cache)


def example(path: Path) -> Example:
    return Example("passage", "Say it again.", "yes", audio=path)


def vectors(model: ComposedModel, path: Path) -> torch.Tensor:
    with torch.no_grad():
        return model.module._audio_vectors(model.row(example(path)).recordings)[0]


def test_chunks_are_all_of_the_recording_cut_in_its_pauses():
    sound = speech(70.0, PAUSES_S)
    parts = cut(sound, LONGEST)
    assert np.array_equal(np.concatenate(parts), sound)
    ends_s = np.cumsum([len(part) for part in parts])[:-1] / RATE_HZ
    assert np.abs(ends_s - np.array(PAUSES_S)).max() < 0.1
    assert len(cut(sound[:LONGEST], LONGEST)) == 1
    assert np.array_equal(cut(sound[:LONGEST], LONGEST)[0], sound[:LONGEST])


@pytest.mark.parametrize("seconds", [29.6, 47.0, 47.1, 59.0, 61.3, 300.0])
@pytest.mark.parametrize("kind", ["noise", "silence", "pauses on the edge"])
def test_no_chunk_is_longer_than_is_heard_and_none_is_a_scrap(seconds, kind):
    number = int(seconds * RATE_HZ)
    sound = np.zeros(number, np.float32) if kind == "silence" else speech(seconds)
    if kind == "pauses on the edge":
        sound[int((seconds / 2 - SLACK_S) * RATE_HZ) :][:4000] = 0
        sound[int((seconds / 2 + SLACK_S) * RATE_HZ) - 4000 :][:4000] = 0
    parts = cut(sound, LONGEST)
    assert np.array_equal(np.concatenate(parts), sound)
    assert max(map(len, parts)) <= LONGEST
    assert min(map(len, parts)) > 5 * RATE_HZ
    if kind == "silence":  # nothing is quieter than anything else: equal chunks
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_long_recording_gives_the_vectors_of_its_chunks_and_as_many_as_its_length_asks(passage, tmp_path):
    model = make()
    heard = vectors(model, passage)
    parts = cut(audio.load(passage), LONGEST)
    by_hand = []
    for number, part in enumerate(parts):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, part, RATE_HZ, subtype="FLOAT")
        frames, mask = model.module.audio_encoder.frames([path])
        by_hand.append(model.module.connector(model.module.connector.prepare(frames.detach(), mask))[0][0])
    assert torch.allclose(heard, torch.cat(by_hand), atol=1e-5)
    # fifty frames a second of audio and margin, in whole frames, five of them a vector
    expected = sum(math.ceil(math.ceil((len(part) + RATE_HZ // 2) / 320) / 5) for part in parts)
    assert len(heard) == expected == model.audio_positions([example(passage)])[1]
    assert abs(expected - 10 * 70) <= 3 * (5 + 1)
    short = model.num_tokens(replace(example(passage), audio=None, text=""))
    assert model.num_tokens(example(passage)) == short + expected


def test_chunks_do_not_depend_on_the_batch_and_every_one_is_heard(passage, tmp_path):
    model = make()
    other = audio.load(passage).copy()
    other[-2 * RATE_HZ :] = other[-2 * RATE_HZ :][::-1]  # the end of the last chunk
    path = tmp_path / "other.wav"
    soundfile.write(path, other, RATE_HZ, subtype="FLOAT")
    before, after = vectors(model, passage), vectors(model, path)
    last = model.module.connector.num_vectors(model.row(example(passage)).recordings[0].chunks[-1])
    assert torch.allclose(before[:-last], after[:-last], atol=1e-5)
    assert not torch.allclose(before[-20:], after[-20:], atol=1e-3)
    rows = [example(passage), Example("t", "Say it again.", "no", text="a"), example(path)]
    with torch.no_grad():
        together = model.loss(model.batch(rows))[0]
        alone = torch.cat([model.loss(model.batch([row]))[0] for row in rows])
    assert torch.allclose(together, alone, rtol=1e-4)


def test_what_is_kept_on_disk_is_what_was_computed(passage, tmp_path):
    first = vectors(make(cache=PreparedCache(tmp_path / "heard")), passage)
    (kept,) = (tmp_path / "heard").rglob("*.safetensors")
    assert kept.relative_to(tmp_path / "heard").parts[0].endswith(CUT), "cut otherwise, it would be another entry"
    again = make(cache=PreparedCache(tmp_path / "heard"))
    again.module.audio_encoder.forward = None  # what is not kept would have to be encoded
    assert torch.equal(vectors(again, passage), first)
    item = {"frames": np.ones((3, 2), np.float32)}
    assert list(separate(joined([item]))) == [item]
    several = [{"ids": np.array([i]), "words": np.array([i, i])} for i in range(11)]
    for found, made in zip(separate(joined(several)), several, strict=True):
        assert len(found) == 2
        assert all(np.array_equal(found[name], made[name]) for name in made)


def test_an_encoder_in_training_hears_the_same_chunks(passage):
    model = make()
    frozen = vectors(model, passage)
    model.module.audio_encoder.requires_grad_(True)
    trained = model.module._audio_vectors(model.row(example(passage)).recordings)[0]
    assert torch.allclose(trained, frozen, atol=1e-5)
    trained[-1].sum().backward()  # through the last chunk
    assert model.module.audio_encoder.encoder.conv1.weight.grad.abs().sum() > 0


def test_encoders_on_waveforms_hear_at_most_thirty_seconds_at_once(passage):
    chunks = chunks_of(Listening("waveform"), passage)
    assert [len(chunk.samples) <= 30 * RATE_HZ for chunk in chunks] == [True] * 3
    assert sum(len(chunk.samples) for chunk in chunks) == 70 * RATE_HZ


def test_chunks_of_a_copy_are_altered_each_in_its_own_way(tmp_path):
    comment = FeatureChanges(seed=0, name="row/1").comment()
    audio.write_flac(tmp_path / "copy.flac", speech(70.0), RATE_HZ, comment)
    chunks = chunks_of(make().module.audio_encoder.listening, tmp_path / "copy.flac")
    assert [chunk.change.name for chunk in chunks] == ["row/1", "row/1/1", "row/1/2"]


def test_thirteen_frames_a_vector_bring_a_passage_to_less_than_four_vectors_a_second(passage):
    model = make(stack=13)
    number = len(vectors(model, passage))
    assert 3.5 * 70 < number <= 4 * 70
    five_minutes = Example("d", "Say it again.", "yes", turns=(Turn("narrator", None, passage),) * 4)
    assert model.audio_positions([five_minutes]) == (4 * number, 4 * number)
    assert model.num_tokens(five_minutes) < 2048


def test_a_passage_beyond_the_bound_is_an_error_and_nothing_is_cut(passage):
    backbone = plugins.load("backbones", "composed")
    options = {"tiny": True, "connector": PluginChoice.model_validate({"name": "mlp", "stack": 13})}
    number = len(vectors(backbone.load(backbone.Config(**options)), passage))
    model = backbone.load(backbone.Config(**options, max_audio_vectors=number - 1))
    with pytest.raises(DataError, match=rf"'passage': its 1 recording take {number} vectors.*nothing is cut"):
        model.batch([example(passage)])


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_what_the_embedded_model_hears_in_a_passage_is_less_than_four_vectors_a_second(smol_folder, tmp_path):
    """Words of a phone CTC head, blanks collapsed; the passage is spoken at 175 words a minute and does not fit one chunk."""
    words = "The game was played in the morning, and the people of the town came to see it. After that they went home. "
    path = tmp_path / "spoken.wav"
    subprocess.run(["espeak-ng", "-v", "en-us", "-w", str(path), 6 * words], check=True)
    backbone = plugins.load("backbones", "smol")
    model = backbone.load(backbone.Config(connector=PluginChoice(name="ctc")))
    seconds = audio.info(path).duration_s
    assert seconds > 30
    assert 2.0 * seconds < model.audio_positions([example(path)])[1] <= 4.0 * seconds
    (heard,) = model.heard([example(path)])
    assert heard.split().count("morning") == 6
