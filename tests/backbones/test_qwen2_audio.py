"""Qwen2-Audio against plain transformers: the same weights, the processor as it is, the class as it is, thirty seconds."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import nn
from transformers import Qwen2AudioForConditionalGeneration

from lalm.backbones import qwen2_audio
from lalm.backbones._native_rows import IGNORE
from lalm.records import Example

RATE_HZ = 16_000
TOLERANCE = 1e-4
INSTRUCTION = 'Return one line of JSON: {"intent": "<string>"}'
LENGTHS_S = {"a": 0.4, "b": 1.303, "c": 2.0, "d": 3.11, "whole": 30.0, "almost": 29.985}


@pytest.fixture(scope="module")
def model():
    return qwen2_audio.make_tiny(3)


@pytest.fixture(scope="module")
def plain(model):
    """The class with the same weights; nothing of lalm has touched it."""
    config = copy.deepcopy(model.module.config)
    config._attn_implementation = "sdpa"  # of all parts
    other = Qwen2AudioForConditionalGeneration(config)
    other.load_state_dict(model.module.state_dict())
    return other.eval()


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> dict[str, Path]:
    folder, rng = tmp_path_factory.mktemp("clips"), np.random.default_rng(5)
    for name, seconds in LENGTHS_S.items():
        noise = rng.standard_normal(int(seconds * RATE_HZ))
        swell = np.linspace(1.0, 0.05, len(noise))  # the loudest frame is not the last one
        soundfile.write(folder / f"{name}.flac", 0.1 * swell * noise, RATE_HZ)
    return {name: folder / f"{name}.flac" for name in LENGTHS_S}


def spoken(clips, name: str) -> Example:
    return Example(name, INSTRUCTION, '{"intent": "%s"}' % ("on" * len(name)), audio=clips[name])


def written(text: str) -> Example:
    return Example(text, INSTRUCTION, '{"intent": "%s"}' % ("on" * len(text)), text=text)


def batches(clips) -> dict[str, list[Example]]:
    texts = [written("turn on the light"), written("play jazz"), written("no")]
    speech = [spoken(clips, name) for name in ("b", "a", "d", "c")]
    return {
        "text": texts,
        "speech": speech,
        "mixed": [speech[0], texts[1], speech[2], texts[0], speech[1]],
        "whole": [spoken(clips, "whole"), texts[0], spoken(clips, "almost")],
    }


KINDS = ("text", "speech", "mixed", "whole")


def conversation(example: Example) -> list[dict]:
    said = [{"type": "audio", "audio_url": str(example.audio)}, {"type": "text", "text": example.instruction}]
    if example.audio is None:
        said = [{"type": "text", "text": f"{example.text}\n{example.instruction}"}]
    return [{"role": "user", "content": said}]


def processed(model, examples, with_answers: bool) -> dict[str, torch.Tensor]:
    """What transformers' own processor makes of chats and waveforms."""
    texts = [
        model.processor.apply_chat_template(conversation(one), add_generation_prompt=True, tokenize=False)
        + (f"{one.answer}<|im_end|>" if with_answers else "")
        for one in examples
    ]
    sounds = [soundfile.read(one.audio, dtype="float32")[0] for one in examples if one.audio]
    inputs = model.processor(text=texts, audio=sounds or None, sampling_rate=RATE_HZ, return_tensors="pt", padding=True)
    if sounds:
        assert inputs["input_features"].shape[-1] == 3000
    return dict(inputs)


def nll(logits: torch.Tensor, inputs, examples) -> torch.Tensor:
    """One row after the other, from logits of whole rows that are padded on the left."""
    values = []
    for index, example in enumerate(examples):
        number = len(f"{example.answer}".encode()) + 1
        values.append(
            nn.functional.cross_entropy(
                logits[index, -number - 1 : -1], inputs["input_ids"][index, -number:], reduction="sum"
            )
        )
    return torch.stack(values)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_logits_equal_those_of_the_plain_processor_and_model(model, plain, clips, kind):
    examples = batches(clips)[kind]
    inputs, batch = processed(model, examples, True), model.batch(examples)
    rows = zip(batch.input_ids, batch.attention_mask, inputs["input_ids"], inputs["attention_mask"], strict=True)
    for own, real, whole, in_whole in rows:
        assert [*batch.prefix, *own[real == 1].tolist()] == whole[in_whole == 1].tolist()
    if kind in ("speech", "mixed"):
        assert batch.features["input_features"].shape[-1] == 316  # 3.11 s and a margin, not thirty seconds
    theirs = plain(**inputs).logits
    given = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"]}
    ours = model.module(**given, **batch.features).logits
    real = inputs["attention_mask"] == 1
    assert float(theirs[real].abs().max()) > 1  # of a size that the tolerance means something for
    assert float((ours - theirs)[real].abs().max()) < TOLERANCE

    loss, counts = model.loss(batch)
    assert torch.allclose(loss, nll(theirs, inputs, examples), rtol=1e-5, atol=0)
    assert counts.tolist() == (batch.labels != IGNORE).sum(dim=1).tolist()


@pytest.mark.parametrize(("kind", "num_beams"), [("text", 1), ("speech", 1), ("mixed", 1), ("mixed", 3)])
def test_generated_text_is_that_of_plain_generate(model, plain, clips, kind, num_beams):
    examples = batches(clips)[kind]
    inputs = processed(model, examples, False)
    search = {"max_new_tokens": 10, "num_beams": num_beams, "do_sample": False}
    tokens = plain.generate(**inputs, **search, eos_token_id=1, pad_token_id=model.tokenizer.pad_token_id)
    texts = model.processor.batch_decode(tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    answers = model.generate(examples, 10, num_beams)
    assert answers == [text.strip() for text in texts]
    assert len(set(answers)) > 1


@torch.no_grad()
def test_short_clips_are_encoded_as_if_they_were_padded_to_thirty_seconds(model, plain, clips):
    """Encoder and connector alone, clip by clip, relative to the size of what comes out."""
    for name in LENGTHS_S:
        samples = soundfile.read(clips[name], dtype="float32")[0]
        short = model.family.features(model.processor.feature_extractor, [samples])
        full = model.processor(
            text="<|AUDIO|>", audio=[samples], sampling_rate=RATE_HZ, return_tensors="pt", padding=True
        )
        ours = model.family.hear(model.module, short)
        theirs = qwen2_audio.hear(plain, full)
        assert (
            len(ours) == len(theirs) == model.family.num_placeholders(model.processor.feature_extractor, len(samples))
        )
        assert float((ours - theirs).abs().max() / theirs.abs().max()) < 1e-5


def test_gradients_of_encoder_and_connector_equal_those_of_the_padded_class(model, plain, clips):
    examples = batches(clips)["mixed"]
    inputs = processed(model, examples, True)
    names = (
        "model.audio_tower.conv1.weight",
        "model.audio_tower.layers.0.fc1.weight",
        "model.multi_modal_projector.linear.weight",
    )
    ours, theirs = ({n: p for n, p in one.named_parameters() if n in names} for one in (model.module, plain))
    for parameter in (*ours.values(), *theirs.values()):
        parameter.requires_grad_(True)
    try:
        gradients = torch.autograd.grad(model.loss(model.batch(examples))[0].sum(), list(ours.values()))
        expected = torch.autograd.grad(nll(plain(**inputs).logits, inputs, examples).sum(), list(theirs.values()))
    finally:
        for parameter in (*ours.values(), *theirs.values()):
            parameter.requires_grad_(False)
    for gradient, other in zip(gradients, expected, strict=True):
        assert float((gradient - other).abs().max() / other.abs().max()) < 1e-4


def test_frozen_parts_hear_without_dropout_in_training(clips):
    model = qwen2_audio.make_tiny(3)
    model.module.model.audio_tower.dropout = 0.5
    for layer in model.module.model.audio_tower.layers:
        layer.dropout = 0.5
    rows = batches(clips)["speech"]
    calm = model.loss(model.batch(rows))[0]
    model.module.train()
    assert torch.equal(model.loss(model.batch(rows))[0], calm)
    model.module.train()
    model.module.model.audio_tower.requires_grad_(True)
    assert not torch.equal(model.loss(model.batch(rows))[0], calm)


def test_a_limit_cuts_and_counts_and_a_clip_that_is_too_short_is_named(clips, tmp_path):
    from lalm.backbones._native_load import tiny_native
    from lalm.errors import ConfigError, DataError

    model = tiny_native(qwen2_audio.FAMILY, qwen2_audio._tiny, 3, max_audio_s=1.0)
    assert model.counts == {"recordings_cut": 0}
    rows = batches(clips)["speech"]
    cut = model.loss(model.batch(rows))[0]
    model.generate(rows, 2)
    assert model.counts == {"recordings_cut": 3}
    samples = soundfile.read(clips["d"])[0][:RATE_HZ]
    soundfile.write(tmp_path / "cut.flac", samples, RATE_HZ)
    alone = model.loss(model.batch([Example("d", INSTRUCTION, rows[2].answer, audio=tmp_path / "cut.flac")]))[0]
    assert torch.allclose(alone, cut[2:3], rtol=1e-4, atol=0)
    with pytest.raises(ConfigError, match=r"max_audio_s: 31 s, and qwen2_audio takes at most 30 s"):
        tiny_native(qwen2_audio.FAMILY, qwen2_audio._tiny, 3, max_audio_s=31.0)
    soundfile.write(tmp_path / "click.flac", samples[:200], RATE_HZ)
    with pytest.raises(DataError, match=r"(?s)'click'.*200 samples at 16 kHz are too few"):
        model.batch([Example("click", INSTRUCTION, "{}", audio=tmp_path / "click.flac")])


def test_words_that_hold_the_audio_mark_are_refused(model):
    from lalm.errors import DataError

    with pytest.raises(DataError, match=r"(?s)'x'.*<\|AUDIO\|>"):
        model.batch([Example("x", INSTRUCTION, "{}", text="play <|AUDIO|> now")])


def test_recordings_of_another_rate_have_as_many_placeholders_as_samples_heard(model, clips, tmp_path):
    samples = soundfile.read(clips["b"])[0]
    soundfile.write(tmp_path / "r.wav", samples, 22_050)
    row = Example("r", INSTRUCTION, "{}", audio=tmp_path / "r.wav")
    placeholders, vectors = model.audio_positions([row])
    assert placeholders == vectors > 0
