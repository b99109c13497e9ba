"""A language model of this machine: one prompt among others is answered as it is alone, and what cannot be used is said."""

from __future__ import annotations

import pytest
import torch

from lalm.backbones._tiny import byte_tokenizer, tiny_llama
from lalm.errors import ModelError
from lalm.write.local_model import LocalModel

PROMPTS = ["a", "what is it that was said there?", "b b b", "who?"] * 5  # more than a batch, of different lengths


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(3)
    root = tmp_path_factory.mktemp("model")
    model, tokenizer = tiny_llama()
    model.save_pretrained(root)
    tokenizer.save_pretrained(root)
    (root / "README.md").write_text("---\nlicense: mit\n---\n")
    return root


def test_prompts_are_answered_as_each_is_alone_and_as_greedy_search_by_hand_does(folder, capsys):
    writer = LocalModel(str(folder))
    together = writer(PROMPTS, 8, "questions")
    assert capsys.readouterr().err.endswith("[questions] 20/20\n")
    assert together == [writer([prompt], 8)[0] for prompt in PROMPTS]
    assert len(set(together)) > 1

    model, tokenizer = writer._model, writer._tokenizer
    for prompt, said in zip(PROMPTS[:4], together, strict=False):
        text = f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        new: list[int] = []
        while len(new) < 8 and (not new or new[-1] != tokenizer.eos_token_id):
            with torch.inference_mode():
                new.append(int(model(torch.tensor([ids + new])).logits[0, -1].argmax()))
        assert said == tokenizer.decode(new, skip_special_tokens=True).strip()


def test_its_licence_is_that_of_its_card(folder):
    assert LocalModel(str(folder)).licence == "mit"


def test_a_model_that_follows_no_instructions_is_refused(tmp_path):
    model, _ = tiny_llama()
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = None
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no chat template, so it was not trained to follow instructions"):
        LocalModel(str(tmp_path))
    with pytest.raises(ModelError, match="there is no such folder, and this is no hub id"):
        LocalModel(str(tmp_path / "nowhere"))


def test_a_prompt_without_room_is_an_error(folder):
    writer = LocalModel(str(folder))
    with pytest.raises(ModelError, match=r"a prompt of \d+ tokens leaves no room; the model has 2048 positions"):
        writer(["a" * 2040], 8)
