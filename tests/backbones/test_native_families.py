"""Every family against its own class and processor as they are: losses and answers, one row at a time and as a batch."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import transformers
from torch import nn

from lalm import plugins
from lalm.records import Example

RATE_HZ = 16_000
INSTRUCTION = "Return one line of JSON."
NAMES = ("audio_flamingo3", "glm_asr", "qwen2_5_omni", "qwen3_asr", "voxtral")  # Qwen2-Audio has tests of its own
WINDOWS = ("audio_flamingo3", "glm_asr", "voxtral")  # take clips beyond thirty seconds, window by window


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def model(name):
    return plugins.load("backbones", name).make_tiny(2)


@pytest.fixture(scope="module")
def plain(model):
    """The class with the same weights; nothing of lalm has touched it."""
    config = copy.deepcopy(model.module.config)
    config._attn_implementation = "sdpa"  # of all parts
    other = getattr(transformers, model.family.model_class)(config)
    other.load_state_dict(model.module.state_dict())
    return other.eval()


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> dict[str, Path]:
    folder, rng = tmp_path_factory.mktemp("clips"), np.random.default_rng(5)
    lengths_s = {"short": 0.41, "middle": 1.303, "long": 3.11, "two_windows": 33.2}
    for name, seconds in lengths_s.items():
        noise = rng.standard_normal(int(seconds * RATE_HZ))
        soundfile.write(folder / f"{name}.flac", 0.1 * np.linspace(1.0, 0.05, len(noise)) * noise, RATE_HZ)
    return {name: folder / f"{name}.flac" for name in lengths_s}


def examples(clips, *names: str) -> list[Example]:
    spoken = [Example(name, INSTRUCTION, '{"a": "%s"}' % ("x" * len(name)), audio=clips[name]) for name in names]
    texts = ("turn on the light", "no")
    return [*spoken, *(Example(text, INSTRUCTION, '{"a": "%s"}' % ("y" * len(text)), text=text) for text in texts)]


def prompt(name: str, example: Example) -> str:
    """What the family's template makes of a row, written out by hand; a recording is one mark."""
    text = example.instruction if example.audio else f"{example.text}\n{example.instruction}"
    heard = example.audio is not None
    if name == "voxtral":
        return f"<s>[INST]{'[BEGIN_AUDIO][AUDIO]' if heard else ''}{text}[/INST]"
    if name == "glm_asr":
        sound = "<|begin_of_audio|><|pad|><|end_of_audio|>\n" if heard else ""
        return f"<|user|>\n{sound}{text}<|assistant|>\n"
    if name == "qwen3_asr":
        sound = "<|audio_start|><|audio_pad|><|audio_end|>" if heard else ""
        return f"<|im_start|>system\n{text}<|im_end|>\n<|im_start|>user\n{sound}<|im_end|>\n<|im_start|>assistant\n"
    sound = {"audio_flamingo3": "<sound>", "qwen2_5_omni": "<|audio_bos|><|AUDIO|><|audio_eos|>"}[name] if heard else ""
    system = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n" if name == "qwen2_5_omni" else ""
    return f"{system}<|im_start|>user\n{sound}{text}<|im_end|>\n<|im_start|>assistant\n"


def processed(name: str, model, example: Example, after: str = "") -> dict[str, torch.Tensor]:
    """What transformers makes of a row; where its processor needs packages that lalm does without, its steps by hand."""
    text, tokenizer, fe = prompt(name, example) + after, model.tokenizer, model.processor.feature_extractor
    if example.audio is None:
        return dict(tokenizer([text], return_tensors="pt", add_special_tokens=False))
    sound = soundfile.read(example.audio, dtype="float32")[0]
    if name not in ("voxtral", "qwen2_5_omni"):
        return dict(model.processor(text=[text], audio=[sound], return_tensors="pt"))
    if name == "voxtral":  # VoxtralProcessor.apply_chat_template, from where mistral-common has done its part
        whole = fe(
            sound,
            sampling_rate=RATE_HZ,
            padding=True,
            truncation=False,
            pad_to_multiple_of=480_000,
            return_tensors="pt",
        )
        values = whole["input_features"].reshape(128, -1, 3000).transpose(0, 1)
        mark, number, extra = "[AUDIO]", 375 * len(values), {"input_features": values}
    else:  # Qwen2_5OmniProcessor._process_audio
        whole = fe(
            [sound], sampling_rate=RATE_HZ, padding="max_length", return_attention_mask=True, return_tensors="pt"
        )
        mask = whole["attention_mask"]
        number = int((((mask.sum() - 1) // 2 + 1) - 2) // 2 + 1)
        mark, extra = "<|AUDIO|>", {"input_features": whole["input_features"], "feature_attention_mask": mask}
    return {**tokenizer([text.replace(mark, mark * number)], return_tensors="pt", add_special_tokens=False), **extra}


@torch.no_grad()
def plain_nll(name: str, model, plain, example: Example) -> torch.Tensor:
    end = "</s>" if name == "voxtral" else "<|im_end|>"
    inputs = processed(name, model, example, f"{example.answer}{end}")
    number = len(example.answer.encode()) + 1
    logits = plain(**inputs).logits[0, -number - 1 : -1]
    return nn.functional.cross_entropy(logits, inputs["input_ids"][0, -number:], reduction="sum")


@torch.no_grad()
def test_a_mixed_batch_has_the_losses_of_the_plain_class_row_by_row(name, model, plain, clips):
    rows = examples(clips, "middle", "short", "long")
    loss, _ = model.loss(model.batch(rows))
    expected = torch.stack([plain_nll(name, model, plain, row) for row in rows])
    assert torch.allclose(loss, expected, rtol=1e-5, atol=0), (loss, expected)


@torch.no_grad()
@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_mixed_batch_is_answered_as_the_plain_class_answers(name, model, plain, clips, num_beams):
    rows = examples(clips, "middle", "short")
    answers = model.generate(rows, 6, num_beams)
    for row, answer in zip(rows, answers, strict=True):
        inputs = processed(name, model, row)
        search = {"max_new_tokens": 6, "num_beams": num_beams, "do_sample": False}
        tokens = plain.generate(**inputs, **search, eos_token_id=model.tokenizer.eos_token_id, pad_token_id=0)
        text = model.tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        assert answer == text.strip()
    assert len(set(answers)) > 1


@pytest.mark.parametrize("name", WINDOWS, scope="module")
@torch.no_grad()
def test_clips_of_several_windows_have_the_loss_of_the_plain_class(name, model, plain, clips):
    rows = examples(clips, "two_windows", "short")
    loss, _ = model.loss(model.batch(rows))
    expected = torch.stack([plain_nll(name, model, plain, row) for row in rows])
    assert torch.allclose(loss, expected, rtol=1e-5, atol=0), (loss, expected)
    assert model.generate(rows[:2], 2, 2) == [model.generate([row], 2, 2)[0] for row in rows[:2]]  # windows and beams


def test_the_prompt_is_the_template_that_was_written_out(name, model, clips):
    for row in examples(clips, "short"):
        said = model.batch([row]).decoded_prompts(model.tokenizer)[0]
        marks = {"voxtral": "[AUDIO]", "glm_asr": "<|pad|>", "qwen3_asr": "<|audio_pad|>", "audio_flamingo3": "<sound>"}
        assert said == prompt(name, row).replace(marks.get(name, "<|AUDIO|>"), "[audio]")
