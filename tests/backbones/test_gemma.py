"""Gemma's layers with a window: rows that share their beginning are what `transformers` makes of each row alone."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from lalm.backbones import _stack, gemma
from lalm.backbones._decoding import SharedPrefixDecoder, decoder
from lalm.backbones._tiny_gemma import WINDOW
from lalm.records import Example

LONG = "Say what is wanted, in one line of JSON, and nothing else."  # longer than the window, in tokens of one byte
WORDS = "please turn on the light in the hall and then the radio in the kitchen"


def rows(instruction: str) -> list[Example]:
    return [
        Example(f"row-{length}", instruction, json.dumps({"intent": WORDS[: length // 2]}), text=WORDS[:length])
        for length in (5, 30, 68)
    ]


@pytest.fixture
def model():
    return gemma.make_tiny(0)


def whole(model, example: Example) -> tuple[list[int], list[int]]:
    """A row as tokens, made without the model's own rows: the prompt and the answer."""
    messages = [{"role": "system", "content": example.instruction}, {"role": "user", "content": example.text}]
    prompt = model.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = model.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    return ids, model.tokenizer(example.answer + "<eos>", add_special_tokens=False)["input_ids"]


def plain_nll(model, example: Example) -> float:
    prompt, answer = whole(model, example)
    logits = model.module.llm(input_ids=torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
    return float(nn.functional.cross_entropy(logits, torch.tensor(answer), reduction="sum"))


def test_the_layout_of_a_row_is_plain_text(model):
    (prompt,) = model.batch([Example("one", "Do it.", "Done", text="now")]).decoded_prompts(model.tokenizer)
    assert prompt == "<bos>Do it.\n\nnow\nAnswer:\n"


@pytest.mark.parametrize("instruction", ["Go.", LONG])
def test_a_shared_beginning_changes_nothing(model, instruction):
    examples = rows(instruction)
    batch = model.batch(examples)
    assert model.module.shares_beginnings
    assert len(batch.prefix) > (WINDOW if instruction == LONG else 0)
    assert len(whole(model, examples[-1])[0]) > 2 * WINDOW
    with torch.no_grad():
        ours = model.loss(batch)[0]
        plain = torch.tensor([plain_nll(model, example) for example in examples])
        assert torch.allclose(ours, plain, rtol=1e-5)
        # and the window matters: a model that sees everything says something else
        model.module.llm.config.sliding_window = 2048
        assert not torch.allclose(model.loss(batch)[0], plain, rtol=1e-3)


def test_what_frozen_layers_make_of_rows_is_kept_and_is_the_same(model):
    examples = rows(LONG)
    before = model.loss(model.batch(examples))[0]
    groups = model.groups()
    top = [name for name in groups["llm.mlp"] if ".layers.2." in name]
    for name in top:
        for parameter in model.module.get_submodule(name).parameters():
            parameter.requires_grad_(True)
    assert model.module.num_fixed_layers() == 2
    for _ in range(2):
        nll = model.loss(model.batch(examples))[0]
        assert torch.allclose(nll, before, rtol=1e-5)
    nll.sum().backward()
    assert all(p.grad.abs().sum() > 0 for n in top for p in model.module.get_submodule(n).parameters())


@pytest.mark.parametrize("instruction", ["Go.", LONG])
@pytest.mark.parametrize("num_beams", [1, 3])
def test_answers_are_those_of_transformers_row_by_row(model, instruction, num_beams):
    examples, number = rows(instruction), 40
    ours = model.generate(examples, number, num_beams=num_beams, min_new_tokens=number)
    for example, answer in zip(examples, ours, strict=True):
        prompt = torch.tensor([whole(model, example)[0]])
        ids = model.module.llm.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=number,
            min_new_tokens=number,
            num_beams=num_beams,
            do_sample=False,
        )[0, prompt.shape[1] :]
        assert answer == model.tokenizer.decode(ids, skip_special_tokens=True).strip()
    assert len(set(ours)) == len(ours)


def test_rows_that_begin_differently_are_read_with_windows_too(model):
    examples = rows(LONG)
    embeddings, mask, _ = model.module.embed(model.batch(examples).rows, with_answers=False)
    reading = decoder(model.module, [], 8)
    assert isinstance(reading, SharedPrefixDecoder)
    with torch.no_grad():
        states = reading.start(embeddings, mask)
        for state, row, real in zip(states, embeddings, mask, strict=True):
            alone = model.module.llm.model(inputs_embeds=row[real][None]).last_hidden_state[0, -1]
            assert torch.allclose(state, alone, atol=1e-4)


def test_plain_families_have_one_type_of_layer(model):
    from lalm.backbones import smol

    llama = smol.make_tiny(0).module.llm
    assert _stack.window(llama) is None
    assert _stack.types(llama) == ["full_attention"] * 2
    assert _stack.window(model.module.llm) == WINDOW
